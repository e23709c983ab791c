"""A stand-in for a model: says how bright the views of a clip are."""

from types import SimpleNamespace

import numpy as np

from hri30_ext.deploy.runtime.recognizer import ClipRecognizer
from hri30_ext.video.preprocessing import Preprocessing, Resize


class Brightness:
    """Remembers how many views came at once."""

    splittable = False

    def __init__(self):
        self.batches = []

    def __call__(self, clips_NTHWC):
        self.batches.append(len(clips_NTHWC))
        bright_N = clips_NTHWC.mean(axis=(1, 2, 3, 4), dtype=np.float32) / 255
        return np.stack([1 - bright_N, bright_N], axis=1)


def make_recognizer(backend=None, views=1, **facts):
    """Makes a recognizer of dark and bright, with other facts of a model."""
    return ClipRecognizer(SimpleNamespace(**{
        'classes': ('dark', 'bright'), 'temperature': None, 'sets': None, 'open_set': None,
        'window_seconds': 0.5,
        'preprocessing': Preprocessing(4, views, 'uniform', (Resize(16, 8),)), **facts}),
        backend or Brightness())
