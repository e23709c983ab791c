"""What is broken in the packages below, and what is changed about it.

Importing this module changes nothing. :func:`apply` makes all changes; importing
:mod:`hri30_ext.modules`, which configs name, calls it first. Each function mends one thing
and says why, and until when.

setup.cfg does not name mmengine's maintained fork ``onedl-mmengine``: where the safe way
refuses a checkpoint, the fork uses ``torch.load(weights_only=False)``, which runs code; and
mmcv-lite and mmaction2 require ``mmengine``, so that both would be in one folder.
"""

import functools
import sys
import types
import warnings

import cv2
import numpy as np
import torch
from torch.nn.modules.utils import _triple

from ..checkpoints import download, load_from_local
from ..errors import HRI30Error
from ..names import command
from ..utils.fileio import atomic_path
from .tin_shift import shift_by_fractions


def import_mmaction() -> None:
    """Imports all of mmaction, or fails with the reason.

    Why: the wheel of mmaction2 1.2.0 imports ``mmaction.models.localizers.drn`` and does
    not contain it (open-mmlab/mmaction2#2714); empty modules stand in for it. Its VindLU, a
    model of video and text, imports names that transformers 5 no longer has, so that
    placeholders are registered. And mmengine's registries import mmaction on the first
    look-up and only warn when that fails, so that training ran on half of the package.
    Until: mmaction2 has the folder and imports with current transformers, and mmengine
    raises an error when a scope cannot be imported.

    Raises:
        HRI30Error: a package that mmaction needs is missing or broken.
    """
    for name in ('drn', 'drn.drn'):
        module = types.ModuleType(f'mmaction.models.localizers.{name}')
        module.DRN = type('DRN', (), {'__doc__': 'Absent from the wheel of mmaction2.'})
        sys.modules.setdefault(module.__name__, module)
    try:
        from mmaction.utils import dependency, register_all_modules
        dependency.WITH_MULTIMODAL = False
        register_all_modules(init_default_scope=False)
    except (ImportError, AssertionError) as error:
        # mmaction asserts the versions of mmcv and mmengine that it can use.
        raise HRI30Error(
            f'mmaction2 cannot be imported: {error}\n'
            'Expected the versions that setup.cfg names; repair the environment '
            f'with: {command("setup.sh")}') from error


def load_only_weights() -> None:
    """Makes mmengine load every checkpoint through :mod:`hri30_ext.checkpoints`.

    Why: since torch 2.6 ``weights_only`` is on by default and refuses the HistoryBuffer
    that mmengine stores (open-mmlab/mmengine#1655), so that resuming and testing fail.
    mmengine's downloads use torch.hub, whose default is off. Resuming runs the config in a
    checkpoint (``meta['config']``), and so does inference without a config.
    Until: mmengine passes ``weights_only=True`` everywhere, reads its own files so, and
    runs no config from a checkpoint.
    """
    from mmengine.runner import checkpoint as mm_checkpoint

    def refuse(filename, map_location=None):
        raise HRI30Error(f'{filename}: weights are not loaded from there.\nCopy the file '
                         'here and name its path.')

    register = mm_checkpoint.CheckpointLoader.register_scheme
    register(prefixes='', loader=load_from_local, force=True)
    # Storage services: their clients are not installed, and what they do is not known.
    register(prefixes=['pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://'], loader=refuse,
             force=True)
    # Those of http://, torchvision://, open-mmlab:// and mmcls:// call it.
    mm_checkpoint.load_url = download
    mm_checkpoint.load_from_local = load_from_local


def save_checkpoints_whole() -> None:
    """Writes every checkpoint whole or not at all.

    Why: mmengine overwrites the file, so that a kill or a full disk leaves half of one,
    and holds a second copy of it in memory.
    Until: mmengine writes to a temporary file and renames it.
    """
    from mmengine import runner as mm_runner
    from mmengine.runner import checkpoint as mm_checkpoint
    from mmengine.runner import runner as mm_runner_module

    original = mm_checkpoint.save_checkpoint

    def save_checkpoint(checkpoint, filename, file_client_args=None, backend_args=None):
        if file_client_args or backend_args or '://' in str(filename):
            original(checkpoint, filename, file_client_args, backend_args)
        else:
            with atomic_path(filename, durable=True) as path, open(path, 'wb') as file:
                torch.save(checkpoint, file)

    for module in (mm_checkpoint, mm_runner, mm_runner_module):
        module.save_checkpoint = save_checkpoint


def score_on_the_device() -> None:
    """Lets mmaction's heads compute in float32, without waiting for the GPU in each step.

    Why: the heads convert scores to numpy arrays for top-k, which waits for the device, and
    numpy has no bfloat16 (``Got unsupported ScalarType BFloat16``). A softmax in bf16 also
    ties scores that differ in the third digit.
    Until: mmaction2 counts top-k in torch and casts scores before.
    """
    from mmaction.models.heads import BaseHead

    original = BaseHead.predict_by_feat

    def predict_by_feat(self, cls_scores, data_samples):
        if isinstance(cls_scores, torch.Tensor):
            cls_scores = cls_scores.float()
        return original(self, cls_scores, data_samples)

    def loss_by_feat(self, cls_scores, data_samples):
        scores_NK = cls_scores.float()
        labels = torch.stack([sample.gt_label for sample in data_samples]).to(
            scores_NK.device)  # (N, 1), or shares of classes, (N, K)
        losses = {}
        if labels.shape != scores_NK.shape:
            labels = labels.flatten()
            most = min(max(self.topk), scores_NK.shape[1])
            hits = scores_NK.detach().topk(most).indices == labels[:, None]
            for k in self.topk:
                losses[f'top{k}_acc'] = hits[:, :k].any(dim=1).double().mean()
        if self.label_smooth_eps:
            if labels.dim() == 1:
                labels = torch.nn.functional.one_hot(labels, self.num_classes)
            labels = ((1 - self.label_smooth_eps) * labels
                      + self.label_smooth_eps / self.num_classes)
        loss = self.loss_cls(scores_NK, labels)
        losses.update(loss if isinstance(loss, dict) else dict(loss_cls=loss))
        return losses

    BaseHead.loss_by_feat, BaseHead.predict_by_feat = loss_by_feat, predict_by_feat


def log_without_waiting() -> None:
    """Keeps logged scalars on the device until somebody reads them.

    Why: ``MessageHub`` converts each loss of each step to a number, and ``OptimWrapper``
    the norm of the gradient; the host then waits for the GPU several times a step. The
    numbers are the same.
    Until: mmengine converts scalars when it logs them.
    """
    from mmengine.logging import MessageHub
    from mmengine.optim import OptimWrapper

    update = MessageHub.update_scalar
    scalars, state = MessageHub.log_scalars.fget, MessageHub.state_dict

    def read(hub, *keys):
        pending = hub.__dict__.setdefault('_pending', {})
        for key in keys or list(pending):
            for arguments in pending.pop(key, ()):
                update(hub, key, *arguments)
        return hub

    def update_scalar(self, key, value, count=1, resumed=True):
        if torch.is_tensor(value):
            self.__dict__.setdefault('_pending', {}).setdefault(key, []).append(
                (value.detach(), count, resumed))
        else:
            update(read(self, key), key, value, count, resumed)

    def clip_grad(self):
        parameters = [parameter for group in self.optimizer.param_groups
                      for parameter in group['params'] if parameter.grad is not None]
        if parameters:
            norm = self.clip_func(parameters, **self.clip_grad_kwargs)
            if norm is not None:  # clip_grad_value_ returns none
                self.message_hub.update_scalar(f'train/{self.grad_name}', norm)

    MessageHub.update_scalar = update_scalar
    # Every step gets its time, which is a number, and leaves the others where they are.
    MessageHub.get_scalar = lambda self, key: read(self, key)._log_scalars[key]
    MessageHub.log_scalars = property(lambda self: scalars(read(self)))
    MessageHub.state_dict = lambda self: state(read(self))
    OptimWrapper._clip_grad = clip_grad


def accept_stacked_batches() -> None:
    """Lets mmaction's data preprocessor take a batch that is one tensor.

    Why: it stacks a list of clips on the device, after a copy of each. Here the loading
    process stacks them (:func:`hri30_ext.engine.loading.stack_clips`).
    Until: ``ActionDataPreprocessor`` takes tensors.
    """
    from mmaction.models.data_preprocessors import data_preprocessor

    original = data_preprocessor.stack_batch
    data_preprocessor.stack_batch = lambda inputs: (
        inputs if torch.is_tensor(inputs) else original(inputs))


def convolve_small_clips_in_float32() -> None:
    """Keeps bf16 training on the CPU from wrong weight gradients.

    Why: if a clip has fewer frames than a Conv3d's temporal kernel, but more than one, or
    is one pixel high or wide under a larger kernel with a stride, the CPU's bf16 kernel
    leaves part of the weight gradient as uninitialised memory: NaN, inf or noise that
    changes from run to run (seen with torch 2.13 and 2.15; float32 and the gradient of the
    input are right; no upstream report known). Convolutions of clips that are smaller than
    the kernel in any direction run in float32, harmless ones included.
    Until: the reproduction in tests/test_compat.py passes without this.
    """
    original = torch.nn.Conv3d._conv_forward

    def conv_forward(self, input, weight, bias):
        if (input.device.type == 'cpu' and torch.is_autocast_enabled('cpu')
                and any(size < kernel for size, kernel
                        in zip(input.shape[-3:], weight.shape[-3:], strict=True))):
            with torch.autocast('cpu', enabled=False):
                return original(self, input.float(), weight, bias)
        return original(self, input, weight, bias)

    torch.nn.Conv3d._conv_forward = conv_forward


def pool_single_frames_in_2d() -> None:
    """Lets models that pool frame by frame train reproducibly on CUDA.

    Why: on CUDA, the gradient of ``MaxPool3d`` adds in an order that changes from run to
    run, even if its window is one frame deep, as in SlowOnly. Pooling the frames as
    pictures gives the same numbers, in an order that does not change. Graphs that are
    exported, in evaluation mode, stay.
    Until: torch's MaxPool3d has a deterministic gradient on CUDA.
    """
    original = torch.nn.MaxPool3d.forward

    def forward(self, input):
        window = [_triple(value) for value in (
            self.kernel_size, self.stride, self.padding, self.dilation)]
        if (not self.training or self.return_indices or input.dim() != 5
                or [along_time for along_time, *_ in window] != [1, 1, 0, 1]):
            return original(self, input)
        # A view in either memory format, which the result has too.
        is_last = input.is_contiguous(memory_format=torch.channels_last_3d)
        frames = input.transpose(1, 2).flatten(0, 1) if is_last else input.flatten(1, 2)
        pooled = torch.nn.functional.max_pool2d(
            frames, *(value[1:] for value in window), ceil_mode=self.ceil_mode)
        if is_last:
            return pooled.unflatten(0, input.shape[:3:2]).transpose(1, 2)
        return pooled.unflatten(1, input.shape[1:3])

    torch.nn.MaxPool3d.forward = forward


def run_transforms_under_numpy_2() -> None:
    """Lets mmaction's transforms run under NumPy 2.

    Why: ``ColorJitter`` adds a negative number to uint8, which NumPy 2 refuses, and a
    positive one wraps at 256, not at 180. ``PoseCompact`` and ``MMCompact`` name
    ``np.Inf``, which NumPy 2 does not have. ``ImgAug`` stays broken: imgaug cannot be
    imported under NumPy 2 (aleju/imgaug#859).
    Until: mmaction2 computes hues in a wider type and names ``np.inf``.
    """
    from mmaction.datasets.transforms import ColorJitter, pose_transforms

    def adjust_hue(img, factor):
        hsv = cv2.cvtColor(np.clip(img, 0, 255).astype(np.uint8), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(int) + int(factor * 255)) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)

    ColorJitter.adjust_hue = staticmethod(adjust_hue)
    pose_transforms.np = types.ModuleType('numpy')
    vars(pose_transforms.np).update(vars(np), Inf=np.inf)


def provide_tin_shift() -> None:
    """Lets TIN run without mmcv's compiled operators.

    Why: mmaction2's ResNetTIN imports ``mmcv.ops.tin_shift`` on its first forward pass, and
    mmcv-lite has no operators. ``mmcv.ops`` stays absent: others look there for operators.
    Until: mmcv publishes wheels with its operators for this project's torch.
    """
    from mmaction.models.backbones import resnet_tin
    resnet_tin.linear_sampler = shift_by_fractions


def keep_windows_whole_numbers() -> None:
    """Lets Video Swin be exported.

    Why: sizes are tensors while a graph is traced, so that the mask of the windows is not
    found in its cache, and becomes operators with control flow.
    Until: mmaction2 computes the mask from whole numbers.
    """
    from mmaction.models.backbones import swin

    original = swin.get_window_size
    swin.get_window_size = lambda x_size, *sizes: original(list(map(int, x_size)), *sizes)


def resolve_settings_on_loading() -> None:
    """Makes a ``Config`` fill in this project's settings when it is created.

    Why: in mmengine's config inheritance a changed top-level variable, such as
    ``num_frames``, silently does not reach the pipelines of the base. Here they
    refer to it (``'${num_frames}'``, see :mod:`hri30_ext.config`); programs that read a
    config on their own, such as mmaction2's ``init_recognizer``, must get the values. A
    runner refuses a config whose settings were changed since.
    Until: mmengine has references that are resolved after inheritance.
    """
    from mmengine.config import Config
    from mmengine.runner import Runner

    from ..config import has_references, refuse_late_changes, resolve

    original, from_cfg = Config.__init__, Runner.from_cfg.__func__

    @functools.wraps(original)
    def initialize(self, cfg_dict=None, *args, **kwargs):
        source = cfg_dict if has_references(cfg_dict) else None
        original(self, cfg_dict if source is None else resolve(source), *args, **kwargs)
        if source is not None:
            object.__setattr__(self, '_source', source)  # for unresolved()

    def check_and_build(cls, cfg):
        refuse_late_changes(cfg)
        return from_cfg(cls, cfg)

    Config.__init__ = initialize
    Runner.from_cfg = classmethod(check_and_build)


def format_configs_once() -> None:
    """Keeps the formatted text of a config as long as the config stays the same.

    Why: mmengine has yapf format the config for every checkpoint that it saves, which takes
    a second each time: more than an epoch of a small training.
    Until: ``Config.pretty_text`` is cached or quick.
    """
    from mmengine.config import Config

    original = Config.pretty_text.fget
    last = ['', '']  # a config and its text

    def pretty_text(self):
        content = repr(self._cfg_dict)
        if content != last[0]:
            last[:] = content, original(self)
        return last[1]

    Config.pretty_text = property(pretty_text)


@functools.cache
def apply() -> None:
    """Makes all changes; another call changes nothing.

    Raises:
        HRI30Error: mmaction2 cannot be imported.
    """
    # mmengine and mmcv-lite warn at every start about what is chosen here.
    for message in ('pkg_resources is deprecated', 'Fail to import'):
        warnings.filterwarnings('ignore', message=message, category=UserWarning)
    import_mmaction()
    for change in (
            load_only_weights, save_checkpoints_whole, score_on_the_device,
            log_without_waiting, accept_stacked_batches, convolve_small_clips_in_float32,
            pool_single_frames_in_2d, run_transforms_under_numpy_2, provide_tin_shift,
            keep_windows_whole_numbers, resolve_settings_on_loading, format_configs_once):
        change()
