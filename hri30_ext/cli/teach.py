"""Teach a trained model one more class from a few clips.

A taught class can be removed again. The backbone stays; the validation accuracy of the old
classes is printed before and after.
"""

import shlex

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('model', metavar='MODEL', nargs='+',
                    help='a checkpoint of this project, or a config and its checkpoint')
action = parser.add_mutually_exclusive_group(required=True)
action.add_argument('--add', nargs='+', metavar=('NAME', 'CLIP'),
                    help='the class, and its clips: files, folders, patterns')
action.add_argument('--remove', metavar='NAME', help='a taught class')
parser.add_argument('--out', required=True, metavar='D',
                    help='a new folder; gets taught.pth and its config')
parser.add_argument('--force', action='store_true',
                    help='also if the old classes lose more than two points')
parser.add_argument('--device', metavar='cpu|cuda[:N]')
cli.add_options_argument(parser, 'such as data_root=PATH')


def main(args) -> None:
    if len(args.model) > 2:
        cli.fail('expected a checkpoint, or a config and its checkpoint.')
    from ..apis.teaching import forget, teach
    model = (forget(args.model, args.remove, args.out, args.options) if args.remove else
             teach(args.model, args.add[0], args.add[1:], args.out, args.force,
                   args.options))
    print(f'To test:     bash tools/test.sh {shlex.join(model)}\n'
          f'To predict:  bash tools/predict.sh {shlex.join(model)} CLIP...')
