"""Rows of the benchmark: statistics, the JSON file and the table."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import HRI30Error
from ..utils.fileio import atomic_write_text

#: A median may miss its goal by rounding alone: figures are compared as they are printed.
_DIGITS = 2


@dataclass(frozen=True)
class Outcome:
    """What a row came to.

    Args:
        ratio (float, optional): The figure, in the unit of its row; None where nothing
            could be measured.
        low (float, optional): The least of the repetitions.
        high (float, optional): The greatest.
        note (str): What was measured, with absolute figures; or why nothing was.
        failed (bool): Whether the row ended with an error. A row that cannot be measured
            on this machine, and says so, has not failed.
    """

    ratio: float | None
    low: float | None = None
    high: float | None = None
    note: str = ''
    failed: bool = False


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        name (str): As in ``--rows``.
        what (str): One line for ``--list``.
        measure (Callable): Takes a :class:`~hri30_ext.benchmark.setup.Setup`, returns an
            :class:`Outcome`.
        goal (float, optional): In ``unit``; None: the row is for information.
        unit (str): Of ratio, low, high and goal. ``'x'``: cost of stock over cost of ours.
        at_most (bool): Whether less is better, so that the goal is a ceiling.
        default (bool): Whether the row runs where none is named; the others are long, or
            need something.
    """

    name: str
    what: str
    measure: Callable
    goal: float | None = None
    unit: str = 'x'
    at_most: bool = False
    default: bool = True

    def met(self, outcome: Outcome) -> bool | None:
        """Whether the goal is met; None where there is no goal or no figure."""
        if self.goal is None or outcome.ratio is None:
            return None
        figure = round(outcome.ratio, _DIGITS)
        return figure <= self.goal if self.at_most else figure >= self.goal

    def as_json(self, outcome: Outcome) -> dict:
        """Returns the entry of the JSON file."""
        return dict(name=self.name, ratio=outcome.ratio, low=outcome.low,
                    high=outcome.high, goal=self.goal, unit=self.unit, note=outcome.note,
                    met=self.met(outcome))


def pair_ratios(stock: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Divides costs pair by pair: what ran one after the other is compared.

    Args:
        stock (Sequence[float]): Cost of each turn, such as seconds a clip.
        ours (Sequence[float]): Likewise, of as many turns.

    Returns:
        list[float]: How many times cheaper ours is, one number a pair.

    >>> pair_ratios([4.0, 9.0], [2.0, 3.0])
    [2.0, 3.0]
    """
    return [a / b for a, b in zip(stock, ours, strict=True)]


def summarize(figures: Sequence[float], note: str = '') -> Outcome:
    """Makes an outcome of repetitions: their median, least and greatest.

    >>> summarize([5.0, 1.0, 2.0])
    Outcome(ratio=2.0, low=1.0, high=5.0, note='', failed=False)
    """
    return Outcome(statistics.median(figures), min(figures), max(figures), note)


def choose_rows(rows: Sequence[Row], names: Sequence[str] | None,
                everything: bool = False) -> list[Row]:
    """Chooses rows by name, in the order of the table.

    Args:
        rows (Sequence[Row]): All there are.
        names (Sequence[str], optional): Those wanted; None: the default ones.
        everything (bool): Whether to take the long ones as well where none is named.

    Raises:
        HRI30Error: no such row.
    """
    if names is None:
        return [row for row in rows if row.default or everything]
    known = [row.name for row in rows]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise HRI30Error(f'--rows {" ".join(unknown)}: no such row.\n'
                         f'Expected some of: {", ".join(known)}.')
    return [row for row in rows if row.name in names]


def write_json(path: str | Path, about: dict, entries: Sequence[dict]) -> None:
    """Writes the file of a run, whole or not at all.

    Args:
        path (str | Path): The file.
        about (dict): ``machine``, ``versions``, ``date``, ``data`` and whatever else
            tells runs apart.
        entries (Sequence[dict]): Of the rows that are done.
    """
    content = json.dumps(dict(rows=list(entries), **about), indent=1, allow_nan=False)
    atomic_write_text(path, content + '\n')


def format_table(rows: Sequence[Row], outcomes: Sequence[Outcome]) -> str:
    """Formats rows for a terminal; the notes stand below the table."""
    table = [('row', 'figure', 'low', 'high', 'goal', '')]
    words = {True: 'met', False: 'MISSED', None: ''}
    for row, outcome in zip(rows, outcomes, strict=True):
        word = 'FAILED' if outcome.failed else words[row.met(outcome)]
        table.append((row.name, *(_figure(value, row.unit) for value in (
            outcome.ratio, outcome.low, outcome.high)), _goal(row), word))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ['  '.join(cell.ljust(width) if i == 0 else cell.rjust(width)
                       for i, (cell, width) in enumerate(zip(cells, widths, strict=True)))
             .rstrip() for cells in table]
    notes = [f'{row.name}: {outcome.note}' for row, outcome
             in zip(rows, outcomes, strict=True) if outcome.note]
    return '\n'.join(lines + [''] + notes)


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return '-'
    return f'{value:.{_DIGITS}f}' + (unit if unit == 'x' else f' {unit}')


def _goal(row: Row) -> str:
    if row.goal is None:
        return '-'
    return ('<= ' if row.at_most else '>= ') + f'{row.goal:g}' + (
        row.unit if row.unit == 'x' else f' {row.unit}')
