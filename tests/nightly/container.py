"""Builds the Dockerfile where docker or podman is, and imports the package in it."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    builder = shutil.which('docker') or shutil.which('podman')
    if builder is None:
        print('skipped: neither docker nor podman is installed')
        return 0
    subprocess.run([builder, 'build', '-t', 'hri30-nightly', str(ROOT)], check=True)
    check = ('bash', 'tools/setup.sh', '--check')
    return subprocess.run([builder, 'run', '--rm', 'hri30-nightly', *check]).returncode


if __name__ == '__main__':
    sys.exit(main())
