"""A process of its own: what happens there costs one call and nothing else."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest

from hri30_ext.errors import HRI30Error
from hri30_ext.video.sandbox import CallFailed, IsolatedProcess, ProcessDied

sys.path.insert(0, str(Path(__file__).parent))

F = 'sandbox_functions:'


@pytest.fixture(scope='module')
def process():
    with IsolatedProcess() as process:
        yield process


def is_alive(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


@pytest.mark.parametrize('value', [None, 3, 'Ä\n', [1.5, {'a': [True]}], 'x' * 900_000,
                                   '\udcff.avi'])
def test_values_come_back(process, value):
    assert process.call(f'{F}echo', value) == (value, [])


def test_arrays_come_back_and_can_be_changed(process):
    value, arrays = process.call(f'{F}arrays')
    assert value == {'n': 3}
    np.testing.assert_array_equal(arrays[0], [[0, 1, 2], [3, 4, 5]])
    assert arrays[1].shape == (0, 4) and arrays[1].dtype == np.float64
    assert arrays[2].tolist() == [-1, 2**40]
    arrays[0][:] = 9  # a copy of its own
    assert process.call(f'{F}arrays')[1][0].max() == 5


def test_one_process_serves_all_calls_and_another_group_than_ctrl_c(process):
    assert process.call(f'{F}pid')[0] == process.call(f'{F}pid')[0] == process.pid
    assert process.call(f'{F}parent_group') == (False, [])


@pytest.mark.parametrize(('call', 'number'), [
    (('end', signal.SIGKILL), signal.SIGKILL), (('segfault', ), signal.SIGSEGV),
    (('end', signal.SIGABRT), signal.SIGABRT), (('leave', ), None)])
def test_a_crash_costs_one_call(process, call, number):
    with pytest.raises(ProcessDied) as caught:
        process.call(F + call[0], *call[1:])
    assert (caught.value.kind, caught.value.signal) == ('crashed', number)
    if number:
        assert signal.Signals(number).name in str(caught.value)
    assert process.call(f'{F}echo', 1) == (1, [])


@pytest.mark.parametrize('call', [('sleep', 60), ('hang_in_a_library', )])
def test_what_hangs_is_ended(process, call):
    pid = process.call(f'{F}pid')[0]
    with pytest.raises(ProcessDied, match='took more than 0.2 seconds') as caught:
        process.call(F + call[0], *call[1:], seconds=.2)
    assert caught.value.kind == 'hung'
    assert not is_alive(pid)
    assert process.call(f'{F}echo', 1) == (1, [])


def test_memory_is_bounded():
    with IsolatedProcess(memory_bytes=2**30) as process:
        assert process.call(f'{F}take_memory', 1000)[0] == 1000
        with pytest.raises(ProcessDied, match='1 GiB of memory') as caught:
            process.call(f'{F}take_memory', 2**31)
        assert caught.value.kind == 'memory'
        assert process.call(f'{F}echo', 1) == (1, [])


def test_what_the_function_raises_is_told(process):
    with pytest.raises(HRI30Error, match=r'^clip\.avi: is no video\.\nReplace it\.$'):
        process.call(f'{F}refuse')
    with pytest.raises(CallFailed, match='is too long') as caught:
        process.call(f'{F}refuse_with_a_code')
    assert (caught.value.code, caught.value.reason) == ('too_long', 'it is too long')
    with pytest.raises(HRI30Error, match='ZeroDivisionError: by zero'):
        process.call(f'{F}fail')
    with pytest.raises(HRI30Error, match='ModuleNotFoundError'):
        process.call('no_such_module:f')


def test_what_libraries_print_is_no_answer(process):
    assert process.call(f'{F}print_much') == ('answered', [])


@pytest.mark.parametrize('kind', [
    'dtype', 'size', 'negative', 'offset', 'shrink', 'endless', 'long', 'another answer',
    'deep', 'abcd', '{"arrays": [["|u1", [100]]]}', '{"arrays": 3}'])
def test_answers_are_validated(kind):
    with IsolatedProcess() as process:
        process.call(f'{F}echo', 0)
        before = process.pid
        if kind == 'shrink':  # the sealed memory cannot be made shorter
            with pytest.raises(CallFailed, match='PermissionError'):
                process.call(f'{F}lie', kind, seconds=2)
        else:
            with pytest.raises(ProcessDied, match='answered with|took more than'):
                process.call(f'{F}lie', kind, seconds=2)
            assert not is_alive(before)
            assert process.call(f'{F}echo', 1) == (1, [])


def test_data_reaches_the_function(process):
    value, (array,) = process.call(f'{F}reverse', 'a', data=bytes(range(256)) * 9000)
    assert value == 'a' and array[:3].tolist() == [255, 254, 253]
    assert len(array) == 256 * 9000


def test_what_the_process_may_not_do(tmp_path, monkeypatch):
    monkeypatch.setenv('HRI30_TOKEN', 'secret')
    with IsolatedProcess(cpu_seconds=1) as process:
        environment = process.call(f'{F}read_environment')[0]
        assert 'secret' not in environment.values() and 'HOME' not in environment
        with pytest.raises(CallFailed, match='File too large'):
            process.call(f'{F}write_file', str(tmp_path / 'file'))
        assert (tmp_path / 'file').stat().st_size == 0
        with pytest.raises(ProcessDied, match=r'crashed \(SIGKILL\)'):
            process.call(f'{F}burn')


@pytest.mark.skipif(not find_library('seccomp'), reason='libseccomp is not installed')
def test_no_socket_is_opened(process):
    for pair in (False, True):
        with pytest.raises(CallFailed, match='Operation not permitted'):
            process.call(f'{F}open_socket', pair)


@pytest.mark.parametrize('has_library', [False, True])
def test_sockets_that_are_not_blocked_are_told_once(tmp_path, has_library):
    if not has_library:
        (tmp_path / 'pyseccomp.py').write_text("raise RuntimeError('no libseccomp')")
    elif not find_library('seccomp'):
        pytest.skip('libseccomp is not installed')
    script = textwrap.dedent(f"""
        import os, sys; sys.path[:0] = [{str(tmp_path)!r}, {str(Path(__file__).parent)!r}]
        from hri30_ext.video.sandbox import IsolatedProcess
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        for _ in range(2):
            with IsolatedProcess() as process:
                process.call('{F}pid')
    """)
    done = subprocess.run([sys.executable, '-c', script], stderr=subprocess.PIPE, text=True,
                          cwd=Path(__file__).parents[2], timeout=300)
    assert done.returncode == 0
    assert done.stderr.count('can open sockets') == done.stderr.count('\n') == (
        not has_library)


@pytest.mark.parametrize('end', ['close', 'hang'])
def test_what_the_process_started_ends_with_it(end):
    process = IsolatedProcess()
    child, _ = process.call(f'{F}start_child')
    assert is_alive(child)
    if end == 'close':
        process.close()
    else:
        with pytest.raises(ProcessDied):
            process.call(f'{F}sleep', 60, seconds=.2)
    for _ in range(50):
        if not is_alive(child):
            break
        time.sleep(.1)
    assert not is_alive(child)


def test_another_thread_can_kill_it(process):
    process.call(f'{F}pid')
    threading.Timer(.3, process.kill).start()
    with pytest.raises(ProcessDied, match='SIGKILL'):
        process.call(f'{F}sleep', 60)
    threading.Timer(.3, process.close).start()
    with pytest.raises(ProcessDied):
        process.call(f'{F}sleep', 60)
    assert process.call(f'{F}echo', 1) == (1, [])


def test_each_fork_has_its_own(process):
    process.call(f'{F}pid')
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            assert process.pid is None
            os.write(write, b'%d' % process.call(f'{F}pid')[0])
            process.close()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    other = int(os.read(read, 20))
    assert other != process.pid and not is_alive(other)
    assert process.call(f'{F}pid')[0] == process.pid


def test_a_fork_leaves_the_processes_of_other_threads():
    ready, forked, own, answers = (threading.Event(), threading.Event(), threading.local(),
                                   [])

    def work():
        own.process = IsolatedProcess()
        own.process.call(f'{F}pid')
        ready.set()
        forked.wait()
        answers.append(own.process.call(f'{F}echo', 1)[0])
    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    forked.set()
    thread.join()
    assert answers == [1]


@pytest.mark.parametrize('busy', [False, True])
def test_it_does_not_outlive_a_caller_that_is_killed(busy):
    script = textwrap.dedent(f"""
        import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
        from hri30_ext.video.sandbox import IsolatedProcess
        process = IsolatedProcess()
        process.call('{F}pid')
        print(process.pid, flush=True)
        process.call('{F}sleep', 60 if {busy} else 0, seconds=.5)
        input()
    """)
    caller = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE,
                              stdin=subprocess.PIPE, cwd=Path(__file__).parents[2])
    pid = int(caller.stdout.readline())
    caller.kill()
    caller.communicate()
    for _ in range(100):
        if not is_alive(pid):
            break
        time.sleep(.1)
    assert not is_alive(pid)


def test_nothing_is_imported_from_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / 'numpy.py').write_text(f'open({str(tmp_path / "ran")!r}, "w")')
    monkeypatch.chdir(tmp_path)
    with IsolatedProcess() as process:
        assert process.call(f'{F}arrays')[0] == {'n': 3}
    assert not (tmp_path / 'ran').exists()


def test_an_interrupted_start_leaves_no_answer_behind(process, monkeypatch):
    with IsolatedProcess() as process:
        receive = process._receive
        monkeypatch.setattr(process, '_receive', lambda *args: interrupt())

        def interrupt():
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            process.call(f'{F}echo', 1)
        monkeypatch.setattr(process, '_receive', receive)
        assert process.call(f'{F}echo', 2) == (2, [])


def test_a_process_that_cannot_be_started_is_no_fault_of_a_file(monkeypatch, tmp_path):
    from hri30_ext.datasets.unreadable import is_of_one_clip
    monkeypatch.setattr(sys, 'executable', str(tmp_path / 'none'))
    with IsolatedProcess() as process, pytest.raises(
            ProcessDied, match='could not be started') as caught:
        process.call(f'{F}echo', 1)
    assert caught.value.kind == 'start' and not is_of_one_clip(caught.value)
    monkeypatch.setattr(sys, 'executable', '/bin/false')
    with IsolatedProcess() as process, pytest.raises(ProcessDied) as caught:
        process.call(f'{F}echo', 1)
    assert caught.value.kind == 'start'


def test_threads_have_one_each():
    from hri30_ext.video import decode as video
    found = []
    threads = [threading.Thread(target=lambda: found.append(video._process()))
               for _ in range(2)]
    for thread in threads:
        thread.start()
        thread.join()
    assert found[0] is not found[1] and found[0] is not video._process()
