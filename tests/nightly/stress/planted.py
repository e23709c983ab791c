"""Plants faults in a synthetic data set and looks whether the doctor finds them.

    python tests/nightly/stress/planted.py --clips 2100 --faults 40 --out work_dirs/planted

The data set is examined clean first: a single warning is a false alarm. Then faults of all
kinds are planted in a copy. Each has to be found, with its kind and its path, and nothing
else; or this exits with 1. Crashes, hangs and memory that runs out are those of a decoder
that stands for one (tests/bad_decoder.py): no file is known that does it to today's FFmpeg.
"""

import argparse
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]

from faults import FAULTS, Garden  # noqa: E402

from hri30_ext import doctor  # noqa: E402
from hri30_ext.synthetic import write_dataset  # noqa: E402
from hri30_ext.utils.fileio import atomic_write_json  # noqa: E402

GROUPS, CLASSES = 10, 30
ALARMS = ('error', 'warning')
#: Faults that can be planted more than once: they need no certain clip.
REPEATED = ('empty', 'undecodable', 'truncated', 'corrupt', 'black', 'still',
            'missing_clip', 'malformed_name', 'zeros', 'green')


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__.split('\n\n')[0],
        epilog='Exits with 0 where all faults are found and nothing else is.')
    parser.add_argument('--clips', type=int, default=2100, metavar='N',
                        help='training clips, 600 or more by 300: 30 classes x 10 groups; '
                             'one group of test clips comes with them; default: 2100')
    parser.add_argument('--faults', type=int, default=40, metavar='N',
                        help=f'{len(FAULTS)} are all that are known, more are repeated; '
                             'default: 40')
    parser.add_argument('--out', required=True, type=Path, metavar='D')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    if args.clips < 600 or args.clips % 300:
        parser.error('--clips: expected a multiple of 300, 600 or more')
    return args


def plant(clean, root, count, seed):
    """Copies a data set and plants faults in it.

    Returns:
        list[tuple[str, list]]: Names of the faults, each with pairs of kind and path.
    """
    shutil.copytree(clean, root)
    rng = np.random.default_rng(seed)
    garden = Garden(root, rng)
    names = rng.permutation(list(FAULTS)).tolist()[:count]
    names += rng.choice(REPEATED, count - len(names)).tolist()
    return [(name, FAULTS[name](garden)) for name in names]


def report(planted, examined):
    """Prints what was found and missed; returns whether all is right."""
    expected = Counter(pair for _, pairs in planted for pair in pairs)
    found = Counter((finding.kind, finding.path) for finding in examined.findings)
    alarms = Counter((finding.kind, finding.path) for finding in examined.findings
                     if finding.severity in ALARMS)
    missed, false = expected - found, alarms - expected
    kinds = sorted({kind for kind, _ in [*expected, *false]}, key=list(doctor.KINDS).index)

    def count(pairs, kind):
        return sum(number for pair, number in pairs.items() if kind in (pair[0], 'all'))
    print(f'\n{"kind":24} {"planted":>8} {"found":>6} {"missed":>7} {"false":>6}')
    for kind in [*kinds, 'all']:
        print(f'{kind:24} {count(expected, kind):8} {count(expected & found, kind):6} '
              f'{count(missed, kind):7} {count(false, kind):6}')
    whole = sum(not any(pair in missed for pair in pairs) for _, pairs in planted)
    print(f'{whole} of {len(planted)} planted faults found, {len(kinds)} kinds, '
          f'{sum(false.values())} false alarms; '
          f'{len(examined.clips) / examined.seconds:.1f} clips/s')
    for name, pairs in planted:
        for kind, path in pairs:
            if (kind, path) in missed:
                print(f'missed: {name}: {kind} {path}')
    for finding in examined.findings:
        if (finding.kind, finding.path) in false:
            print(f'false alarm: {finding.kind} {finding.path}: {finding.detail}')
    return not missed and not false


def main():
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    clean = args.out / 'clean'
    write_dataset(clean, GROUPS, 1, args.clips // GROUPS // CLASSES, 'mpeg4')
    options = dict(seconds=20, decode='bad_decoder:inspect')
    before = doctor.examine(clean, **options)
    print(doctor.format_table(before))
    root = args.out / 'planted'
    if root.exists():
        shutil.rmtree(root)
    planted = plant(clean, root, args.faults, args.seed)
    examined = doctor.examine(root, **options)
    print(doctor.format_table(examined, cases=2))
    atomic_write_json(args.out / 'planted.json', doctor.to_json(examined), indent=1)
    right = report(planted, examined)
    print(f'clean: {len(before.clips)} clips, exit code {before.exit_code}, '
          f'{len(before.clips) / before.seconds:.1f} clips/s')
    sys.exit(0 if right and before.exit_code == 0 else 1)


if __name__ == '__main__':
    main()
