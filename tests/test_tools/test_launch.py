"""tools/_launch.py with programs of a few lines: messages and exit statuses."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from hri30_ext.config import PROJECT_ROOT

LAUNCHER = str(PROJECT_ROOT / 'tools' / '_launch.py')
pytestmark = pytest.mark.usefixtures('heeded_signals')
#: The beginning of every program.
BEGINNING = """
import atexit, os, pathlib, signal, sys, time
from hri30_ext import cli
rank = int(os.environ['RANK'])
folder = pathlib.Path(os.environ['FOLDER'])
def wait_for(*names):
    while not all((folder / name).exists() for name in names): time.sleep(.02)
"""


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Starts three processes of a program."""
    monkeypatch.setenv('PYTHONPATH', str(PROJECT_ROOT))

    def begin(program, **environment):
        file = tmp_path / 'program.py'
        file.write_text(BEGINNING + program)
        unset = dict.fromkeys(('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT'), '')
        return subprocess.Popen(
            [sys.executable, LAUNCHER, str(file)], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
            env={**os.environ, **unset, 'GPUS': '3', 'FOLDER': str(tmp_path),
                 **environment})
    return begin


def ready(folder, count=3):
    """Waits until processes have marked themselves as ready."""
    while len(list(folder.glob('ready*'))) < count:
        time.sleep(.05)


@pytest.mark.parametrize('program, status, message', [
    ('', 0, ''),
    ('cli.fail("no such config")', 2, 'error: no such config\n'),
    ('cli.Parser(prog="x").parse_args()', 2, 'error: unrecognized arguments: --launcher'),
    # A mistake that rank 0 finds, while the others lose it.
    ('if rank == 0: wait_for("1"); time.sleep(.5); cli.fail("a leak")\n'
     'if rank: (folder / str(rank)).touch(); cli.fail("lost 0", 75)', 2,
     'error: a leak\n'),
    # Clips failed, and rank 0 has said so.
    ('sys.exit(3 if rank == 0 else 0)', 3, ''),
    # A process on another host is gone.
    ('cli.fail(f"{rank} misses 3", 75)', 75, 'misses 3\n'),
    ('if rank == 1: os.kill(os.getpid(), 9)\ncli.fail("lost 1", 75)', 137,
     'rank 1 of 3 on '),
    ('if rank == 1: os.kill(os.getpid(), 9)\ntime.sleep(1000)', 137,
     'was killed by SIGKILL'),
    # A bug; a regular exit would wait for other processes, as with NCCL.
    ('atexit.register(time.sleep, 1000)\n'
     'cli.run(lambda: [][0] if rank == 1 else time.sleep(1000))', 1,
     'IndexError: list index out of range\n'),
    ('sys.exit(5 if rank == 2 else 0)', 5, 'ended with status 5'),
    # A signal to one process of a training: all saved and ended, and rank 0 has said so.
    ('sys.exit(138)', 138, ''),
])
def test_one_message_about_the_process_that_failed_first(begin, program, status, message):
    process = begin(program)
    output, error = process.communicate(timeout=60)
    assert (process.returncode, output) == (status, '')
    assert message in error and error.count('error: ') == bool(message)
    assert 'lost' not in error


@pytest.mark.slow
def test_a_process_that_hangs_is_killed(begin, tmp_path):
    process = begin("""
(folder / f'{rank}').write_text(str(os.getpid()))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
wait_for('0', '1', '2')
sys.exit(5) if rank == 2 else time.sleep(1000)
""")
    process.communicate(timeout=60)
    assert process.returncode == 5
    for rank in range(3):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / str(rank)).read_text()), 0)


SAVED = """time.sleep(rank == 0)
    (folder / f'saved{rank}').touch()
    os._exit(128 + number)"""
NOT_SAVED = "cli.fail('the disk is full') if rank == 0 else cli.fail('lost rank 0', 75)"


@pytest.mark.parametrize('number, save, status, message', [
    *((number, SAVED, 128 + number, '') for number in (
        signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)),
    (signal.SIGUSR1, NOT_SAVED, 2, 'error: the disk is full\n')])
def test_a_signal_reaches_all_and_leaves_time_to_save(begin, tmp_path, number, save, status,
                                                      message):
    process = begin(f"""
def save(number, frame):
    {save}
signal.signal({int(number)}, save)
(folder / f'ready{{rank}}').touch()
time.sleep(1000)
""")
    ready(tmp_path)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (status, message)
    assert len(list(tmp_path.glob('saved*'))) == (0 if message else 3)


def test_nohup_outlives_its_terminal(begin, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        process = begin("""
(folder / f'ready{rank}').touch()
wait_for('go')
assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
""")
    finally:
        signal.signal(signal.SIGHUP, before)
    ready(tmp_path)
    process.send_signal(signal.SIGHUP)
    (tmp_path / 'go').touch()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_environment_of_the_processes(begin, tmp_path, monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS', raising=False)
    process = begin("""
names = 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'OMP_NUM_THREADS'
(folder / f'{rank}').write_text(' '.join([*map(os.environ.get, names), *sys.argv[1:]]))
""", GPUS='03')
    assert process.wait(60) == 0
    threads = max(1, len(os.sched_getaffinity(0)) // 3)
    assert [(tmp_path / str(rank)).read_text() for rank in range(3)] == [
        f'3 {rank} 127.0.0.1 {threads} --launcher pytorch' for rank in range(3)]


@pytest.mark.parametrize('environment, message', [
    (dict(GPUS='two'), 'GPUS=two: expected a whole number, 1 or more'),
    (dict(GPUS='0'), 'GPUS=0: expected'),
    (dict(NNODES='2', MASTER_ADDR='a'), 'NODE_RANK=: expected a whole number, 0 or more'),
    (dict(NNODES='2', NODE_RANK='1'), 'NNODES=2 needs MASTER_ADDR'),
])
def test_mistakes_in_the_environment(begin, environment, message):
    process = begin('', **environment)
    output, error = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, '') and error.startswith(f'error: {message}')


def test_a_port_in_use(begin):
    with socket.create_server(('127.0.0.1', 0)) as taken:
        process = begin('', PORT=str(taken.getsockname()[1]))
        output, error = process.communicate(timeout=60)
    assert (process.returncode, output) == (2, '')
    assert re.match(r'error: no connection at 127.0.0.1, port \d+: .*in use', error, re.S)
