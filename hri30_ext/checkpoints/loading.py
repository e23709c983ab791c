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

from ..errors import HRI30Error, first_cases
from ..utils.text import printable
from .essentials import META_KEY, Essentials, read_message_hub
from .stand_ins import STAND_INS

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
            # weights_only is explicit: no environment variable changes it.
            with _LOADING, torch.serialization.safe_globals(STAND_INS):
                checkpoint = torch.load(filename, map_location or 'cpu', weights_only=True,
                                        mmap=False)
    except Exception as error:  # torch raises many kinds for a bad file
        raise _explain(filename, error) from error
    if not isinstance(checkpoint, dict):
        raise HRI30Error(f'{filename}: holds a {type(checkpoint).__name__}.\nExpected a '
                         'checkpoint, a dict with a state_dict.')
    # Not its own methods: the file may have replaced those of an OrderedDict.
    checkpoint = dict(dict.items(checkpoint))
    if isinstance(checkpoint.get('meta'), dict):
        checkpoint['meta'] = _clean_meta(checkpoint['meta'])
    if 'message_hub' in checkpoint:
        checkpoint['message_hub'] = read_message_hub(checkpoint['message_hub'])
    return checkpoint


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


def _clean_meta(meta: dict) -> dict:
    """Returns ``meta`` without programs, and without a seed that is no integer."""
    meta = {name: value for name, value in dict.items(meta) if name not in _PROGRAMS}
    # mmengine prints it as it is, and then fails to seed with it.
    if not isinstance(meta.get('seed'), int | np.integer | None):
        meta['seed'] = f'a {type(meta["seed"]).__name__}'
    return meta


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
    # torch's own text recommends weights_only=False; its cause has the reason alone.
    cause = error.__context__ if isinstance(error, pickle.UnpicklingError) else None
    text = printable(' '.join(str(cause or error).partition('. ')[0][:400].split()))[:160]
    # tar or TorchScript, or a refused global
    if 'weights_only' in text or (cause and 'operand' not in text):
        return HRI30Error(
            f'{filename}: refused ({text}).\nExpected tensors and plain data, as mmengine '
            'and torch.save write them. Anything else may run code and is not loaded: save '
            'the state_dict alone where the file was made.')
    return HRI30Error(
        f'{filename}: not a readable checkpoint ({type(error).__name__}: '
        f'{text}).\nExpected a file as torch.save or safetensors writes it, the '
        'right to read it, and memory for it on the device; if it is truncated or another '
        'file, copy or download it again.')


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
