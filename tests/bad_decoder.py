"""A decoder that some files crash, hang, or make use all memory.

The last bytes of a clip, after its container, select the failure.
"""

import os
import signal
import time
from pathlib import Path

import numpy as np

from hri30_ext.video import decoding
from hri30_ext.video.inspection import inspect_clip

MARKS = {'crashes': b'<crash>', 'hangs': b'<hang>', 'memory': b'<memory>'}


def inspect(filename):
    """Reads a clip, or fails as its end demands."""
    end = Path(filename).read_bytes()[-16:]
    if end.endswith(MARKS['crashes']):
        os.kill(os.getpid(), signal.SIGSEGV)
    if end.endswith(MARKS['hangs']):
        time.sleep(1000)
    if end.endswith(MARKS['memory']):
        np.ones(2**40, np.uint8)
    return inspect_clip(filename)


def read_views(filename, limits, preprocessing):
    """Fails likewise; to a clip without a mark, it answers with another form of array."""
    inspect(filename)
    return decoding.read_views(filename, limits, preprocessing)[0], [np.zeros(3)]


def inspect_again(filename):
    """The same the first time; later it reads the clip, as after a shortage of memory."""
    seen = Path(filename).parents[2] / f'{Path(filename).name}.seen'
    if seen.exists():
        return inspect_clip(filename)
    seen.touch()
    return inspect(filename)
