"""Views of a clip that are the same frames go through the network once.

Shapes: N clips, V views of a clip, U of them different, T frames of a view, K classes.
"""

import zlib
from collections.abc import Iterator, Sequence

import torch
from mmaction.structures import ActionDataSample

from ..errors import HRI30Error


def compute_views_once(model: torch.nn.Module, rows: int, max_views: int) -> None:
    """Makes ``test_step`` of a recognizer compute each different view of a clip once.

    Views are compared by their pixels, before they are normalised or moved to the device.
    Each that is new goes through the network as a clip of its own, so that a 2D recognizer
    reads the frames of one view in order; its probabilities count as often as the view
    occurs. The views of all clips of a batch are computed together, ``max_views`` at once
    at most: batches are full where clips have few different views, and the memory does not
    grow with the number of views.

    The result is the mean of the views' probabilities, as mmaction2 computes it with
    ``average_clips='prob'``.

    Args:
        model (torch.nn.Module): A recognizer, not wrapped; it is changed.
        rows (int): What ``inputs`` of a view has along its first axis: 1 for 3D recognizers
            (V, C, T, H, W), T for 2D ones (V * T, C, H, W).
        max_views (int): Views that the network takes at once, such as the batch size.

    Raises:
        HRI30Error: ``inputs`` cannot be divided into views, or a head that does not
            average probabilities.

    Example:
        >>> compute_views_once(unwrap(runner.model), rows=1, max_views=cfg.batch_size)
    """
    how = getattr(getattr(model, 'cls_head', None), 'average_clips', 'prob')
    if how != 'prob':
        raise HRI30Error(f'average_clips={how!r}: views are averaged as probabilities.\n'
                         "Expected average_clips='prob' in the config's cls_head.")
    plain_step = model.test_step

    def test_step(data: dict) -> list[ActionDataSample]:
        views, counts_N = [], []
        for clip in data['inputs']:
            different, counts_U = unique_views(clip, rows)
            views += different
            counts_N.append(counts_U)
        scores = []  # (K, ) for each different view of all clips
        for chunk in _chunks(views, max_views):
            samples = plain_step(dict(
                inputs=chunk, data_samples=[ActionDataSample() for _ in chunk]))
            scores += [sample.pred_score for sample in samples]
        lengths_N = list(map(len, counts_N))
        scores_NUK = torch.stack(scores).split(lengths_N)
        return [_average(*clip) for clip in zip(data['data_samples'], scores_NUK, counts_N,
                                                strict=True)]

    model.test_step = test_step


def unique_views(clip: torch.Tensor, rows: int) -> tuple[list[torch.Tensor], list[int]]:
    """Finds the different views of a clip.

    Args:
        clip (torch.Tensor): View by view, (V * rows, ...), on the CPU.
        rows (int): Of a view along the first axis.

    Returns:
        tuple[list[torch.Tensor], list[int]]: The U different views, (rows, ...) each, in
        the order in which they come, and how often each occurs.

    Raises:
        HRI30Error: the first axis is no multiple of ``rows``.
    """
    if not len(clip) or len(clip) % rows:
        raise HRI30Error(f'inputs of shape {tuple(clip.shape)}: expected views of {rows} '
                         'rows each, one after the other.\nIs num_clips a multiple of '
                         'test_clips in the test pipeline?')
    found: dict[int, list[int]] = {}  # by checksum: which of the views have it
    views: list[torch.Tensor] = []
    counts: list[int] = []
    for view in clip.contiguous().split(rows):
        same = found.setdefault(zlib.crc32(view.numpy()), [])
        # A checksum finds candidates; the pixels decide.
        known = next((i for i in same if torch.equal(views[i], view)), None)
        if known is None:
            same.append(len(views))
            views.append(view)
            counts.append(1)
        else:
            counts[known] += 1
    return views, counts


def _chunks(views: Sequence, most: int) -> Iterator[Sequence]:
    """Divides into as few parts of at most ``most`` as can be, of about equal length."""
    parts = -(-len(views) // most)
    for i in range(parts):
        yield views[i * len(views) // parts:(i + 1) * len(views) // parts]


def _average(sample: ActionDataSample, scores_UK: torch.Tensor,
             counts_U: Sequence[int]) -> ActionDataSample:
    """Returns a sample with the mean over all views, the repeated ones included."""
    weights_U = scores_UK.new_tensor(counts_U) / sum(counts_U)
    score_K = weights_U @ scores_UK
    sample = sample.to(score_K.device)
    return sample.set_pred_score(score_K).set_pred_label(score_K.argmax(-1, keepdim=True))


def clips_at_once(batch_size: int, views: int) -> int:
    """Says how many clips of several views a loader reads at once.

    Twice as many views as the network takes: some are the same, and its batches are still
    full.

    Args:
        batch_size (int): Views that the network takes at once.
        views (int): V, the same ones included.

    Returns:
        int: 1 or more; ``batch_size`` for single views.
    """
    return batch_size if views == 1 else max(1, 2 * batch_size // views)
