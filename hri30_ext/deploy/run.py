"""Predicts clips with an exported model: ``python -m hri30_ext.deploy.run FOLDER CLIP...``.

Needs numpy, av, msgspec, and ONNX Runtime or OpenVINO.
"""

import argparse
import json
import signal
import sys
from collections.abc import Sequence

from ..errors import HRI30Error
from .runtime.recognizer import ClipRecognizer


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program; returns 0, 3 if clips cannot be read, or 2 for another mistake."""
    parser = argparse.ArgumentParser(
        prog='python -m hri30_ext.deploy.run', allow_abbrev=False,
        description='Predict clips with an exported model; prints JSON.')
    parser.add_argument('folder', metavar='FOLDER',
                        help='an exported model, of hri30 export')
    parser.add_argument('clips', metavar='CLIP', nargs='+', help='a video file')
    parser.add_argument('--threads', type=int, metavar='N',
                        help='CPU threads; default: one a core')
    parser.add_argument('--provider', metavar='P',
                        help='of ONNX Runtime: cuda, coreml or directml')
    args = parser.parse_args(arguments)
    try:
        recognizer = ClipRecognizer.load(args.folder, args.threads, args.provider)
    except HRI30Error as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    results = []
    for file, prediction in recognizer.predict_files(args.clips):
        if isinstance(prediction, HRI30Error):
            results.append({'file': file, 'error': str(prediction)})
        else:
            top = [{'class': name, 'score': score} for name, score in prediction.top(5)]
            results.append({'file': file, 'top5': top, **prediction.judgement()})
    print(json.dumps(results, indent=2, allow_nan=False))
    return 3 if any('error' in result for result in results) else 0


if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    sys.exit(main())
