"""Measures this project against plain MMAction2.

    .venv/bin/python tests/benchmark/run.py --out benchmark.json
"""

import argparse
import datetime
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS.parent)]

# Every side imports this file again: nothing here may import torch.
from benchmark.rows import ROWS, Outcome, format_table  # noqa: E402
from hri30_ext.errors import HRI30Error  # noqa: E402
from hri30_ext.utils.fileio import atomic_write_text, check_writable  # noqa: E402


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser of the command line."""
    parser = argparse.ArgumentParser(
        description='Measures this project against plain MMAction2 on the same clips, both '
                    'in turns, and compares the ratios with their goals.',
        epilog='Leave the machine idle otherwise. The file is rewritten after every row. '
               'The scratch folder in TMPDIR takes 2 GB, or 10 GB with time_to_accuracy.')
    parser.add_argument('--out', metavar='FILE.json', help='file of the figures')
    parser.add_argument('--list', action='store_true', help='list the rows and exit')
    parser.add_argument('--rows', nargs='+', metavar='NAME',
                        help='rows to measure; default: all except the long ones')
    parser.add_argument('--all', action='store_true', help='measure the long rows too')
    parser.add_argument('--data', metavar='D',
                        help='data folder; default: clips of 720x480 are rendered')
    parser.add_argument('--checkpoint', metavar='FILE.pth',
                        help="checkpoint of the demo's model, for test_top1")
    parser.add_argument('--rounds', type=int, metavar='N',
                        help='pairs of turns; default: depends on the row')
    parser.add_argument('--limit', type=float, default=40, metavar='MINUTES',
                        help='limit of a training of time_to_accuracy; '
                             'default: %(default)s')
    parser.add_argument('--device', choices=('cpu', 'cuda'),
                        help='default: CUDA if available')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help="settings for this project's configs")
    return parser


def main() -> int:
    """Runs the command; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args()
    if not (args.list or args.out):
        parser.error('the following arguments are required: --out (or --list)')
    if args.rounds is not None and args.rounds < 1:
        parser.error(f'--rounds {args.rounds}: expected 1 or more')
    if args.device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    import hri30_ext.modules  # noqa: F401, I001  makes mmaction2 importable
    from benchmark import exported, reading, resources, testing, training  # noqa: F401
    from benchmark.setup import Setup
    from mmengine.device import get_device

    from hri30_ext.config import parse_options

    if args.list:
        for each in ROWS.values():
            note = '' if each.default else ' (not by default)'
            print(f'{each.name:<26}{each.what}{note}')
        return 0
    if unknown := set(args.rows or ()) - set(ROWS):
        parser.error(f'--rows {" ".join(sorted(unknown))}: no such row; expected some of '
                     f'{", ".join(ROWS)}')
    names = [each.name for each in ROWS.values() if (
        each.name in args.rows if args.rows else each.default or args.all)]
    try:
        with tempfile.TemporaryDirectory(prefix='hri30-benchmark-',
                                         ignore_cleanup_errors=True) as scratch:
            outcomes = measure(names, Setup(
                work_dir=scratch, data_root=args.data and str(Path(args.data).resolve()),
                options=parse_options(args.cfg_options), device=get_device(),
                rounds=args.rounds, limit=args.limit,
                checkpoint=args.checkpoint and str(Path(args.checkpoint).resolve())),
                args.out)
    except HRI30Error as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(f'{format_table(outcomes)}\n\nFigures: {args.out}')
    return int(any(outcome.failed for outcome in outcomes.values()))


def measure(names: Sequence[str], setup, out: str) -> dict[str, Outcome]:
    """Measures rows one after the other, and rewrites the file after each.

    A row that fails is noted, and the others are measured.

    Args:
        names (Sequence[str]): Of the rows.
        setup (Setup): What the rows share.
        out (str): The JSON file.

    Raises:
        HRI30Error: the file cannot be written.
    """
    from benchmark.setup import describe_machine, describe_versions
    check_writable(Path(out).expanduser().resolve().parent)
    about = dict(machine=describe_machine(setup.device), versions=describe_versions(),
                 date=datetime.datetime.now(datetime.timezone.utc).isoformat(
                     timespec='seconds'),
                 data=f'clips in {setup.data_root}' if setup.data_root else
                 'synthetic clips, 720x480, 30 fps, 30-60 frames, rendered for this run')
    outcomes: dict[str, Outcome] = {}
    for i, name in enumerate(names, 1):
        print(f'[{i}/{len(names)}] {name}: {ROWS[name].what}', file=sys.stderr, flush=True)
        try:
            outcomes[name] = ROWS[name].measure(setup)
        except Exception as error:
            traceback.print_exc()
            outcomes[name] = Outcome(None, note=f'failed: {error!r}', failed=True)
        entries = [ROWS[done].as_json(outcome) for done, outcome in outcomes.items()]
        atomic_write_text(out, json.dumps(dict(rows=entries, **about), indent=1,
                                          allow_nan=False) + '\n')
        print(format_table({name: outcomes[name]}) + '\n', file=sys.stderr, flush=True)
    return outcomes


if __name__ == '__main__':
    sys.exit(main())
