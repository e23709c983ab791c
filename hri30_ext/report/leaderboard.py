"""Published results on HRI30: the page, and which of them a result may stand beside."""

from pathlib import Path

import msgspec
import yaml
from mmengine.config import Config

from ..config import PROJECT_ROOT
from ..datasets.paper import is_held_out_by_name, paper_names
from ..evaluation.results import Results
from ..names import HRI30_CLASSES
from ..utils.reading import read_text

#: The rows; the page is made from them.
ROWS = PROJECT_ROOT / 'docs' / 'leaderboard.yml'
_INTRO = """\
# Published results on HRI30

`tests/test_report/test_leaderboard.py` makes this page from
[leaderboard.yml](leaderboard.yml).

Two figures may be compared only if data, split and protocol are the same. The paper's
splits hold out whole groups of recordings, and its split 1 tests on the same clips as the
hidden test set. Random splits of the training folder have near-copies on both sides and
read 10 to 20 points too high. Figures are per cent, and have more than one value where a
work has one for each split. This project has no figure on HRI30 yet.
"""
_COLUMNS = ('work', 'year', 'model', 'start', 'trainable parameters', 'data', 'split',
            'protocol', 'top-1', 'source', 'caveat')


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """A work; ``paper_splits`` has the number of the paper's split for each of ``top1``."""

    work: str
    model: str
    start: str
    data: str
    split: str
    protocol: str
    source: str
    caveat: str
    year: int | None = None
    parameters: str = 'not stated'
    top1: list[float] = []
    top5: list[float] = []
    paper_splits: list[int] = []

    def on(self, number: int) -> list[float]:
        """Returns its top-1 on one of the paper's splits, in per cent."""
        return [value for value, split in zip(self.top1, self.paper_splits, strict=False)
                if split == number]


def read_rows(path: str | Path = ROWS) -> list[Row]:
    """Reads the published results."""
    text = read_text(path, 'the published results')
    return msgspec.convert(yaml.safe_load(text), list[Row])


def format_page(rows: list[Row]) -> str:
    """Formats ``docs/leaderboard.md``."""
    table = [_COLUMNS, ['---'] * len(_COLUMNS)]
    table += [(row.work, str(row.year or 'not stated'), row.model, row.start,
               row.parameters, row.data, row.split, row.protocol,
               ', '.join(f'{value:g}' for value in row.top1) or 'no figure recorded',
               row.source, row.caveat) for row in rows]
    return _INTRO + '\n' + ''.join(f'| {" | ".join(line)} |\n' for line in table)


def describe_place(results: Results, cfg: Config | None, subset: str
                   ) -> list[tuple[str, str]]:
    """Says which published results a result may stand beside, and which not.

    Args:
        results (Results): With labels.
        cfg (Config, optional): Of the test.
        subset (str): ``val`` or ``test``.

    Returns:
        list[tuple[str, str]]: Titles and texts; empty for other classes than HRI30's.
    """
    if tuple(results.classes) != HRI30_CLASSES or cfg is None:
        return []
    split = cfg.get('split') or {}
    number = 1  # the test folder
    if is_held_out_by_name(split):
        number = split.get('number', 1)
    count = len(results.videos) + len(results.failed)
    expected = len(paper_names(number)['test'])
    if 'embedded data' in results.data:
        reason = 'the data is embedded'
    elif subset != 'test':
        reason = 'validation clips of this project are no published split'
    elif count != expected:
        reason = f'{count} clips, and split {number} of the paper has {expected:,}'
    else:
        rows = read_rows()
        beside = [f'{row.work}: {", ".join(f"{value:g}" for value in row.on(number))}'
                  for row in rows if row.on(number)]
        return [
            ('May stand beside', f'on split {number} of the paper: {"; ".join(beside)}'),
            ('May not stand beside', 'another split, or one that is not stated: '
             + '; '.join(row.work for row in rows if not row.on(number)))]
    return [('May stand beside', f'no published figure: {reason}')]
