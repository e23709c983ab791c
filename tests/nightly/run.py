"""What takes too long for tools/check.sh: fuzzing, stress, soak, benchmark, advisories,
and mmaction2's own tests, where MMACTION2_SOURCE names a clone of it.

    .venv/bin/python tests/nightly/run.py --out work_dirs/nightly
    .venv/bin/python tests/nightly/run.py --out D --parts kill fuzz-names \\
        --set kill='--kills 4 --jobs 1' --limit fuzz-names=2

Each part is a program with its own --help. ``--set`` replaces its arguments and ``--limit``
its time limit. The last lines of each part go to the screen and to ``nightly.json``.
Exit status 0: every part succeeded; 1: one failed; 2: wrong arguments.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FUZZ_TARGETS = ('names', 'annotation', 'documents', 'options', 'videos')
TAIL = 6  # lines of a part's output in the summary

#: By part: program, arguments ({out} is the folder of the part), limit in minutes.
PARTS = {
    'kill': ('stress/kill.py', '--kills 10 --jobs 2 --out {out}', 45),
    'mutated': ('stress/mutated.py', '--videos 2000 --out {out}', 60),
    'planted': ('stress/planted.py', '--clips 2100 --faults 40 --out {out}', 60),
    'hosts': ('stress/two_hosts.py', '--folder {out}', 20),
    'service': ('stress/service.py', '--clients 8 --seconds 60 --out {out}', 15),
    **{f'fuzz-{target}': ('fuzz/run.py', f'{target} --seconds 600 --found {{out}}', 15)
       for target in FUZZ_TARGETS},
    # --strict: a package that the index has no advisories for is no pass.
    'advisories': ('-m', 'pip_audit --strict --no-deps --disable-pip -r requirements.lock',
                   10),
    # With a clone of mmaction2 in MMACTION2_SOURCE.
    'upstream': ('upstream.py', '--out {out}', 30),
    'notebook': ('-m', 'jupyter execute --timeout=900 docs/your_data.ipynb', 30),
    'exports': ('exports.py', '--out {out} --kinds onnx-fp32 --rounds 0', 120),
    'benchmark-tests': ('-m', 'pytest -q -p no:cacheprovider tests/benchmark', 20),
    'benchmark': ('../benchmark/run.py', '--out {out}/benchmark.json', 120),
}
DEFAULT = [part for part in PARTS if part != 'upstream' or 'MMACTION2_SOURCE' in os.environ]


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, metavar='D', help='folder of logs and results')
    parser.add_argument('--list', action='store_true', help='list the parts and exit')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=DEFAULT,
                        metavar='PART', help='parts to run; default: all that can')
    for option, example in (('--set', "kill='--kills 4'"), ('--limit', 'kill=10')):
        parser.add_argument(option, nargs='+', default=[], metavar='PART=VALUE',
                            help=f'for example {example}')
    return parser


def by_part(parser: argparse.ArgumentParser, pairs: list[str]) -> dict[str, str]:
    """Splits ``PART=VALUE``; exits with a message on an unknown part."""
    values = dict(pair.partition('=')[::2] for pair in pairs)
    for part in values.keys() - PARTS:
        parser.error(f'{part}: no such part; expected one of {", ".join(PARTS)}')
    return values


def run_part(part: str, arguments: str, minutes: float, folder: Path) -> dict:
    """Runs a part with a time limit; returns the entry for ``nightly.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    program = PARTS[part][0]
    words = shlex.split(arguments.format(out=shlex.quote(str(folder / 'out'))))
    if program != '-m':
        program = str((HERE / program).resolve())
    command = [sys.executable, program, *words]
    log, started = folder / 'log.txt', time.monotonic()
    with open(log, 'w', encoding='utf-8') as file:
        process = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file,
                                   stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            status = process.wait(60 * minutes)
        except subprocess.TimeoutExpired:
            status = f'stopped after {minutes:g} minutes'
        finally:  # also what a failed part left behind
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    lines = log.read_text(encoding='utf-8', errors='replace').splitlines()
    return dict(part=part, command=shlex.join(['python', *command[1:]]), status=status,
                minutes=round((time.monotonic() - started) / 60, 1), output=lines[-TAIL:])


def main() -> int:
    """Runs the command; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args()
    if args.list:
        for part, (program, arguments, minutes) in PARTS.items():
            print(f'{part:<18}{minutes:>4} min  {program} {arguments}')
        return 0
    if args.out is None:
        parser.error('the following arguments are required: --out (or --list)')
    arguments, limits = by_part(parser, args.set), by_part(parser, args.limit)
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    commit = subprocess.run(['git', 'describe', '--always', '--dirty'], cwd=ROOT,
                            capture_output=True, text=True).stdout.strip()
    about = dict(commit=commit, cores=os.cpu_count(), system=platform.platform(),
                 python=platform.python_version(), date=datetime.datetime.now(
                     datetime.timezone.utc).isoformat(timespec='seconds'))
    entries = []
    for part in args.parts:
        print(f'== {part}', flush=True)
        entry = run_part(part, arguments.get(part, PARTS[part][1]),
                         float(limits.get(part, PARTS[part][2])), out / part)
        entries.append(entry)
        print('\n'.join(entry['output']), f'\n{part}: status {entry["status"]}, '
              f'{entry["minutes"]} min\n', flush=True)
        (out / 'nightly.json').write_text(
            json.dumps(dict(about, parts=entries), indent=1) + '\n', encoding='utf-8')
    failed = [entry['part'] for entry in entries if entry['status'] != 0]
    print(f'{len(entries) - len(failed)} of {len(entries)} parts succeeded'
          + (f'; failed: {", ".join(failed)}' if failed else ''))
    return int(bool(failed))


if __name__ == '__main__':
    sys.exit(main())
