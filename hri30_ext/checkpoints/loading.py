"""Loading checkpoints of any origin, and downloading them."""

import http.client
import os
import pickle
import re
import threading
import urllib.parse
from pathlib import Path

import msgspec
import numpy as np
import torch
from safetensors import safe_open

from ..errors import HRI30Error, first_cases, ran_out_of_memory
from ..utils.text import printable
from .archive import check_checkpoint
from .essentials import META_KEY, Essentials, read_message_hub
from .unpickling import STAND_INS, HostileContent, RefusedContent, restore

#: Entries of ``meta`` that are programs. mmengine runs the first when it resumes and the
#: second when it infers without a config.
_PROGRAMS = ('config', 'cfg')
_HASHED_NAME = re.compile(r'-([0-9a-f]{8})\.[a-z]+$')
# torch's list of safe globals is one for the whole process.
_LOADING = threading.RLock()


def list_checkpoints(folder: Path) -> str:
    """Returns lines for a message that name the newest checkpoints of a folder, if any."""
    files = [path for path in folder.glob('*') if path.suffix in ('.pth', '.safetensors')
             and not path.name.startswith('.') and path.is_file()]
    files.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    return f'\nThis folder has:\n{first_cases(files, limit=8)}' if files else ''


def load_from_local(filename: str, map_location=None) -> dict:
    """Loads a checkpoint from a file, and never runs code from it.

    Args:
        filename (str): A ``.pth`` file in either format of torch, or ``.safetensors``.
        map_location: As in :func:`torch.load`; by default ``cpu``.

    Returns:
        dict: The checkpoint. Of a ``.safetensors`` file: ``state_dict``, and ``meta`` with
        what its header says. ``meta`` never has the text of a config.

    Raises:
        HRI30Error: there is no such file, it is no checkpoint, or it would run code.
    """
    filename = os.path.expanduser(filename)
    # A pipe would block, and a device may never end.
    if not os.path.isfile(filename):
        raise HRI30Error(
            f'{filename}: no such checkpoint.\nExpected the path of a .pth or .safetensors '
            'file, or a URL; for the weights to start from, set load_from=PATH (or '
            'load_from=None to start from scratch).'
            + list_checkpoints(Path(filename).parent))
    try:
        if filename.endswith('.safetensors'):
            checkpoint = _load_safetensors(filename, map_location or 'cpu')
        else:
            checkpoint = _load_pickled(filename, map_location or 'cpu')
    except Exception as error:  # torch raises many kinds for a bad file
        raise _explain(filename, error) from error
    if not isinstance(checkpoint, dict):
        raise HRI30Error(f'{filename}: holds a {type(checkpoint).__name__}.\nExpected a '
                         'checkpoint, a dict with a state_dict.')
    _clean_meta(checkpoint.get('meta'))
    if 'message_hub' in checkpoint:
        checkpoint['message_hub'] = read_message_hub(checkpoint['message_hub'])
    return checkpoint


def _load_pickled(filename: str, map_location):
    # One handle for both passes, so that no other file can take the place of the one that
    # was checked. weights_only is explicit: no environment variable changes it.
    with open(filename, 'rb') as file, _LOADING, (
            torch.serialization.safe_globals(STAND_INS)):
        check_checkpoint(file)
        return restore(torch.load(file, map_location, weights_only=True, mmap=False))


def _load_safetensors(filename: str, map_location) -> dict:
    is_device = isinstance(map_location, str | torch.device)
    with safe_open(filename, 'pt', str(map_location) if is_device else 'cpu') as file:
        record = (file.metadata() or {}).get(META_KEY)
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if record is None:
        return dict(state_dict=weights, meta={})
    essentials = msgspec.json.decode(record, type=Essentials)
    return dict(state_dict=weights, meta={
        'dataset_meta': {'classes': list(essentials.classes)},
        META_KEY: essentials.to_dict()})


def _clean_meta(meta) -> None:
    """Removes programs from ``meta``, and the content of a seed that is no integer."""
    if not isinstance(meta, dict):
        return
    for name in _PROGRAMS:
        meta.pop(name, None)
    # mmengine prints it as it is, and then fails to seed with it.
    if not isinstance(meta.get('seed'), int | np.integer | None):
        meta['seed'] = f'a {type(meta["seed"]).__name__}'


def read_essentials(filename: str | Path) -> Essentials:
    """Reads the record that this project writes into its checkpoints.

    Args:
        filename (str | Path): A ``.safetensors`` or ``.pth`` file.

    Raises:
        HRI30Error: the file cannot be read, or has no valid record.
    """
    meta = load_from_local(str(filename)).get('meta')
    if not isinstance(meta, dict) or (record := meta.get(META_KEY)) is None:
        raise HRI30Error(f'{filename}: does not say which model it is of.\nExpected a '
                         'checkpoint of this project; name its config as well.')
    try:
        return msgspec.convert(record, Essentials)
    except ValueError as error:
        raise _explain(str(filename), error) from error


def _explain(filename: str, error: Exception) -> HRI30Error:
    """Says in words why a checkpoint was not loaded."""
    text = printable(' '.join(str(error).split()))[:400]
    # torch names what it refuses: 'Unsupported global: GLOBAL os.system was not ...'
    unsafe = isinstance(error, pickle.UnpicklingError) and re.search(r'GLOBAL \S+', text)
    if unsafe or isinstance(error, HostileContent):
        return HRI30Error(
            f'{filename}: refused, since loading it would run code or build objects that '
            f'are not weights ({(unsafe[0] if unsafe else text)[:200]}).\n'
            'Expected tensors and plain data, as mmengine and torch.save write them. Do '
            'not load this file unless you know where it comes from.')
    if isinstance(error, RefusedContent):
        return HRI30Error(
            f'{filename}: refused, since it holds {text[:200]}, which this program does '
            'not read.\nExpected tensors and plain data, as mmengine and torch.save write '
            'them by default. Load it where it was made, and save its state_dict alone.')
    if isinstance(error, PermissionError) or ran_out_of_memory(error):
        return HRI30Error(
            f'{filename}: cannot be loaded ({type(error).__name__}: {text[:160]}).\n'
            'Expected the right to read it, and memory for it on the device.')
    size = os.path.getsize(filename) if os.path.isfile(filename) else 0
    return HRI30Error(
        f'{filename}: not a readable checkpoint ({size:,} bytes; {type(error).__name__}: '
        f'{text[:160]}).\nExpected a file as torch.save or safetensors writes it; this one '
        'is truncated or something else. Copy or download it again.')


def download(url: str, model_dir=None, map_location=None, progress: bool = True,
             **kwargs) -> dict:
    """Downloads a checkpoint once, and loads it from the cache.

    A name that ends with the first eight digits of the file's SHA-256, as OpenMMLab's and
    torchvision's do, is checked.

    Args:
        url (str): Where it is.
        model_dir (str, optional): Folder of the cache; by default torch.hub's.
        map_location: As in :func:`load_from_local`.
        progress (bool): Whether to draw a progress bar.
        kwargs: Ignored; mmengine passes what torch.hub takes.

    Raises:
        HRI30Error: the file cannot be downloaded or loaded, or is another one.
    """
    folder = Path(model_dir or Path(torch.hub.get_dir()) / 'checkpoints')
    target = folder / Path(urllib.parse.urlparse(url).path).name
    hashed = _HASHED_NAME.search(target.name)
    try:
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(target), hashed and hashed[1], progress)
    # URLError, timeouts and a full disk are OSErrors; RuntimeError: another hash.
    except (OSError, http.client.HTTPException, ValueError, RuntimeError) as error:
        raise HRI30Error(
            f'{url}: cannot be downloaded ({error}).\nWithout a network, get that file '
            f'elsewhere and put it at\n  {target}\nor name it with --cfg-options '
            'load_from=PATH; load_from=None starts without it.') from error
    return load_from_local(str(target), map_location)
