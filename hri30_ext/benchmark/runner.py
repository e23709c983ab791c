"""Runs the rows that are asked for, and keeps the file up to date."""

import contextlib
import datetime
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..apis.common import EMBEDDED_MARK
from ..errors import HRI30Error
from ..utils.fileio import check_writable
from . import exported, pipelines, resources, testing, training
from .rows import Outcome, Row, format_table, write_json
from .setup import Setup, describe_machine, describe_versions

#: In the order of the table.
ROWS: list[Row] = [*pipelines.ROWS, *training.ROWS, *testing.ROWS, *resources.ROWS,
                   *exported.ROWS]


def run(rows: Sequence[Row], setup: Setup, out: str) -> list[Outcome]:
    """Measures rows one after the other, and writes the file after each.

    A row that fails is noted, and the others are measured.

    Args:
        rows (Sequence[Row]): What to measure.
        setup (Setup): What they share.
        out (str): The JSON file.

    Returns:
        list[Outcome]: One a row.

    Raises:
        HRI30Error: the file cannot be written.
    """
    check_writable(Path(out).expanduser().resolve().parent)
    about = dict(machine=describe_machine(setup.device), versions=describe_versions(),
                 date=datetime.datetime.now(datetime.timezone.utc).isoformat(
                     timespec='seconds'),
                 data=describe_clips(setup))
    outcomes: list[Outcome] = []
    for i, row in enumerate(rows, 1):
        print(f'[{i}/{len(rows)}] {row.name}: {row.what}', file=sys.stderr, flush=True)
        outcomes.append(_measure(row, setup))
        write_json(out, about, [done.as_json(outcome) for done, outcome
                                in zip(rows, outcomes, strict=False)])
        print(format_table([row], outcomes[-1:]) + '\n', file=sys.stderr, flush=True)
    return outcomes


def _measure(row: Row, setup: Setup) -> Outcome:
    try:
        return row.measure(setup)
    except HRI30Error as error:
        return Outcome(None, note=f'failed: {error}', failed=True)
    except Exception as error:
        traceback.print_exc()
        return Outcome(None, note=f'failed: {type(error).__name__}: {error}', failed=True)


def describe_clips(setup: Setup) -> str:
    """Says which clips are measured on."""
    if setup.data_root is None:
        return 'embedded clips, 720x480, 30 fps, 30-60 frames, rendered for this run'
    rendered = (Path(setup.data_root) / EMBEDDED_MARK).is_file()
    return f'{"embedded clips" if rendered else "clips"} in {setup.data_root}'


@contextlib.contextmanager
def scratch_folder(parent: str | None = None) -> Iterator[str]:
    """Yields a folder that is removed at the end.

    Args:
        parent (str, optional): Where to make it; None: where the system has its own.
    """
    with tempfile.TemporaryDirectory(prefix='hri30-benchmark-', dir=parent,
                                     ignore_cleanup_errors=True) as folder:
        yield folder
