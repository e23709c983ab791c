"""What the tests call in a process of its own."""

import ctypes
import os
import signal
import socket
import subprocess
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


def read_environment():
    return dict(os.environ)


def write_file(path):
    with open(path, 'w') as file:
        file.write('x')


def open_socket(pair):
    socket.socketpair() if pair else socket.socket()


def start_child():
    return subprocess.Popen(['sleep', '60']).pid


def burn():
    while True:
        pass


def reverse(prefix, data):
    return prefix, [np.frombuffer(data, np.uint8)[::-1]]


def refuse_with_a_code():
    error = HRI30Error('clip.avi: is too long.')
    error.code, error.reason = 'too_long', 'it is too long'
    raise error


def lie(kind):
    """Answers like a process that a file has taken over."""
    sandbox = sys.modules['__main__']

    def answer(text):
        def send(connection, header, data=b''):
            connection.sendall(len(text).to_bytes(4, 'little') + text)
        sandbox._send = send

    described = {'dtype': ('|O', (1,), 0), 'size': ('|u1', (2**40,), 0),
                 'negative': ('|u1', (-1,), 0), 'offset': ('|u1', (1,), 2**40)}
    if kind in described:
        sandbox._write_arrays = lambda arrays, memory: [described[kind]]
    elif kind == 'shrink':
        sandbox._write_arrays = lambda arrays, memory: os.ftruncate(memory, 0)
    elif kind == 'endless':
        sandbox._send = lambda connection, header, data=b'': connection.sendall(b'\xff' * 8)
    elif kind == 'long':
        answer(b'{"value": "' + bytes(2**20) + b'"}')
    elif kind == 'another answer':
        answer(b'{"value": 1, "id": 77}')
    elif kind == 'deep':
        answer(b'[' * 100_000)
    else:
        answer(kind.encode())
    return None, [np.zeros(3, np.uint8)]
