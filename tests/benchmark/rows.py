"""Rows of the benchmark: registry, statistics, the JSON file and the table."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

#: Figures are compared with their goals as they are printed, with this many decimals.
DECIMALS = 2
#: All rows by name, in the order of the table.
ROWS: dict[str, 'Row'] = {}


@dataclass(frozen=True)
class Outcome:
    """The result of a row: a figure, the lowest and the highest repetition.

    The figure is None if nothing could be measured; ``note`` says why, or gives absolute
    figures. ``failed`` is for errors, not for what this machine cannot measure.
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
        measure (Callable): Takes a ``Setup``, returns an :class:`Outcome`.
        goal (float, optional): In ``unit``; None for a row without a goal.
        unit (str): Unit of the figures; ``'x'`` is cost of stock over cost of ours.
        at_most (bool): Whether the goal is an upper bound.
        default (bool): Whether the row runs without ``--rows`` or ``--all``.
    """

    name: str
    what: str
    measure: Callable
    goal: float | None = None
    unit: str = 'x'
    at_most: bool = False
    default: bool = True

    def met(self, outcome: Outcome) -> bool | None:
        """Returns whether the goal is met; None without a goal or a figure."""
        if self.goal is None or outcome.ratio is None:
            return None
        figure = round(outcome.ratio, DECIMALS)
        return figure <= self.goal if self.at_most else figure >= self.goal

    def as_json(self, outcome: Outcome) -> dict:
        """Returns the entry of the JSON file."""
        return dict(name=self.name, ratio=outcome.ratio, low=outcome.low, high=outcome.high,
                    goal=self.goal, unit=self.unit, note=outcome.note,
                    met=self.met(outcome))


def row(name: str, what: str, **options) -> Callable:
    """Returns a decorator that adds a row; ``options`` are those of :class:`Row`."""
    def add(measure: Callable) -> Callable:
        ROWS[name] = Row(name, what, measure, **options)
        return measure
    return add


def pair_ratios(stock: Iterable[float], ours: Iterable[float]) -> list[float]:
    """Divides costs pair by pair, so that neighbouring turns are compared.

    >>> pair_ratios([4.0, 9.0], [2.0, 3.0])
    [2.0, 3.0]
    """
    return [a / b for a, b in zip(stock, ours, strict=True)]


def summarize(figures: Sequence[float], note: str = '') -> Outcome:
    """Summarizes repetitions by median, lowest and highest.

    >>> summarize([5.0, 1.0, 2.0])
    Outcome(ratio=2.0, low=1.0, high=5.0, note='', failed=False)
    """
    return Outcome(statistics.median(figures), min(figures), max(figures), note)


def median_text(values: Iterable[float], unit: str = 's') -> str:
    """Formats the median with three digits: ``0.05 s``."""
    return f'{statistics.median_high(values):.3g} {unit}'


def format_table(outcomes: dict[str, Outcome]) -> str:
    """Formats outcomes by name of row for a terminal, with the notes below the table."""
    template = '{:<26}{:>12}{:>12}{:>12}{:>14}  {}'
    lines, notes = [template.format('row', 'figure', 'low', 'high', 'goal', '')], ['']
    for name, outcome in outcomes.items():
        each = ROWS[name]
        unit = 'x' if each.unit == 'x' else f' {each.unit}'
        cells = ['-' if value is None else f'{value:.{DECIMALS}f}{unit}'
                 for value in (outcome.ratio, outcome.low, outcome.high)]
        goal = '-' if each.goal is None else (
            f'{"<=" if each.at_most else ">="} {each.goal:g}{unit}')
        word = {True: 'met', False: 'MISSED', None: ''}[each.met(outcome)]
        lines.append(template.format(name, *cells, goal,
                                     'FAILED' if outcome.failed else word).rstrip())
        notes += [f'{name}: {outcome.note}'] if outcome.note else []
    return '\n'.join(lines + notes)
