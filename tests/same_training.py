"""Whether two trainings came to the same, bit for bit."""

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

#: What of a checkpoint the rest of a training depends on.
STATE = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'training',
         'early_stopping', 'curves')


def load(path):
    """Loads a checkpoint of mmengine's."""
    return torch.load(path, weights_only=True)


def assert_same(a, b, name=''):
    """Compares tensors, arrays, histories, containers of them and plain data exactly."""
    assert isinstance(a, type(b)), name
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), name
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b, strict=True)
    elif isinstance(a, HistoryBuffer):
        # mmengine keeps the names of its statistics in the class, once they are loaded.
        assert_same((a.max_length, *a.data), (b.max_length, *b.data), name)
    elif isinstance(a, dict):
        assert list(a) == list(b), name
        for key in a:
            assert_same(a[key], b[key], f'{name}.{key}')
        assert getattr(a, '_metadata', 0) == getattr(b, '_metadata', 0), name
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), name
        for i, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f'{name}[{i}]')
    else:
        assert a == b, name


def assert_same_training(one, other):
    """Compares two checkpoints in all but times."""
    one, other = load(one), load(other)
    for checkpoint in (one, other):
        del checkpoint['curves']['minutes']
        for point in checkpoint['curves']['history']:
            del point['minutes']
    for name in STATE:
        assert_same(one.get(name), other.get(name), name)
    for name in ('epoch', 'iter', 'seed'):
        assert one['meta'][name] == other['meta'][name]
