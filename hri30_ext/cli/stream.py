"""Recognize actions in a live camera or in videos.

Events go to standard output, one JSON object a line and a summary last; everything else
goes to standard error. Needs no torch.

Exit status: 0 at the end of the stream and on Ctrl-C, 2 for a mistake, 3 if a camera
went away and did not come back. The events: hri30_ext/deploy/runtime/streaming.py.
"""

import json
import sys
import webbrowser

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('--model', required=True, metavar='MODEL',
                    help='an exported folder, or a checkpoint, which needs torch')
parser.add_argument('--source', required=True, metavar='0|FILE|URL|FOLDER',
                    help='camera, video, rtsp://..., or a folder of videos')
parser.add_argument('--realtime', action='store_true',
                    help='play files at their own pace, as a camera')
parser.add_argument('--loop', action='store_true', help='play files again and again')
parser.add_argument('--seconds', type=float, metavar='S',
                    help='end after these seconds of the stream')
out = parser.add_argument_group('output')
out.add_argument('--predictions', action='store_true',
                 help='a line for every prediction as well')
out.add_argument('--out', metavar='FILE.mp4', help='annotated video')
out.add_argument('--window', action='store_true',
                 help='show the stream in a browser on this machine; Stop ends')
out.add_argument('--timeline', metavar='FILE.csv',
                 help='a row for each action of the files: path, label, start, end, '
                      'confidence')
out.add_argument('--truth', metavar='TABLE',
                 help='score the timeline: path, label, start and end of the true actions; '
                      'the scores also go to FILE.json (needs the packages of training)')
how = parser.add_argument_group('recognition')
how.add_argument('--window-seconds', type=float, metavar='S',
                 help='length of the window; default: the median training clip')
how.add_argument('--hop', type=float, metavar='S',
                 help='seconds between predictions; default: about 1/6')
how.add_argument('--every', type=int, metavar='N',
                 help='instead: a prediction every N frames')
how.add_argument('--threshold', type=float, default=0.6, metavar='P', dest='enter',
                 help='smoothed score from which an action begins; default: %(default)s')
how.add_argument('--leave', type=float, metavar='P',
                 help='below which it ends; default: 2/3 of the threshold')
how.add_argument('--min-seconds', type=float, default=0.3, metavar='S',
                 help='how long a class must stay above the threshold before it starts; '
                      'default: %(default)s')
how.add_argument('--smooth-seconds', type=float, default=0.4, metavar='S',
                 help='time constant of the smoothing; 0: none; default: %(default)s')
how.add_argument('--retries', type=cli.at_least(0), default=8, metavar='N',
                 help='attempts to reopen a camera that went away; default: %(default)s')
cli.add_inference_arguments(how)


def open_window(recognizer, name: str, report):
    """Opens the page of the service that shows the stream."""
    from ..deploy.serve.server import import_server
    import_server()
    from ..deploy.serve.window import Window
    window = Window(recognizer, name)
    report(f'window: {window.url}')
    if not webbrowser.open(window.url):
        report('no browser could be opened here; the address works in one on this machine')
    return window


def main(args) -> None:
    if args.truth and (not args.timeline or args.loop or args.seconds):
        cli.fail('--truth: expected --timeline FILE.csv, and neither --loop nor --seconds.')
    from ..apis import Recognizer
    from ..deploy.runtime.live import Live, Timeline
    from ..deploy.runtime.video_io import VideoWriter, open_source

    def report(message: str) -> None:
        print(message, file=sys.stderr, flush=True)

    def emit(event: dict) -> None:
        # In one piece: the thread of the camera writes as well.
        print(json.dumps(event, ensure_ascii=False) + '\n', end='', flush=True)

    def notify(state: str, message: str) -> None:
        report(message)
        emit(dict(event='camera', state=state, message=message))

    recognizer = Recognizer.open(args.model, threads=args.threads,
                                 provider=args.provider)
    if args.truth:
        from ..apis.recordings import read_truth, score_timeline
        truth = read_truth(args.truth, args.source, recognizer.classes)
    stream = recognizer.stream(
        window_seconds=args.window_seconds, hop=args.hop, every=args.every,
        enter=args.enter, leave=args.enter * 2 / 3 if args.leave is None else args.leave,
        min_seconds=args.min_seconds, smooth_seconds=args.smooth_seconds,
        predictions=args.predictions)
    source = open_source(args.source, args.realtime, args.loop, retries=args.retries,
                         notify=notify)
    writer = VideoWriter(args.out, source.fps) if args.out else None
    window = open_window(recognizer, source.name, report) if args.window else None
    hop = f'{args.every} frames' if args.every else f'{stream.hop:.3f} s'
    report(f'{source.name}: {recognizer.info.format} {recognizer.info.precision}, window '
           f'{stream.window_seconds:.2f} s, a prediction every {hop}; Ctrl-C ends')
    timeline = Timeline(stream) if args.timeline else None
    try:
        summary = Live(stream, source, emit, args.seconds, writer,
                       window.show if window else None, timeline).run()
    finally:
        if window:
            window.close()
        if timeline and stream.frames:  # a mistake replaces no file
            timeline.write(args.timeline)
    if args.out:
        report(f'Video: {args.out}')
    if args.truth and summary['ended'] == 'end':
        report(score_timeline(args.timeline, timeline, truth, model=args.model,
                              source=args.source, table=args.truth))
