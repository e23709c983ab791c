"""Measure the accuracy of a checkpoint under noise, blur, low light, JPEG, frame drops,
other frame rates and a shaken camera.
"""

from hri30_ext import cli

parser = cli.Parser(__doc__)
cli.add_measured_arguments(parser, 'robustness')


def main(args) -> None:
    from hri30_ext.apis.degrading import measure_robustness
    from hri30_ext.evaluation.corruptions import format_robustness
    found = measure_robustness(args.config, args.checkpoint, args.split, args.out,
                               options=args.options)
    print(f'{found["data"]}: {found["clips"]} clips\n\n{format_robustness(found)}')


if __name__ == '__main__':
    cli.run(main, parser)
