"""Predicts clips with an exported model: ``python -m hri30_ext.deploy.run FOLDER CLIP...``.

Wants numpy, OpenCV, and ONNX Runtime or OpenVINO, and nothing else.

Shapes: V views of a clip, T frames of a view, H height, W width, C channels, K classes.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..apis.recognizer import Prediction, Recognizer
from ..errors import HRI30Error
from .runtime.video_io import read_clip


def best_classes(scores_K: np.ndarray, classes: Sequence[str],
                 count: int = 5) -> list[dict]:
    """Lists the classes with the highest scores, the best first.

    >>> best_classes(np.array([.25, .75]), ['Walking', 'Drilling'], count=1)
    [{'class': 'Drilling', 'score': 0.75}]
    """
    return [{'class': name, 'score': score}
            for name, score in Prediction(classes, scores_K).top(count)]


def predict_files(folder: str | Path, files: Sequence[str | Path],
                  threads: int | None = None) -> list[dict]:
    """Predicts video files with an exported model.

    Args:
        folder (str | Path): Of the model.
        files (Sequence[str | Path]): The clips.
        threads (int, optional): Of the CPU; None: one a core.

    Returns:
        list[dict]: For each clip ``file``, and ``top5``, classes with scores, or ``error``.

    Raises:
        HRI30Error: the folder is no exported model that runs here.
    """
    recognizer = Recognizer.load(folder, threads)
    results = []
    for file in files:
        try:
            views_VTHWC = read_clip(file, recognizer.info.preprocessing)
        except HRI30Error as error:
            results.append({'file': str(file), 'error': str(error)})
            continue
        found = next(recognizer.predict_views([views_VTHWC]))
        results.append({'file': str(file),
                        'top5': best_classes(found.scores, found.classes)})
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program.

    Returns:
        int: 0; 1 where a clip could not be predicted; 2 for another mistake of the user's.
    """
    parser = argparse.ArgumentParser(
        prog='python -m hri30_ext.deploy.run',
        description='Predict clips with an exported model; prints JSON.')
    parser.add_argument('folder', metavar='FOLDER',
                        help='an exported model, of tools/deploy/export.py')
    parser.add_argument('clips', metavar='CLIP', nargs='+', help='a video file')
    parser.add_argument('--threads', type=int, default=None, metavar='N',
                        help='of the CPU; default: one a core')
    args = parser.parse_args(arguments)
    if args.threads is not None and args.threads < 1:
        parser.error('--threads: expected 1 or more')
    try:
        results = predict_files(args.folder, args.clips, args.threads)
    except HRI30Error as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(json.dumps(results, indent=2, allow_nan=False))
    return 1 if any('error' in result for result in results) else 0


if __name__ == '__main__':
    sys.exit(main())
