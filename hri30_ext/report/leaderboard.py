"""Published results on HRI30, and which of them a result may stand beside."""

import yaml
from mmengine.config import Config

from ..config import PROJECT_ROOT
from ..datasets.paper import is_held_out_by_name, paper_names
from ..evaluation.results import Results
from ..names import HRI30_CLASSES

#: The published results; ``docs/leaderboard.md`` is made from them.
ROWS = PROJECT_ROOT / 'docs' / 'leaderboard.yml'


def read_rows() -> list[dict]:
    """Reads the published results."""
    return yaml.safe_load(ROWS.read_text(encoding='utf-8'))['rows']


def describe_place(results: Results, cfg: Config | None, subset: str
                   ) -> list[tuple[str, str]]:
    """Says which published results a labelled result may stand beside.

    Returns:
        list[tuple[str, str]]: A title and a text; empty for other classes than HRI30's.
    """
    if tuple(results.classes) != HRI30_CLASSES or cfg is None:
        return []
    split = cfg.get('split') or {}
    # The test folder is that of split 1.
    number = split.get('number', 1) if is_held_out_by_name(split) else 1
    clips = len(results.videos) + len(results.failed)
    expected = len(paper_names(number)['test'])
    reason = ('the data is synthetic' if 'synthetic data' in results.data else
              'validation clips are no published split' if subset != 'test' else
              f'{clips} clips, and split {number} of the paper has {expected:,}'
              if clips != expected else '')
    if reason:
        return [('May stand beside', f'no published figure: {reason}')]
    figures = {row['work']: [
        f'{top1:g}' for top1, of in zip(row['top1'], row['paper_splits']) if of == number]
        for row in read_rows() if row.get('paper_splits')}
    beside = [f'{work}: {", ".join(top1)}' for work, top1 in figures.items() if top1]
    return [('May stand beside', f'on split {number} of the paper: {"; ".join(beside)}')]
