"""tools/_launch.py with programs of a few lines: what is said, and how it ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from hri30_ext.config import PROJECT_ROOT

LAUNCHER = str(PROJECT_ROOT / 'tools' / '_launch.py')
pytestmark = pytest.mark.usefixtures('heeded_signals')
#: What every program begins with; say() is what tools/_cli.py does.
BEGINNING = """
import os, pathlib, signal, sys, time
rank = int(os.environ['RANK'])
def say(message, status):
    pathlib.Path(os.environ['HRI30_ERROR_FILE']).write_text(message)
    sys.exit(status)
"""


@pytest.fixture
def begin(tmp_path):
    """Starts three processes of a program."""
    def begin(program):
        file = tmp_path / 'program.py'
        file.write_text(BEGINNING + program)
        return subprocess.Popen([sys.executable, LAUNCHER, '--nproc-per-node=3', str(file)],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return begin


@pytest.mark.parametrize('program, status, said', [
    ('', 0, ''),
    # A mistake of the user's that all find.
    ('say("no such config", 2)', 2, 'error: no such config\n'),
    # One that the first finds, while the others miss it.
    ('say("a leak", 2) if rank == 0 else (time.sleep(.3), say("lost 0", 75))', 2,
     'error: a leak\n'),
    # All was done, but for some clips.
    ('say("1 of 9 clips", 3) if rank == 0 else None', 3, 'error: 1 of 9 clips\n'),
    # Another host is gone.
    ('say(f"{rank} lost 3", 75)', 75, 'lost 3\n'),
    ('os.kill(os.getpid(), 9) if rank == 1 else (time.sleep(.3), say("lost 1", 75))', 137,
     'was killed by SIGKILL'),
    ('sys.exit("Traceback of 2") if rank == 2 else (time.sleep(.3), say("lost", 75))', 1,
     'Traceback of 2'),
])
def test_what_went_wrong_is_said_once(begin, program, status, said):
    process = begin(program)
    output, error = process.communicate(timeout=60)
    assert (process.returncode, output) == (status, '')
    assert said in error and error.count('error: ') == (status != 0)
    assert 'lost' not in error.replace(said, '') or status == 75


def test_a_bug_in_one_process_ends_all_though_it_cannot_end_in_order(begin):
    """As the processes of NCCL wait for each other where they leave it."""
    process = begin(f"""
sys.path.insert(0, {str(PROJECT_ROOT / 'tools')!r})
import _cli, atexit
atexit.register(time.sleep, 1000)
_cli.run(lambda: [][0] if rank == 1 else time.sleep(1000))
""")
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert 'rank 1 of 3' in error and error.rstrip().endswith(
        'IndexError: list index out of range')


def test_those_that_hang_are_ended(begin, tmp_path):
    process = begin(f"""
pathlib.Path({str(tmp_path)!r}, str(rank)).write_text(str(os.getpid()))
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if rank == 2:
    while len(list(pathlib.Path({str(tmp_path)!r}).glob('?'))) < 3: time.sleep(.05)
    sys.exit(5)
time.sleep(1000)
""")
    process.communicate(timeout=60)
    assert process.returncode == 5
    for rank in range(3):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / str(rank)).read_text()), 0)


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1,
                                    signal.SIGHUP])
def test_a_signal_reaches_all_and_leaves_time_to_save(begin, tmp_path, number):
    process = begin(f"""
def save(number, frame):
    time.sleep(4 if rank == 0 else 0)  # longer than others have after a failure
    pathlib.Path({str(tmp_path)!r}, f'saved{{rank}}').touch()
    sys.exit(128 + number)
signal.signal({int(number)}, save)
pathlib.Path({str(tmp_path)!r}, f'ready{{rank}}').touch()
time.sleep(1000)
""")
    while len(list(tmp_path.glob('ready*'))) < 3:
        time.sleep(.05)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (128 + number, '')
    assert len(list(tmp_path.glob('saved*'))) == 3


def test_nohup_outlives_its_terminal(begin, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        process = begin(f"""
pathlib.Path({str(tmp_path)!r}, f'ready{{rank}}').touch()
while not pathlib.Path({str(tmp_path)!r}, 'go').exists(): time.sleep(.05)
assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
""")
    finally:
        signal.signal(signal.SIGHUP, before)
    while len(list(tmp_path.glob('ready*'))) < 3:
        time.sleep(.05)
    process.send_signal(signal.SIGHUP)
    (tmp_path / 'go').touch()
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_processes_know_each_other(begin, tmp_path):
    process = begin(f"""
names = 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'GLOO_SOCKET_IFNAME'
pathlib.Path({str(tmp_path)!r}, f'{{rank}}').write_text(
    ' '.join(os.environ[name] for name in names))
""")
    assert process.wait(60) == 0
    assert [(tmp_path / str(rank)).read_text() for rank in range(3)] == [
        f'3 {rank} 127.0.0.1 lo' for rank in range(3)]
