"""Measure how early a checkpoint recognizes actions.

Prints the accuracy by the seen share of a clip, and the delay of a rule that decides,
chosen on the validation clips.
"""

from .. import cli

parser = cli.Parser(__doc__)
cli.add_measured_arguments(parser, 'early')


def main(args) -> None:
    from ..apis.degrading import measure_early
    from ..evaluation.early import format_early
    found = measure_early(args.config, args.checkpoint, args.split, args.out,
                          options=args.options)
    print(f'{found["data"]}: {found["clips"]} clips\n\n{format_early(found)}')
