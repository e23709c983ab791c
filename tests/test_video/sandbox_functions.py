"""What the tests call in a process of its own."""

import ctypes
import os
import signal
import sys
import time

import numpy as np

from hri30_ext.errors import HRI30Error


def echo(value):
    return value


def arrays():
    return {'n': 3}, [np.arange(6, dtype=np.uint8).reshape(2, 3), np.zeros((0, 4)),
                      np.array([-1, 2**40])]


def pid():
    return os.getpid()


def parent_group():
    return os.getpgid(0) == os.getpgid(os.getppid())


def end(number):
    os.kill(os.getpid(), number)


def segfault():
    ctypes.string_at(0)


def leave():
    os._exit(0)


def sleep(seconds):
    time.sleep(seconds)


def hang_in_a_library():
    """Where no Python signal handler would run, and signals of Python are blocked."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    ctypes.PyDLL(None).usleep(60_000_000)


def take_memory(count):
    return bytearray(count) and count


def refuse():
    raise HRI30Error('clip.avi: is no video.\nReplace it.')


def fail():
    raise ZeroDivisionError('by zero')


def print_much():
    os.write(1, b'x' * 2**20)
    os.write(2, b'x' * 2**20)
    return 'answered'


def lie(kind):
    """Answers as a process does that a file has taken over."""
    isolated = sys.modules['__main__']
    if kind == 'dtype':
        isolated._share = lambda arrays: ([('|O', (1,), 0)], os.memfd_create('x', 2))
    elif kind == 'size':
        isolated._share = lambda arrays: ([('|u1', (2**40,), 0)], os.memfd_create('x', 2))
    elif kind == 'negative':
        isolated._share = lambda arrays: ([('|u1', (-1,), 0)], os.memfd_create('x', 2))
    elif kind == 'no memory':
        isolated._send = lambda connection, header, fds=(): connection.sendall(
            b'\x22\0\0\0{"arrays": [["|u1", [100], 0]]}   ')
    elif kind == 'not json':
        isolated._send = lambda connection, header, fds=(): connection.sendall(
            b'\x04\0\0\0abcd')
    elif kind == 'endless':
        isolated._send = lambda connection, header, fds=(): connection.sendall(b'\xff' * 8)
    return None, [np.zeros(3, np.uint8)]
