"""Write a config for your own clips.

Looks at the folder, prints what is in it, checks every clip, and writes
configs/custom/NAME.py and a contact sheet beside it.

docs/your_data.md lists the layouts. Nothing is written if the data cannot be read as
they are.
"""

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('root', metavar='ROOT', help='the folder of the clips')
parser.add_argument('--name', required=True, metavar='NAME', help='such as mydata')
parser.add_argument('--base', metavar='CONFIG', help='the config to start from; default: '
                    'SlowOnly R50 with a GPU, else a probe on a frozen EfficientNet-Lite0')
parser.add_argument('--annotation', metavar='FILE', help='folders, or a table or list, '
                    'relative to ROOT; default: found')
parser.add_argument('--classes', metavar='FILE', help='class names, one a line, in the '
                    'order of the ids; default: from the data, sorted')
parser.add_argument('--group-pattern', metavar='REGEX', help='such as '
                    "'(?P<group>s\\d+)_', searched in the path of a clip")
parser.add_argument('--columns', nargs='+', metavar='NAME', help='names of the columns of '
                    'the table, in order: path, label, group, split, start, end')
parser.add_argument('--overwrite', action='store_true', help='replace the config')


def main(args) -> None:
    from ..apis.new_dataset import new_dataset
    new_dataset(**vars(args))
