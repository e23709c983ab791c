"""A student that learns from a teacher as well as from labels.

Shapes: N clips, R views of all training clips, T frames of a clip, K classes.
"""

import json
from collections.abc import Sequence

import torch
from mmaction.models.recognizers import Recognizer2D
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import nn
from torch.nn import functional

from ..hardware import unwrap
from ..utils.fileio import atomic_write_text
from ..utils.reading import read_json
from .features import FeatureCacheHook
from .tokens import CachedFeatures, CachedTokens, digest


class DistillHook(Hook):
    """Adds a teacher to the loss (Hinton et al. 2015, arXiv 1503.02531).

    ``loss = (1 - weight) * L + weight * temperature**2 * KL(teacher || student)``, where
    ``L`` is the loss of the labels, and both sides of the divergence are softmaxes of
    logits divided by the temperature.

    The teacher sees the clips that the student sees, mixed ones (``blending``) included:
    ``num_frames`` of the student's frames, each from the middle of an equal part of the
    clip (some twice while ``progressive_size`` gives fewer), resized and normalised as the
    teacher needs them. Views of cached features are scored once; beside cached tokens, the
    scores are kept on the disk.

    Label smoothing is part of ``L`` alone. Class weights weigh both parts of the loss of a
    clip, by its label. No state dict, optimizer or checkpoint has the teacher.

    Args:
        teacher (nn.Module): A recognizer; it stays in evaluation mode.
        order_K (Sequence[int]): For each class of the student, the teacher's index of it.
        num_frames (int): Frames that the teacher takes, at most as many as the student.
        input_size (tuple[int, int]): Width and height that the teacher takes in pixels.
        weight (float): Share of the teacher in the loss, in [0, 1].
        temperature (float): Above 0.
        name (str): Differs between teachers; for the scores on the disk.
    """

    # After the cache of features, which is of the config and registered first.
    priority = 'HIGH'

    def __init__(self, teacher: nn.Module, order_K: Sequence[int], num_frames: int,
                 input_size: Sequence[int], weight: float, temperature: float,
                 name: str) -> None:
        self.teacher, self.order_K = teacher.eval(), list(order_K)
        self.num_frames, self.input_size = num_frames, tuple(input_size)
        self.weight, self.temperature, self.name = weight, temperature, name
        self._logits_NK: torch.Tensor | None = None  # of the batch

    def before_train(self, runner) -> None:
        model = unwrap(runner.model)
        self.teacher.to(next(model.parameters()).device)
        model.register_forward_pre_hook(self._score_batch, with_kwargs=True)
        model.cls_head.loss_cls.register_forward_hook(self._add_divergence)

    def before_train_epoch(self, runner) -> None:
        dataset = runner.train_loop.dataloader.dataset
        if isinstance(dataset, CachedFeatures) and dataset.teacher_RK is None:
            dataset.teacher_RK = self._score_views(runner, dataset)

    # ---- Scores -------------------------------------------------------------------------

    @torch.no_grad()
    def score(self, clips: torch.Tensor, frames_first: bool) -> torch.Tensor:
        """Returns the teacher's logits, (N, K), in the student's order of classes.

        Clips have pixels in [0, 255], (N, T, 3, H, W) with the frames first and otherwise
        (N, 1, 3, T, H, W), on any device.
        """
        x_NTCHW = clips if frames_first else clips.flatten(0, 1).transpose(1, 2)
        middles_T = (2 * torch.arange(self.num_frames) + 1) * x_NTCHW.shape[1] // (
            2 * self.num_frames)
        x_NTCHW = x_NTCHW[:, middles_T].float()
        if x_NTCHW.shape[:2:-1] != self.input_size:
            x_NTCHW = functional.interpolate(
                x_NTCHW.flatten(0, 1), self.input_size[::-1], mode='bilinear',
                antialias=True).unflatten(0, (-1, self.num_frames))
        x = x_NTCHW if isinstance(self.teacher, Recognizer2D) else (
            x_NTCHW.transpose(1, 2).unsqueeze(1))
        data = self.teacher.data_preprocessor(dict(inputs=list(x), data_samples=[]))
        logits_NK, _ = self.teacher.extract_feat(data['inputs'], stage='head')
        return logits_NK[:, self.order_K].float()

    def _score_batch(self, model: nn.Module, args: tuple, kwargs: dict) -> None:
        """Runs before each call of the model, which gets normalised clips or features."""
        if kwargs.get('mode') != 'loss':
            return
        samples, preprocessor = kwargs['data_samples'], model.data_preprocessor
        if 'teacher' in samples[0]:
            self._logits_NK = torch.stack([sample.teacher for sample in samples])
            return
        pixels = (kwargs['inputs'] * getattr(preprocessor, 'std', 1)
                  + getattr(preprocessor, 'mean', 0))
        self._logits_NK = self.score(pixels, isinstance(model, Recognizer2D))

    def _score_views(self, runner, dataset) -> torch.Tensor:
        """Returns logits of all views, (R, K), from the disk if they are there."""
        file, seed = None, runner.seed
        if isinstance(dataset, CachedTokens):
            key = [dataset.key, self.name, self.num_frames, self.input_size, self.order_K]
            file, seed = dataset.path.with_name(f'teacher-{digest(key)}.json'), 0
            if file.is_file():
                return torch.tensor(read_json(file, "a teacher's scores; remove it",
                                              schema=list[list[float]]))
        frames_first = isinstance(unwrap(runner.model), Recognizer2D)
        cache = next(hook for hook in runner.hooks if isinstance(hook, FeatureCacheHook))
        with runner.optim_wrapper.optim_context(runner.model):
            scores_RK = torch.stack(cache.map_views(
                runner, *cache.training_views, True, seed, lambda batch: self.score(
                    torch.stack(tuple(batch['inputs'])), frames_first).cpu()))
        if file and is_main_process():
            atomic_write_text(file, json.dumps(scores_RK.tolist()))
        runner.logger.info(f'The teacher scored {len(scores_RK)} views once')
        return scores_RK

    # ---- Loss ---------------------------------------------------------------------------

    def _add_divergence(self, loss: nn.Module, args: tuple, own: torch.Tensor) -> dict:
        """Runs after the loss of the labels; the head logs both parts."""
        logits_NK, labels = args  # (N, ), or (N, K) where they are soft
        student_NK, teacher_NK = (
            (x.float() / self.temperature).log_softmax(1)
            for x in (logits_NK, self._logits_NK.to(logits_NK.device)))
        divergence_N = functional.kl_div(student_NK, teacher_NK, reduction='none',
                                         log_target=True).sum(1)
        weights_N, weights_K = divergence_N.new_ones(1), getattr(loss, 'class_weight', None)
        if weights_K is not None:  # no matrix product: autocast would round to bfloat16
            weights_K = weights_K.to(divergence_N)
            weights_N = (weights_K[labels] if labels.dim() == 1
                         else (labels * weights_K).sum(1))
        divergence = (weights_N * divergence_N).mean() / weights_N.mean()
        return dict(loss_cls=(1 - self.weight) * own,
                    loss_distill=self.weight * self.temperature ** 2 * divergence)
