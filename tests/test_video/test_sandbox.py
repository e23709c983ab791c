"""A process of its own: what happens there costs one call and nothing else."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest

from hri30_ext.datasets.unreadable import is_of_one_clip
from hri30_ext.errors import HRI30Error
from hri30_ext.video import decode
from hri30_ext.video.sandbox import CallFailed, IsolatedProcess, ProcessDied

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

F = 'sandbox_functions:'
HAS_LIBRARY = find_library('seccomp')


@pytest.fixture(scope='module')
def process():
    with IsolatedProcess() as process:
        yield process


def works(process):
    return process.call('math:hypot', 3, 4) == (5, [])


def is_alive(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def ends(pid):
    """Waits until a process ends, for 10 seconds at most."""
    for _ in range(100):
        if not is_alive(pid):
            return True
        time.sleep(.1)
    return False


@pytest.mark.parametrize('value', [None, 3, 'Ä\n', [1.5, {'a': [True]}], 'x' * 900_000,
                                   '\udcff.avi'])
def test_values_come_back(process, value):
    assert process.call('copy:copy', value) == (value, [])


def test_arrays_come_back_and_can_be_changed(process):
    value, arrays = process.call(f'{F}arrays')
    assert value == {'n': 3}
    np.testing.assert_array_equal(arrays[0], [[0, 1, 2], [3, 4, 5]])
    assert arrays[1].shape == (0, 4) and arrays[1].dtype == np.float64
    assert arrays[2].tolist() == [-1, 2**40]
    arrays[0][:] = 9
    value, (array,) = process.call(f'{F}reverse', 'a', data=bytes(range(256)) * 9000)
    assert value == 'a' and len(array) == 256 * 9000
    assert array[:3].tolist() == [255, 254, 253]


def test_one_process_serves_all_calls_and_another_group_than_ctrl_c(process):
    first, second = (process.call('os:getpid')[0] for _ in range(2))
    assert first == second == process._process.pid
    assert process.call('os:getpgid', 0)[0] != os.getpgid(0)


@pytest.mark.parametrize(('function', 'argument', 'end'), [
    ('signal:raise_signal', signal.SIGKILL, 'SIGKILL'), ('ctypes:string_at', 0, 'SIGSEGV'),
    ('signal:raise_signal', signal.SIGABRT, 'SIGABRT'),
    ('os:_exit', 0, r'ended without an answer \(os:_exit\)')])
def test_a_crash_costs_one_call(process, function, argument, end):
    with pytest.raises(ProcessDied, match=end) as caught:
        process.call(function, argument)
    assert caught.value.kind == 'crashed' and works(process)


@pytest.mark.parametrize('call', [('time:sleep', 60), (f'{F}hang_in_a_library', )])
def test_what_hangs_is_ended(process, call):
    pid = process.call('os:getpid')[0]
    with pytest.raises(ProcessDied, match='took more than 0.2 seconds') as caught:
        process.call(*call, seconds=.2)
    assert caught.value.kind == 'hung' and not is_alive(pid) and works(process)


def test_memory_is_bounded():
    with IsolatedProcess(memory_bytes=2**30) as process:
        assert process.call(f'{F}take_memory', 1000)[0] == 1000
        # Where a job allows less than what it gives up to.
        process.call('hri30_ext.video.sandbox:_limit_process', 2**31)
        with pytest.raises(ProcessDied, match='1 GiB of memory') as caught:
            process.call(f'{F}take_memory', 2**31)
        assert caught.value.kind == 'memory' and works(process)


def test_what_the_function_raises_is_told(process):
    with pytest.raises(CallFailed, match=r'^clip\.avi: is too long\.\nCut it\.$') as caught:
        process.call(f'{F}refuse')
    assert (caught.value.code, caught.value.reason) == ('too_long', 'it is too long')
    with pytest.raises(HRI30Error, match='ZeroDivisionError: division by zero'):
        process.call('operator:truediv', 1, 0)
    with pytest.raises(HRI30Error, match='ModuleNotFoundError'):
        process.call('no_such_module:f')


@pytest.mark.parametrize(('text', 'length'), [*((text, None) for text in (
    '{"arrays": [["|O", [1]]]}', f'{{"arrays": [["|u1", [{2**40}]]]}}',
    '{"arrays": [["|u1", [-1]]]}', '{"arrays": [["|u1", [100]]]}', '{"arrays": 3}',
    '[' * 100_000, 'abcd', f'{{"value": "{"x" * 2**20}"}}')), ('', 2**32 - 1)])
def test_answers_are_validated(text, length):
    with IsolatedProcess() as process:
        assert works(process)
        before = process._process.pid
        with pytest.raises(ProcessDied, match='answered with|took more than'):
            process.call(f'{F}lie', text, length, seconds=2)
        assert not is_alive(before) and works(process)


def test_what_the_process_may_not_do(tmp_path, monkeypatch):
    monkeypatch.setenv('HRI30_TOKEN', 'secret')
    (tmp_path / 'numpy.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")')
    monkeypatch.chdir(tmp_path)  # from where nothing is imported
    with IsolatedProcess() as process:
        environment = process.call(f'{F}print_much')[0]  # and what is printed is no answer
        assert 'secret' not in environment.values() and 'HOME' not in environment
        with pytest.raises(CallFailed, match='File too large'):
            process.call(f'{F}write_file', str(tmp_path / 'file'))
        assert (tmp_path / 'file').stat().st_size == 0
    assert not (tmp_path / 'ran').exists()


@pytest.mark.skipif(not HAS_LIBRARY, reason='libseccomp is not installed')
@pytest.mark.parametrize('function', ['socket', 'socketpair'])
def test_no_socket_is_opened(process, function):
    with pytest.raises(CallFailed, match='Operation not permitted'):
        process.call(f'socket:{function}')


@pytest.mark.parametrize('end', ['close', 'hang'])
def test_what_the_process_started_ends_with_it(end):
    process = IsolatedProcess()
    child, _ = process.call(f'{F}start_child')
    assert is_alive(child)
    if end == 'close':
        process.close()
    else:
        with pytest.raises(ProcessDied):
            process.call('time:sleep', 60, seconds=.2)
    assert ends(child)


def test_another_thread_can_end_it(process):
    assert works(process)
    threading.Timer(.3, process.close).start()
    with pytest.raises(ProcessDied):
        process.call('time:sleep', 60)
    assert works(process)


def test_each_fork_and_thread_has_its_own(process):
    """A fork ends neither the processes of its parent nor those of its other threads."""
    assert works(process)
    with ThreadPoolExecutor(1) as thread:
        other = thread.submit(decode._process).result()
        assert works(other) and other is not decode._process()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            assert process._process is None
            os.write(write, b'%d' % process.call('os:getpid')[0])
            process.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    of_fork = int(os.read(read, 20))
    assert of_fork != process._process.pid and not is_alive(of_fork)
    assert process.call('os:getpid')[0] == process._process.pid and works(other)


@pytest.mark.parametrize('busy', [False, True])
def test_it_does_not_outlive_a_caller_that_is_killed(busy):
    script = textwrap.dedent(f"""
        from hri30_ext.video.sandbox import IsolatedProcess
        process = IsolatedProcess()
        process.call('os:getpid')
        print(process._process.pid, flush=True)
        process.call('time:sleep', 60 if {busy} else 0, seconds=.5)
        input()
    """)
    caller = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE,
                              stdin=subprocess.PIPE, cwd=HERE.parents[1])
    pid = int(caller.stdout.readline())
    caller.kill()
    caller.communicate()
    assert ends(pid)


def test_an_interrupted_call_leaves_no_answer_behind(monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    with IsolatedProcess() as process:
        for _ in range(2):  # while it starts, and then
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(process, '_receive', interrupt)
                process.call('math:hypot', 1, 0)
            assert works(process)


@pytest.mark.parametrize('executable', ['/bin/none', '/bin/false'])
def test_a_process_that_cannot_be_started_is_no_fault_of_a_file(monkeypatch, executable):
    monkeypatch.setattr(sys, 'executable', executable)
    with IsolatedProcess() as process, pytest.raises(
            ProcessDied, match='could not be started') as caught:
        process.call('os:getpid')
    assert caught.value.kind == 'start' and not is_of_one_clip(caught.value)
