"""Print the parameters and multiply-adds of models.

Multiply-adds are those of one clip of the test view, as mmengine counts them.

Runs on the CPU with random weights; nothing is downloaded.
"""

from pathlib import Path

from .. import cli

parser = cli.Parser(__doc__)
parser.add_argument('configs', nargs='+', metavar='CONFIG',
                    help='such as configs/slowonly/*.py')


def main(args) -> None:
    cli.choose_device('cpu')
    from mmengine.logging import MMLogger

    from .. import modules  # noqa: F401  (first, as it mends what the others import)
    from ..config import load_config
    from ..models.complexity import measure_complexity

    # Some models log how each of their blocks is built.
    MMLogger.get_current_instance().setLevel('WARNING')
    print(f'{"parameters":>12} {"multiply-adds":>16}  {"input":22} config')
    for path in args.configs:
        found = measure_complexity(load_config(path))
        shape = ' x '.join(map(str, found.input_shape))
        print(f'{found.parameters:12,} {found.flops:16,}  {shape:22} {Path(path).stem}',
              flush=True)
