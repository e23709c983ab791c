"""Print the parameters of the models of configs, and the multiply-adds for one clip of the
test view, as mmengine counts them.
"""

from pathlib import Path

from hri30_ext import cli

parser = cli.Parser(__doc__, epilog='Runs on the CPU with random weights; nothing is '
                                    'downloaded.')
parser.add_argument('configs', nargs='+', metavar='CONFIG',
                    help='such as configs/slowonly/*.py')


def main(args) -> None:
    cli.choose_device('cpu')
    import hri30_ext.modules  # noqa: F401, I001  (first, as it mends what the others import)
    from mmengine.logging import MMLogger

    from hri30_ext.config import load_config
    from hri30_ext.models.complexity import measure_complexity

    # Some models log how each of their blocks is built.
    MMLogger.get_current_instance().setLevel('WARNING')
    print(f'{"parameters":>12} {"multiply-adds":>16}  {"input":22} config')
    for path in args.configs:
        found = measure_complexity(load_config(path))
        shape = ' x '.join(map(str, found.input_shape))
        print(f'{found.parameters:12,} {found.flops:16,}  {shape:22} {Path(path).stem}',
              flush=True)


if __name__ == '__main__':
    cli.run(main, parser)
