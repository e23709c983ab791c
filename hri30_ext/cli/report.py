"""Write report.html into a result folder again.

The page is one file that opens from disk. With the config and the checkpoint it shows the
protocol and where the model looked.
"""

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('folder', metavar='RESULT_FOLDER',
                    help='of tools/test.sh, such as work_dirs/RUN/val')
parser.add_argument('--config', metavar='C', help='the config that was tested')
parser.add_argument('--checkpoint', metavar='P', help='.pth or .safetensors')
parser.add_argument('--no-explain', dest='explain', action='store_false',
                    help='do not show where the model looked')
cli.add_runtime_arguments(parser)


def main(args) -> None:
    if args.cfg_options and not args.config:
        cli.fail('--cfg-options: there is no config to change; add --config C.')
    from ..apis import report
    path = report(args.folder, args.config, args.checkpoint, options=args.options,
                  explain=args.explain)
    print(f'Report: {path}')
