"""Remedies for what is broken in the packages below, in one place.

Every function mends one thing, and says why, where it is reported and when it
can go. :func:`apply` runs them all; importing this module calls it, and every package
here that uses mmaction2 imports this module first.
"""

import functools
import importlib
import importlib.abc
import importlib.machinery
import os
import pickle
import sys
import types
import warnings

import numpy as np
import torch

from .errors import HRI30Error

_DRN = 'mmaction.models.localizers.drn'


class _DRNStandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Serves empty modules for the package that the mmaction2 wheel lacks."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname == _DRN or fullname.startswith(f'{_DRN}.'):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.DRN = type('DRN', (), {'__doc__': 'Absent from the mmaction2 wheel.'})
        return module

    def exec_module(self, module):
        """Nothing to run: the stand-in is empty."""


def provide_missing_drn() -> None:
    """Lets ``import mmaction.models`` work.

    Why: the mmaction2 1.2.0 wheel imports ``mmaction.models.localizers.drn``
    and does not ship it (open-mmlab/mmaction2#2714). Nothing here uses DRN.
    The finder is appended, so a wheel that ships the package wins.
    Until: a release of mmaction2 contains the folder.
    """
    if not any(isinstance(finder, _DRNStandIn) for finder in sys.meta_path):
        sys.meta_path.append(_DRNStandIn())


def import_mmaction() -> None:
    """Imports all of mmaction, or fails with the reason.

    Why: mmengine's registries import mmaction on the first look-up and only
    warn when that fails, so that training was seen to run on a partly imported
    package, for want of ``importlib_metadata`` for one. After this call every
    look-up finds the whole package already there.
    Until: mmengine raises when a scope cannot be imported.

    Raises:
        HRI30Error: a package that mmaction needs is missing or broken.
    """
    try:
        from mmaction.utils import register_all_modules
        register_all_modules(init_default_scope=False)
    except (ImportError, AssertionError) as error:
        # mmaction asserts the versions of mmcv and mmengine that it can use.
        raise HRI30Error(
            f'mmaction2 cannot be imported: {error}\n'
            'Expected the versions that setup.cfg names; repair the environment '
            'with: bash tools/setup.sh') from error


def _serve_history_statistic(owner, name):
    """Stands in for ``getattr`` while a checkpoint is unpickled.

    mmengine pickles the statistics of HistoryBuffer as ``getattr(class, name)``.
    The built-in would hand out any attribute of any object, and with it a way
    to run code; this serves the buffer's own statistics only.
    """
    from mmengine.logging import HistoryBuffer
    if owner is HistoryBuffer and name in HistoryBuffer().__class__._statistics_methods:
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'a checkpoint may not look up {name!r} of {owner!r}')


def allow_mmengine_checkpoints() -> None:
    """Lets ``torch.load(weights_only=True)`` read mmengine's own checkpoints.

    Why: since torch 2.6 ``weights_only`` is on by default and refuses the
    HistoryBuffer that mmengine stores (open-mmlab/mmengine#1655): resuming and
    testing both die. Allowed are that class, the reconstruction of numpy
    arrays and scalars, and numpy's dtypes; all are plain data.
    Until: mmengine stores its message hub as plain types.
    """
    from mmengine.logging import HistoryBuffer
    core = np.core if np.lib.NumpyVersion(np.__version__) < '2.0.0' else np._core
    reconstruct = core.multiarray._reconstruct
    scalar = core.multiarray.scalar
    dtypes = {type(np.dtype(name)) for name in
              ('bool', 'uint8', 'int32', 'int64', 'float16', 'float32', 'float64')}
    torch.serialization.add_safe_globals([
        HistoryBuffer, np.ndarray, np.dtype, *dtypes, reconstruct, scalar,
        # numpy 1 and 2 pickle the same functions under different module names.
        (reconstruct, 'numpy.core.multiarray._reconstruct'),
        (reconstruct, 'numpy._core.multiarray._reconstruct'),
        (scalar, 'numpy.core.multiarray.scalar'),
        (scalar, 'numpy._core.multiarray.scalar'),
        (_serve_history_statistic, 'builtins.getattr'),
    ])


def _why_unreadable(filename: str, error: Exception) -> HRI30Error:
    """Says in words why a checkpoint was not loaded."""
    text = str(error)
    # torch names what it refuses: 'Unsupported global: GLOBAL os.system was not ...'
    reason = next((line.strip() for line in text.splitlines()
                   if 'GLOBAL' in line or 'may not look up' in line), None)
    if isinstance(error, pickle.UnpicklingError) and reason:
        return HRI30Error(
            f'{filename}: refused, since loading it would run code or build '
            f'objects that are not weights ({reason[:200]}).\n'
            'Expected tensors and plain data, as mmengine and torch.save write '
            'them. Do not load this file unless you know where it comes from.')
    size = os.path.getsize(filename) if os.path.isfile(filename) else 0
    return HRI30Error(
        f'{filename}: not a readable checkpoint ({size:,} bytes; '
        f'{type(error).__name__}: {text.splitlines()[0][:160] if text else ""}).\n'
        'Expected a .pth file as torch.save writes it; this one is truncated or '
        'something else. Copy or download it again.')


def load_from_local(filename: str, map_location=None) -> dict:
    """Loads a checkpoint from a file, never running code from it.

    Args:
        filename (str): Path of the ``.pth`` file.
        map_location (str, optional): As in :func:`torch.load`.

    Returns:
        dict: The checkpoint.

    Raises:
        HRI30Error: no such file, not a checkpoint, or one that would run code.
    """
    filename = os.path.expanduser(filename)
    if not os.path.isfile(filename):
        raise HRI30Error(
            f'{filename}: no such checkpoint.\n'
            'Expected the path of a .pth file, or a URL; '
            'for the weights to start from, set load_from=PATH (or load_from=None '
            'to start from scratch).')
    try:
        return torch.load(filename, map_location=map_location, weights_only=True)
    except HRI30Error:
        raise
    except Exception as error:  # torch raises many kinds for a bad file
        raise _why_unreadable(filename, error) from error


def load_only_weights() -> None:
    """Makes every path that loads a checkpoint use ``weights_only=True``.

    Why: mmengine's download path calls torch.hub, whose default is *False*, and
    ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` turns the check off for the calls that
    rely on the default. Files and downloads get messages that say what to do.
    Until: mmengine passes ``weights_only=True`` itself, everywhere.
    """
    from mmengine.runner import checkpoint as mm_checkpoint
    from torch.hub import get_dir, load_state_dict_from_url

    if os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None):
        warnings.warn('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is ignored: checkpoints are '
                      'always loaded as weights only', stacklevel=2)

    def download(url, model_dir=None, map_location=None, progress=True, **kwargs):
        folder = model_dir or os.path.join(get_dir(), 'checkpoints')
        target = os.path.join(folder, os.path.basename(url.split('?')[0]))
        try:
            return load_state_dict_from_url(
                url, model_dir=model_dir, map_location=map_location,
                progress=progress, weights_only=True)
        except OSError as error:  # URLError, timeouts and a full disk are OSErrors
            raise HRI30Error(
                f'{url}: cannot be downloaded ({error}).\n'
                f'Without a network, get that file elsewhere and put it at\n'
                f'  {target}\n'
                'or name it with --cfg-options load_from=PATH; '
                'load_from=None starts without it.') from error
        except Exception as error:
            raise _why_unreadable(target, error) from error

    mm_checkpoint.load_url = download
    mm_checkpoint.load_from_local = load_from_local
    mm_checkpoint.CheckpointLoader.register_scheme(
        prefixes='', loader=load_from_local, force=True)


def score_in_float32() -> None:
    """Lets mmaction's heads be trained and tested under bf16 autocast.

    Why: the heads turn scores into numpy arrays for top-k, and numpy has no
    bfloat16 (``Got unsupported ScalarType BFloat16``); a softmax in bf16 also
    ties scores that differ in the third digit.
    Until: mmaction2 casts scores before it calls ``.numpy()``.
    """
    from mmaction.models.heads import BaseHead

    def in_float32(method):
        @functools.wraps(method)
        def wrapper(self, cls_scores, data_samples):
            if isinstance(cls_scores, torch.Tensor):
                cls_scores = cls_scores.float()
            return method(self, cls_scores, data_samples)
        wrapper.in_float32 = True
        return wrapper

    for name in ('loss_by_feat', 'predict_by_feat'):
        method = getattr(BaseHead, name)
        if not hasattr(method, 'in_float32'):
            setattr(BaseHead, name, in_float32(method))


def convolve_small_clips_in_float32() -> None:
    """Keeps bf16 training on the CPU from wrong weight gradients.

    Why: where a clip has fewer frames than a Conv3d's temporal kernel, but more
    than one, or is one pixel high or wide under a larger kernel with a stride, the
    CPU's bf16 kernel leaves part of the weight gradient as uninitialised memory:
    NaN, inf or noise that changes from run to run (seen with torch 2.13 and 2.15;
    float32 and the gradient of the input are right; no upstream report known).
    Convolutions of clips that are smaller than the kernel in any direction are
    computed in float32, the harmless ones among them as well.
    Until: the reproduction in tests/test_compat.py passes without this.
    """
    original = torch.nn.Conv3d._conv_forward
    if hasattr(original, 'small_clips_in_float32'):
        return

    @functools.wraps(original)
    def conv_forward(self, input, weight, bias):
        if (input.device.type == 'cpu' and torch.is_autocast_enabled('cpu')
                and any(size < kernel for size, kernel
                        in zip(input.shape[-3:], weight.shape[-3:], strict=True))):
            with torch.autocast('cpu', enabled=False):
                return original(self, input.float(), weight, bias)
        return original(self, input, weight, bias)

    conv_forward.small_clips_in_float32 = True
    torch.nn.Conv3d._conv_forward = conv_forward


def resolve_settings_on_loading() -> None:
    """Makes ``Config.fromfile`` fill in this project's settings.

    Why: in mmengine's config inheritance a changed top-level variable, such as
    ``num_frames``, silently does not reach the pipelines of the base. Here they
    refer to it (``'${num_frames}'``, see :mod:`hri30_ext.config`); programs that
    read a config on their own, such as mmaction2's ``init_recognizer``, must get
    the values. A config without such references is left as it is.
    Until: mmengine has references that are resolved after inheritance.
    """
    from mmengine.config import Config

    original = Config.fromfile
    if hasattr(original, 'unresolved'):
        return

    @functools.wraps(original)
    def fromfile(*args, **kwargs):
        # Here: it imports the datasets, which import this module first.
        from .config import resolve_settings
        return resolve_settings(original(*args, **kwargs))

    fromfile.unresolved = original
    Config.fromfile = staticmethod(fromfile)


def format_configs_once() -> None:
    """Keeps the formatted text of a config as long as the config stays the same.

    Why: mmengine has yapf format the config for every checkpoint that it saves, which
    takes a second each time: more than an epoch of a small training.
    Until: ``Config.pretty_text`` is cached or quick.
    """
    from mmengine.config import Config

    original = Config.pretty_text.fget
    if hasattr(original, 'formatted'):
        return

    @functools.wraps(original)
    def pretty_text(self):
        content = repr(self._cfg_dict)
        if content not in pretty_text.formatted:
            pretty_text.formatted = {content: original(self)}
        return pretty_text.formatted[content]

    pretty_text.formatted = {}
    Config.pretty_text = property(pretty_text)


def apply() -> None:
    """Applies every remedy; calling it again changes nothing."""
    # mmengine and mmcv-lite warn about what is by choice here, at every start.
    for message in ('pkg_resources is deprecated', 'Fail to import'):
        warnings.filterwarnings('ignore', message=message, category=UserWarning)
    provide_missing_drn()
    import_mmaction()
    allow_mmengine_checkpoints()
    load_only_weights()
    score_in_float32()
    convolve_small_clips_in_float32()
    resolve_settings_on_loading()
    format_configs_once()


apply()
