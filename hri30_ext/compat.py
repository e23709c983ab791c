"""Remedies for what is broken in the packages below, in one place.

Every function mends one thing, and says why, where it is reported and when it
can go. :func:`apply` runs them all; importing this module calls it, and every package
here that uses mmaction2 imports this module first.
"""

import contextlib
import functools
import http.client
import importlib
import importlib.abc
import importlib.machinery
import os
import pickle
import sys
import threading
import types
import urllib.parse
import warnings

import numpy as np
import torch

from .checkpoints import (
    DamagedContent,
    HostileContent,
    RefusedContent,
    scan_checkpoint,
)
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


def _serve_attribute(owner, name):
    """Stands in for ``getattr`` while a checkpoint is unpickled.

    mmengine pickles the statistics of HistoryBuffer as ``getattr(class, name)``, and so the
    curve of its OneCycleLR. The built-in would hand out any attribute of any object, and
    with it a way to run code; this serves these few only.
    """
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
    if (owner is HistoryBuffer and name in ('min', 'max', 'current', 'mean')
            or owner is OneCycleParamScheduler
            and name in ('_annealing_cos', '_annealing_linear')):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'a checkpoint may not look up {name!r} of {owner!r}')


def _globals_of_mmengine() -> list:
    """Lists what mmengine's checkpoints name besides tensors.

    Each of them can be misused by arguments that mmengine never writes, so they are
    allowed only for a file that :mod:`hri30_ext.checkpoints` has looked at.
    """
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler
    core = np.core if np.lib.NumpyVersion(np.__version__) < '2.0.0' else np._core
    reconstruct = core.multiarray._reconstruct
    scalar = core.multiarray.scalar
    dtypes = {type(np.dtype(f'{kind}{size}')) for kind, sizes in
              (('b', '1'), ('i', '1248'), ('u', '1248'), ('f', '248')) for size in sizes}
    return [
        HistoryBuffer, OneCycleParamScheduler,
        np.ndarray, np.dtype, *dtypes, reconstruct, scalar,
        # numpy 1 and 2 pickle the same functions under different module names.
        (reconstruct, 'numpy.core.multiarray._reconstruct'),
        (reconstruct, 'numpy._core.multiarray._reconstruct'),
        (scalar, 'numpy.core.multiarray.scalar'),
        (scalar, 'numpy._core.multiarray.scalar'),
        (bytes, 'builtins.bytes'),  # the content of an empty array
        (_serve_attribute, 'builtins.getattr'),
    ]


def _check_content(file) -> None:
    """Looks at a checkpoint before it is loaded, and at whether torch sees the same.

    Python and torch each have their own reader of archives, and a file may be made so that
    they find different records in it: then a harmless pickle would be looked at, and
    another loaded.

    Args:
        file (BinaryIO): The open file; it is left at its start.

    Raises:
        RefusedContent: see :func:`scan_checkpoint`; also where torch sees another content.
        DamagedContent: the same.
    """
    records = scan_checkpoint(file).records
    if not records:
        return
    try:
        reader = torch._C.PyTorchFileReader(file)
        same = sorted(reader.get_all_records()) == sorted(records) and all(
            reader.get_record_offset(name) == record.offset
            and reader.get_record_size(name) == record.size
            for name, record in records.items())
    except RuntimeError as error:
        raise DamagedContent(f'torch cannot read it: {error}') from error
    finally:
        file.seek(0)
    if not same:
        raise HostileContent('records that torch finds elsewhere')


_LOADING = threading.RLock()


def load_mmengine_checkpoints() -> None:
    """Lets ``torch.load`` read mmengine's own checkpoints, and no others more than before.

    Why: since torch 2.6 ``weights_only`` is on by default and refuses the
    HistoryBuffer that mmengine stores (open-mmlab/mmengine#1655): resuming and
    testing both die. What is needed for it is allowed for the one file that is loaded,
    after a look at all that the file holds. Any other file is loaded as torch does it,
    with the check that ``TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD`` would turn off.
    Until: mmengine stores its message hub as plain types.
    """
    original = torch.load
    if hasattr(original, 'unscanned'):
        return
    if os.environ.pop('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', None):
        warnings.warn('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is ignored: checkpoints are '
                      'always loaded as weights only', stacklevel=2)

    @functools.wraps(original)
    def load(f, map_location=None, pickle_module=None, *, weights_only=None, mmap=None,
             **kwargs):
        if weights_only is False or pickle_module is not None:
            return original(f, map_location, pickle_module, weights_only=weights_only,
                            mmap=mmap, **kwargs)
        if mmap is None:
            from torch.utils.serialization import config
            mmap = config.load.mmap
        with contextlib.ExitStack() as files:
            allowed = []
            # Mapped, a file is opened again, and might be another by then; and a stream
            # that does not stand at its start is not read from there.
            with contextlib.suppress(RefusedContent, DamagedContent, OSError,
                                     AttributeError):
                is_path = isinstance(f, str | os.PathLike)
                file = files.enter_context(open(f, 'rb')) if is_path and not mmap else f
                if not mmap and file.tell() == 0:
                    _check_content(file)
                    # What was looked at is what is loaded: the same handle.
                    f, allowed = file, _globals_of_mmengine()
            # One at a time: the list is one for all threads.
            with _LOADING, torch.serialization.safe_globals(allowed):
                return original(f, map_location, weights_only=True, mmap=mmap, **kwargs)

    load.unscanned = original
    torch.load = torch.serialization.load = load


#: Entries of ``meta`` that are programs: mmengine runs the one when it resumes, and the
#: other when it infers without a config.
_CODE = ('config', 'cfg')


def _why_unreadable(filename: str, error: Exception) -> HRI30Error:
    """Says in words why a checkpoint was not loaded."""
    text = str(error)
    # torch names what it refuses: 'Unsupported global: GLOBAL os.system was not ...'
    reason = next((line.strip() for line in text.splitlines()
                   if 'GLOBAL' in line or 'may not look up' in line), None)
    if isinstance(error, HostileContent):
        reason = text
    elif isinstance(error, RefusedContent):
        return HRI30Error(
            f'{filename}: refused, since it holds {text[:200]}, which this program does '
            'not read.\n'
            'Expected tensors and plain data, as mmengine and torch.save write them by '
            'default. Load it where it was made, and save its state_dict alone.')
    if isinstance(error, pickle.UnpicklingError | HostileContent) and reason:
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

    What the file holds is looked at before torch loads it, and the texts of programs in
    it (see :data:`_CODE`) are left out.

    Args:
        filename (str): Path of the ``.pth`` file.
        map_location (str, optional): As in :func:`torch.load`.

    Returns:
        dict: The checkpoint.

    Raises:
        HRI30Error: no such file, not a checkpoint, or one that would run code.
    """
    filename = os.path.expanduser(filename)
    # Not a pipe either, which would be waited for, nor a device.
    if not os.path.isfile(filename):
        raise HRI30Error(
            f'{filename}: no such checkpoint.\n'
            'Expected the path of a .pth file, or a URL; '
            'for the weights to start from, set load_from=PATH (or load_from=None '
            'to start from scratch).')
    try:
        # One handle, so that no other file can take the place of the one that was looked
        # at; and torch's own reader of archives has to find in it what was looked at.
        with open(filename, 'rb') as file:
            _check_content(file)
            with _LOADING, torch.serialization.safe_globals(_globals_of_mmengine()):
                checkpoint = torch.load.unscanned(file, map_location=map_location,
                                                  weights_only=True, mmap=False)
    except HRI30Error:
        raise
    except Exception as error:  # torch raises many kinds for a bad file
        raise _why_unreadable(filename, error) from error
    if not isinstance(checkpoint, dict):
        raise HRI30Error(f'{filename}: holds a {type(checkpoint).__name__}.\nExpected a '
                         'checkpoint, a dict with a state_dict.')
    if isinstance(checkpoint.get('meta'), dict):
        for name in _CODE:
            checkpoint['meta'].pop(name, None)
    return checkpoint


def load_only_weights() -> None:
    """Makes every path of mmengine that loads a checkpoint use :func:`load_from_local`.

    Why: mmengine's download path calls torch.hub, whose default is *False*; resuming runs
    the config that a checkpoint may carry (``meta['config']``), and so does inference
    without a config. Files and downloads get messages that say what to do.
    Until: mmengine passes ``weights_only=True`` itself, everywhere, and runs no config
    from a checkpoint.
    """
    from mmengine.runner import checkpoint as mm_checkpoint
    from torch.hub import download_url_to_file, get_dir

    def download(url, model_dir=None, map_location=None, progress=True, **kwargs):
        folder = model_dir or os.path.join(get_dir(), 'checkpoints')
        target = os.path.join(folder, os.path.basename(urllib.parse.urlparse(url).path))
        try:
            if not os.path.exists(target):
                os.makedirs(folder, exist_ok=True)
                download_url_to_file(url, target, progress=progress)
        # URLError, timeouts and a full disk are OSErrors.
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise HRI30Error(
                f'{url}: cannot be downloaded ({error}).\n'
                f'Without a network, get that file elsewhere and put it at\n'
                f'  {target}\n'
                'or name it with --cfg-options load_from=PATH; '
                'load_from=None starts without it.') from error
        return load_from_local(target, map_location)

    def refuse(filename, map_location=None):
        raise HRI30Error(f'{filename}: weights are not loaded from there.\nCopy the file '
                         'here and name its path.')

    mm_checkpoint.load_url = download
    mm_checkpoint.load_from_local = load_from_local
    register = mm_checkpoint.CheckpointLoader.register_scheme
    register(prefixes='', loader=load_from_local, force=True)
    # Storage services: their clients are not installed, and what they do is not known.
    register(prefixes=['pavi://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://'], loader=refuse,
             force=True)


def save_checkpoints_whole() -> None:
    """Has every checkpoint written whole or not at all.

    Why: mmengine writes over the file that was there, so that a kill or a full disk leaves
    half of one, and holds a second copy of it in memory meanwhile. Here it is written
    beside the old one, is on the disk, and then takes its name.
    Until: mmengine writes to a temporary file and renames it.
    """
    from mmengine import runner as mm_runner
    from mmengine.runner import checkpoint as mm_checkpoint
    from mmengine.runner import runner as mm_runner_module

    from .utils.fileio import atomic_path

    original = mm_checkpoint.save_checkpoint
    if hasattr(original, 'in_place'):
        return

    @functools.wraps(original)
    def save_checkpoint(checkpoint, filename, file_client_args=None, backend_args=None):
        if file_client_args or backend_args or '://' in str(filename):
            original(checkpoint, filename, file_client_args, backend_args)
            return
        with atomic_path(filename, durable=True, needed=_count_bytes(checkpoint)) as path, (
                open(path, 'wb')) as file:
            torch.save(checkpoint, file)

    save_checkpoint.in_place = original
    for module in (mm_checkpoint, mm_runner, mm_runner_module):
        module.save_checkpoint = save_checkpoint


def _count_bytes(value) -> int:
    """Counts the bytes of the tensors in a checkpoint."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_count_bytes, value.values()))
    return sum(map(_count_bytes, value)) if isinstance(value, list | tuple) else 0


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

    from .config import SettingsConfig, has_references

    def new(cls, cfg_dict=None, *args, **kwargs):
        # Within fromfile, whose custom_imports may have imported this module just now.
        has_settings = cls is Config and has_references(cfg_dict)
        return object.__new__(SettingsConfig if has_settings else cls)

    Config.__new__ = staticmethod(new)


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
    load_mmengine_checkpoints()
    load_only_weights()
    save_checkpoints_whole()
    score_in_float32()
    convolve_small_clips_in_float32()
    resolve_settings_on_loading()
    format_configs_once()


apply()
