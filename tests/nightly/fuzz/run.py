"""Fuzzes a target: ``python tests/nightly/fuzz/run.py TARGET --seconds 600``.

With atheris, coverage guides the choice of inputs. Without it, and for videos, which FFmpeg
decodes, inputs are seeds with random damage. An input that
raises an unexpected exception is a fault: it is written to ``--found``, and the traceback
is printed.
"""

import argparse
import importlib.util
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parents[1]), str(_HERE.parents[2])]

TARGETS = ('names', 'annotation', 'documents', 'options', 'videos')


def seeds(target: str) -> list[tuple[bytes, str]]:
    """Returns inputs to begin with, and their endings."""
    if target == 'videos':
        from mutate import seed_videos
        with tempfile.TemporaryDirectory() as folder:
            return [(path.read_bytes(), path.suffix) for path in seed_videos(folder)]
    folder = _HERE / 'corpus' / target
    return [(path.read_bytes(), '') for path in sorted(folder.iterdir())]


def damage_seeds(target: str, module, seconds: float, seed: int, found: Path) -> int:
    """Runs a target on damaged seeds; returns how many faults it has."""
    from mutate import mutate
    start, count, faults = time.monotonic(), 0, 0
    inputs = seeds(target)
    while time.monotonic() < start + seconds:
        rng = random.Random(f'{seed}-{count}')
        data, suffix = rng.choice(inputs)
        data = mutate(data, rng)
        try:
            module.one_input(data, suffix) if suffix else module.one_input(data)
        except Exception:
            faults += 1
            traceback.print_exc()
            (found / f'{target}-{seed}-{count}{suffix}').write_bytes(data)
        count += 1
        if count % 1000 == 0:
            print(f'{count} inputs, {faults} faults, {time.monotonic() - start:.0f} s',
                  flush=True)
    print(f'{target}: {count} inputs in {time.monotonic() - start:.0f} s, {faults} faults')
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('target', choices=TARGETS)
    parser.add_argument('--seconds', type=int, default=600)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--found', type=Path, default=Path('fuzz'),
                        help='folder of the inputs that are faults, and of those that '
                             'reach new code (default: fuzz)')
    args = parser.parse_args()
    args.found.mkdir(parents=True, exist_ok=True)
    if args.target == 'videos' or not importlib.util.find_spec('atheris'):
        module = importlib.import_module(args.target)
        return min(1, damage_seeds(args.target, module, args.seconds, args.seed,
                                   args.found))
    import atheris
    packages = ['hri30_ext', 'mmengine.config']
    with atheris.instrument_imports(include=packages):
        module = importlib.import_module(args.target)
    corpus = args.found / f'{args.target}-corpus'
    corpus.mkdir(exist_ok=True)
    for number, (data, _) in enumerate(seeds(args.target)):
        (corpus / f'seed-{number:03}').write_bytes(data)
    atheris.Setup(['fuzz', str(corpus), f'-max_total_time={args.seconds}',
                   f'-seed={args.seed}', '-max_len=20000', '-timeout=20',
                   '-rss_limit_mb=4096', f'-artifact_prefix={args.found}/{args.target}-'],
                  module.one_input)
    atheris.Fuzz()  # ends the process
    return 0


if __name__ == '__main__':
    sys.exit(main())
