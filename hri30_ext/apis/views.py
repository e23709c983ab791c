"""What several views of a clip gain at test time, and what they cost."""

from collections.abc import Sequence

from .. import modules  # noqa: F401  (first: it mends what the others import)
from ..errors import HRI30Error
from ..evaluation.writers import write_results
from ..transforms.flip import mirrored_labels
from ..utils.fileio import atomic_write_json, check_writable
from ..utils.text import format_table
from .lineage import compare_tested
from .testing import prepare, run_split


def compare_views(config: str, checkpoint: str, out: str, split: str = 'val',
                  clips: Sequence[int] = (1, 3, 10), options: dict | None = None
                  ) -> list[dict]:
    """Tests a checkpoint with each number of views, without and with a flip.

    Args:
        config, checkpoint, options: See :func:`.testing.test`.
        out (str): Gets ``views.json``, and a result folder ``<clips>[-flip]/<split>/``
            for each row.
        split (str): ``val``, or ``test`` if its labels are known.
        clips (Sequence[int]): Numbers of views. One view is always measured first.

    Returns:
        list[dict]: Rows of ``clips``, ``flip``, ``views``, ``top1`` and ``mean_class`` in
        [0, 1], ``seconds`` a clip, loading included, and ``cost``: seconds relative to
        one view. Without rows with a flip if a class has no mirror image.

    Raises:
        HRI30Error: a mistake of the user's, or clips without labels.
    """
    out = check_writable(out)
    cfg = prepare(config, checkpoint, options)
    compare_tested(cfg, split)
    _, alone = mirrored_labels(cfg.classes, cfg.get('mirror_pairs'))
    flips = [False] if alone else [False, True]
    rows: list[dict] = []
    for number in sorted({1, *clips}):
        for flip in flips:
            cfg = prepare(config, checkpoint,
                          {**(options or {}), 'test_clips': number, 'test_flip': flip})
            folder = out / f'{number}{"-flip" if flip else ""}' / split
            tested = run_split(cfg, split, folder / 'logs')
            metrics = write_results(folder, tested.results)
            if 'top1' not in metrics:
                raise HRI30Error(f'{cfg.data_root}: the labels of {split} are not known.\n'
                                 'Expected a labelled split; use --split val.')
            seconds = tested.seconds / metrics['num_videos']
            rows.append(dict(
                clips=number, flip=flip, views=number * (1 + flip), top1=metrics['top1'],
                mean_class=metrics['mean_class'], seconds=seconds,
                cost=seconds / (rows[0]['seconds'] if rows else seconds)))
    atomic_write_json(out / 'views.json', rows, indent=1)
    return rows


def format_views(rows: Sequence[dict]) -> str:
    """Formats the rows of :func:`compare_views` as a table."""
    return format_table([
        ['clips', 'flip', 'views', 'top-1', 'mean class', 'seconds a clip', 'relative'],
        *([str(row['clips']), 'yes' if row['flip'] else 'no', str(row['views']),
           f'{row["top1"]:.3f}', f'{row["mean_class"]:.3f}', f'{row["seconds"]:.3f}',
           f'{row["cost"]:.2f}'] for row in rows)])
