"""What the tests call in a process of its own, beside functions of the standard library."""

import ctypes
import os
import signal
import subprocess
import sys

import numpy as np

from hri30_ext.errors import HRI30Error


def arrays():
    return {'n': 3}, [np.arange(6, dtype=np.uint8).reshape(2, 3), np.zeros((0, 4)),
                      np.array([-1, 2**40])]


def hang_in_a_library():
    """Where no Python signal handler would run, and signals of Python are blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    ctypes.PyDLL(None).usleep(60_000_000)


def take_memory(count):
    return bytearray(count) and count


def refuse():
    error = HRI30Error('clip.avi: is too long.\nCut it.')
    error.code, error.reason = 'too_long', 'it is too long'
    raise error


def print_much():
    os.write(1, b'x' * 2**20)
    os.write(2, b'x' * 2**20)
    return dict(os.environ)


def write_file(path):
    with open(path, 'w') as file:
        file.write('x')


def start_child():
    return subprocess.Popen(['sleep', '60']).pid


def reverse(prefix, data):
    return prefix, [np.frombuffer(data, np.uint8)[::-1]]


def lie(text, length=None):
    """Answers like a process that a file has taken over."""
    def send(connection, *args):
        count = len(text) if length is None else length
        connection.sendall(count.to_bytes(4, 'little') + text.encode())
    sys.modules['__main__']._send = send
