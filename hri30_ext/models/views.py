"""One pass over all test-time views of a clip.

Shapes: N clips, V views of a clip, U of them different, T frames of a view, K classes.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.registry import MODEL_WRAPPERS

from ..errors import HRI30Error


@MODEL_WRAPPERS.register_module()
class TestTimeViews(torch.nn.Module):
    """Averages a recognizer's probabilities over views of a clip and their mirror images.

    Each different view goes through the network once, as a clip of its own, so that a 2D
    recognizer reads the frames of one view in order; its probabilities count as often as
    the view occurs. The views of all clips of a batch are computed together, at most
    ``max_views`` at a time: batches are full where clips have few different views, and the
    memory does not grow with the number of views.

    The result is the mean of the views' probabilities, as mmaction2 computes it with
    ``average_clips='prob'``.

    Args:
        module (nn.Module): A recognizer without wrapper.
        num_frames (int): T. Needed for 2D recognizers, whose inputs are (V * T, C, H, W);
            those of 3D recognizers are (V, C, T, H, W).
        max_views (int): Views that the network takes at a time, such as the batch size.
        mirrored_K (Sequence[int], optional): The class that a mirrored clip of each class
            shows, (K, ). If given, every view is also computed mirrored.

    Raises:
        HRI30Error: a head that does not average probabilities. In ``test_step``: inputs
            that cannot be divided into views.
    """

    __test__ = False  # the name is no pytest class

    def __init__(self, module: torch.nn.Module, num_frames: int, max_views: int,
                 mirrored_K: Sequence[int] | None = None) -> None:
        super().__init__()
        average = getattr(getattr(module, 'cls_head', None), 'average_clips', 'prob')
        if average != 'prob':
            raise HRI30Error(f'average_clips={average!r}: views are averaged as '
                             "probabilities.\nExpected average_clips='prob' in cls_head.")
        self.module = module
        self.rows = num_frames if isinstance(module, MODELS.get('Recognizer2D')) else 1
        self.max_views = max_views
        self.mirrored_K = None if mirrored_K is None else list(mirrored_K)

    def test_step(self, data: dict) -> list[ActionDataSample]:
        """Predicts the clips of a batch.

        Args:
            data (dict): ``inputs``, N uint8 tensors as described for ``num_frames``, and
                ``data_samples``, N.

        Returns:
            list[ActionDataSample]: With ``pred_score``, (K, ) float32, and ``pred_label``.
        """
        clips = [unique_views(clip, self.rows) for clip in data['inputs']]
        scores_NK = self._score(clips)
        if self.mirrored_K is not None:
            mirrored = [([view.flip(-1) for view in views], counts)
                        for views, counts in clips]
            scores_NK = (scores_NK + self._score(mirrored)[:, self.mirrored_K]) / 2
        return [sample.to(score_K.device).set_pred_score(score_K)
                .set_pred_label(score_K.argmax(-1, keepdim=True))
                for sample, score_K in zip(data['data_samples'], scores_NK, strict=True)]

    def _score(self, clips: Sequence[tuple[list[torch.Tensor], list[int]]]) -> torch.Tensor:
        """Computes the probabilities of clips of :func:`unique_views`, (N, K) float32."""
        scores = []
        for chunk in _chunks([view for views, _ in clips for view in views],
                             self.max_views):
            samples = self.module.test_step(dict(
                inputs=chunk, data_samples=[ActionDataSample() for _ in chunk]))
            scores += [sample.pred_score for sample in samples]
        means = []
        for scores_UK, (_, counts) in zip(torch.stack(scores).split(
                [len(views) for views, _ in clips]), clips, strict=True):
            weights_U = scores_UK.new_tensor(counts) / sum(counts)
            # No matrix product: autocast would compute it in bfloat16.
            means.append((weights_U[:, None] * scores_UK).sum(dim=0))
        return torch.stack(means)


def unique_views(clip: torch.Tensor, rows: int) -> tuple[list[torch.Tensor], list[int]]:
    """Finds the different views of a clip by their pixels.

    Args:
        clip (torch.Tensor): View by view, (V * rows, ...), on the CPU.
        rows (int): Length of a view along the first axis.

    Returns:
        tuple[list[torch.Tensor], list[int]]: The U different views, (rows, ...) each, in
        order of first occurrence, and how often each occurs.

    Raises:
        HRI30Error: the first axis is no multiple of ``rows``.
    """
    if not len(clip) or len(clip) % rows:
        raise HRI30Error(f'inputs of shape {tuple(clip.shape)}: expected views of {rows} '
                         'rows each, one after the other.\nIs num_clips a multiple of '
                         'test_clips in the test pipeline?')
    views = clip.split(rows)
    if len(views) == 1:
        return list(views), [1]
    pixels = [view.numpy().tobytes() for view in views]
    return list(dict(zip(pixels, views)).values()), list(Counter(pixels).values())


def _chunks(views: Sequence, most: int) -> Iterator[Sequence]:
    """Divides into as few parts of at most ``most`` as possible, of about equal length."""
    parts = -(-len(views) // most)
    for i in range(parts):
        yield views[i * len(views) // parts:(i + 1) * len(views) // parts]


def clips_at_once(batch_size: int, views: int) -> int:
    """Returns how many clips of several views, equal ones included, a loader reads at once.

    That is twice as many views as the network takes, ``batch_size``: some of them are
    equal, and the network's batches are still full.
    """
    return batch_size if views == 1 else max(1, 2 * batch_size // views)
