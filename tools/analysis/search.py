"""Search the settings with the best validation accuracy of the last epoch, with Optuna. A
repeated command goes on; machines that share the folder share the search.
"""

from hri30_ext import cli

parser = cli.Parser(__doc__)
parser.add_argument('config', metavar='CONFIG', help='a file in configs/')
parser.add_argument('--space', nargs='+', required=True, metavar='KEY=VALUES',
                    help='such as lr=1e-4:1e-2:log batch_size=8:32 decay=cosine,step')
parser.add_argument('--trials', type=int, default=30, metavar='N',
                    help='in all; default: %(default)s')
parser.add_argument('--out', required=True, metavar='D',
                    help='gets search.journal, search.png, best.py and the trials')
parser.add_argument('--seed', type=int, default=0, help='of the proposals')
cli.add_options_argument(parser, 'settings of all trials')


def main(args) -> None:
    from hri30_ext.apis.searching import search
    best = search(args.config, args.space, args.trials, args.out, args.cfg_options,
                  args.seed)
    print(f'\nBest: trial {best["trial"]}, validation top-1 {best["top1"]:.4f}, which is '
          f'too high: these clips chose it.\nConfig: {args.out}/best.py; picture: '
          f'{args.out}/search.png')


if __name__ == '__main__':
    cli.run(main, parser)
