"""Stands for a service's decoder that some files take over; a clip's last bytes say how."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from hri30_ext.video import decoding


def hang():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def fork():
    if not os.fork():
        time.sleep(600)
    hang()


WAYS = dict(kill=lambda: os.kill(os.getpid(), 9), fork=fork, lie=lambda: None)


def read_views(path, limits, preprocessing):
    way = Path(path).read_bytes().rsplit(b'<', 1)[1].decode()
    WAYS[way]()
    value, arrays = decoding.read_views(path, limits, preprocessing)
    return value, [np.zeros(3)] if way == 'lie' else arrays
