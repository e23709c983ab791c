"""What this project writes into its checkpoints: plain data, which needs no allow-list.

The essentials, which model the weights are of and what it takes; mmengine's history of
scalars as tensors; and the weights alone as ``.safetensors``.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors.torch import save

from ..utils.fileio import atomic_path

#: Where the record is, in ``meta`` of a ``.pth`` file and in a ``.safetensors`` header.
META_KEY = 'hri30'

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_Size = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
_Digests = list[Annotated[str, msgspec.Meta(pattern='^[0-9a-f]{16}$')]]


class TrainedOn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The clips that weights depend on, by digests of their content.

    Digests are those of :func:`~hri30_ext.datasets.digests.digest_clips`, sorted.

    Attributes:
        groups (list[int]): Groups of recordings of the training clips, ascending.
        train (list[str]): Digests of the training clips, and of those of all models that
            this one was fine-tuned from.
        val (list[str]): Digests of the clips that chose the best checkpoint.
    """

    groups: list[int]
    train: _Digests
    val: _Digests


class Essentials(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model that weights are of, and what it takes.

    Attributes:
        algorithm (str): Name of the config, such as
            ``slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb``.
        classes (list[str]): In the order of the class ids.
        num_frames (int): Frames of a clip.
        input_size (list[int]): Width and height of a frame in pixels.
        decode_size (int): Short side in pixels that frames are decoded to.
        sampling (str): Type of the transform that chooses frames; ``UniformSample`` for
            ``sampling='mmaction2'``, which computes the same; ``Linspace`` for
            ``sampling='linspace'``.
        frame_interval (int): Of that transform; 0 if frames cover the whole clip.
        input_format (str): Layout of the input, ``NCTHW`` or ``NCHW``.
        mean (list[float]): Subtracted from each channel, RGB in [0, 255].
        std (list[float]): Divides each channel.
        data (str): Name of the folder with the data that it was trained on.
        trained_on (TrainedOn, optional): The clips; of a training that saved it.
    """

    algorithm: Annotated[str, msgspec.Meta(pattern=r'^[\w.-]{1,200}$')]
    classes: Annotated[list[_Name], msgspec.Meta(min_length=1, max_length=100_000)]
    num_frames: _Size
    input_size: Annotated[list[_Size], msgspec.Meta(min_length=2, max_length=2)]
    decode_size: _Size
    sampling: _Name
    frame_interval: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0
    input_format: _Name
    mean: list[float] = []
    std: list[float] = []
    data: Annotated[str, msgspec.Meta(max_length=200)] = ''
    trained_on: TrainedOn | None = None

    @classmethod
    def from_config(cls, cfg) -> 'Essentials | None':
        """Reads them from a resolved config; None if it has not this project's settings."""
        sampling = next((step for step in cfg.get('test_pipeline') or []
                         if 'Sample' in step['type'] or 'Views' in step['type']), None)
        preprocessor = cfg.model.get('data_preprocessor') or {}
        try:
            return msgspec.convert(dict(
                algorithm=re.sub(r'[^\w.-]', '_', Path(cfg.filename or '').stem)[:200],
                classes=list(cfg.classes), num_frames=cfg.num_frames,
                input_size=list(cfg.input_size), decode_size=cfg.decode_size,
                sampling={'mmaction2': 'UniformSample', 'linspace': 'Linspace'}.get(
                    sampling.get('sampling'), sampling['type']),
                frame_interval=sampling.get('frame_interval', 0),
                input_format=cfg.input_format, mean=list(preprocessor.get('mean') or []),
                std=list(preprocessor.get('std') or []),
                data=Path(cfg.data_root).name), cls)
        except (AttributeError, KeyError, TypeError, msgspec.ValidationError):
            return None

    def to_dict(self) -> dict:
        """Returns plain data."""
        return msgspec.to_builtins(self)


def save_safetensors(weights: Mapping[str, torch.Tensor], path: str | Path,
                     essentials: Essentials | dict | None) -> None:
    """Writes weights alone, whole or not at all.

    Args:
        weights (Mapping[str, torch.Tensor]): A state dict. Tensors that share memory are
            written separately.
        path (str | Path): The ``.safetensors`` file.
        essentials (Essentials | dict, optional): For the header.
    """
    header = {'format': 'pt'}
    if essentials is not None:
        header[META_KEY] = msgspec.json.encode(essentials).decode()
    copies = {name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
              for name, tensor in weights.items()}
    with atomic_path(path, durable=True) as temporary:
        # Not save_file, which makes the file private and hides why a write failed.
        temporary.write_bytes(save(copies, header))


# ---- mmengine's message hub -------------------------------------------------------------


def write_message_hub(state: dict) -> dict:
    """Makes plain data of what ``MessageHub.state_dict`` returns: tensors, numbers, texts.

    A history of scalars becomes a dict of tensors rather than of lists: it may have a
    million values, and tensors lie beside the pickle.
    """
    histories = {
        name: dict(log=torch.from_numpy(history.data[0]),
                   count=torch.from_numpy(history.data[1]),
                   max_length=history.max_length)
        for name, history in state['log_scalars'].items()}
    info = {name: value.item() if isinstance(value, np.generic) else value
            for name, value in state['runtime_info'].items()}
    return dict(state, log_scalars=histories, runtime_info=info)


def read_message_hub(state) -> dict:
    """Undoes :func:`write_message_hub`, exactly.

    The state that mmengine itself writes is returned as it is, except for names that are
    not printable or not among its entries: mmengine would print them.
    """
    parts = 'log_scalars', 'runtime_info', 'resumed_keys'
    if not isinstance(state, dict) or not all(
            isinstance(state.get(name), dict) for name in parts):
        return state
    state = {name: {key: value for key, value in part.items()
                    if isinstance(key, str) and key.isprintable()}
             if isinstance(part, dict) else part for name, part in state.items()}
    scalars, info = state['log_scalars'], state['runtime_info']
    scalars = {name: history for name, value in scalars.items()
               if (history := _read_history(value)) is not None}
    resumed = {name: value for name, value in state['resumed_keys'].items()
               if name in scalars or name in info}
    return dict(state, log_scalars=scalars, resumed_keys=resumed)


def _read_history(value) -> HistoryBuffer | None:
    if isinstance(value, HistoryBuffer):  # perhaps a stand-in, which cannot be copied
        return HistoryBuffer(*value.data, value.max_length)
    try:
        log, count, length = value['log'], value['count'], value['max_length']
        if log.ndim == 1 and log.shape == count.shape and len(log) <= length:
            return HistoryBuffer(log.numpy(force=True), count.numpy(force=True), length)
    except (AttributeError, KeyError, RuntimeError, TypeError):
        pass
    return None
