"""Measure the accuracy of a checkpoint on degraded clips.

Clips get noise, blur, low light, JPEG, frame drops, other frame rates or a shaken camera.
"""

from .. import cli

parser = cli.Parser(__doc__)
cli.add_measured_arguments(parser, 'robustness')


def main(args) -> None:
    from ..apis.degrading import measure_robustness
    from ..evaluation.corruptions import format_robustness
    found = measure_robustness(args.config, args.checkpoint, args.split, args.out,
                               options=args.options)
    print(f'{found["data"]}: {found["clips"]} clips\n\n{format_robustness(found)}')
