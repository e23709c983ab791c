"""Trains and tests on two hosts: two network namespaces of this machine, and a cable.

    python tests/nightly/stress/two_hosts.py [--folder D]

Compares the results of a test with those of one host. Then kills a process of one host, and
disconnects the cable, and checks that both hosts end. Needs root and iproute2. The
namespaces have addresses that lead nowhere else, and are removed at the end.
"""

import argparse
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hri30_ext.config import PROJECT_ROOT
from hri30_ext.names import HRI30_CLASSES
from hri30_ext.synthetic import write_dataset

CONFIG = str(next((PROJECT_ROOT / 'configs' / 'demo').glob('*.py')))
CLASSES = (1, 2, 3)
FIRST, SECOND = 'host-a', 'host-b'
ADDRESSES = {FIRST: '10.97.30.1', SECOND: '10.97.30.2'}
#: Seconds that a host waits for the other without an answer.
PEER_TIMEOUT = 10


def can_run() -> bool:
    """Returns whether this machine allows network namespaces."""
    name = f'hri30-try-{os.getpid()}'
    try:
        made = subprocess.run(['ip', 'netns', 'add', name], capture_output=True)
    except OSError:
        return False
    subprocess.run(['ip', 'netns', 'del', name], capture_output=True)
    return made.returncode == 0


@contextlib.contextmanager
def two_hosts() -> Iterator[dict[str, str]]:
    """Yields the namespaces by host, connected by a cable."""
    names = {host: f'hri30-{host}-{os.getpid()}' for host in ADDRESSES}

    def ip(*arguments: str) -> None:
        subprocess.run(['ip', *arguments], check=True)

    try:
        for name in names.values():
            ip('netns', 'add', name)
            ip('-n', name, 'link', 'set', 'lo', 'up')
        ip('-n', names[FIRST], 'link', 'add', 'cable', 'type', 'veth', 'peer', 'name',
           'cable', 'netns', names[SECOND])
        for host, name in names.items():
            ip('-n', name, 'address', 'add', f'{ADDRESSES[host]}/24', 'dev', 'cable')
            ip('-n', name, 'link', 'set', 'cable', 'up')
        yield names
    finally:
        for name in names.values():
            subprocess.run(['ip', 'netns', 'del', name], capture_output=True)


@contextlib.contextmanager
def running(tool: str, arguments: list[str], log: Path,
            names: dict[str, str] | None = None) -> Iterator[dict[str, subprocess.Popen]]:
    """Runs a tool on this machine, or on both hosts; yields its processes by host.

    Args:
        tool (str): ``train.sh`` or ``test.sh``.
        arguments (list[str]): Its arguments.
        log (Path): Prefix of its logs, which get the name of the host.
        names (dict[str, str], optional): Namespaces by host; None: this machine.
    """
    environment = {name: value for name, value in os.environ.items() if name not in (
        'GPUS', 'NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT', 'HRI30_ROOT')}
    environment.update(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='')
    hosts = {}
    with contextlib.ExitStack() as stack:
        for rank, (host, name) in enumerate((names or {'here': ''}).items()):
            within = []
            if names:
                environment.update(NNODES='2', NODE_RANK=str(rank),
                                   MASTER_ADDR=ADDRESSES[FIRST], PORT='29500',
                                   GLOO_SOCKET_IFNAME='cable')
                within = ['ip', 'netns', 'exec', name, 'unshare', '--uts', 'sh', '-c',
                          f'hostname {host}; exec "$@"', 'sh']
            file = stack.enter_context(open(f'{log}-{host}.log', 'wb'))
            hosts[host] = stack.enter_context(subprocess.Popen(
                [*within, 'bash', str(PROJECT_ROOT / 'tools' / tool), *arguments],
                env=environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, cwd=log.parent))
            stack.callback(hosts[host].terminate)  # the launcher ends its own
        yield hosts


def succeed(*call) -> None:
    """Runs a tool to its end; exits with the log of a host where it failed."""
    with running(*call) as hosts:
        for host, process in hosts.items():
            if process.wait(300):
                raise SystemExit(f'{host}: status {process.returncode}\n'
                                 + Path(f'{call[2]}-{host}.log').read_text()[-3000:])


def compare(folder: Path, options: list[str], names: dict[str, str]) -> None:
    """Trains on two hosts, and compares testing on one and on two."""
    work = folder / 'trained'
    succeed('train.sh', [CONFIG, '--work-dir', str(work), '--cfg-options', *options,
                         'max_epochs=2'], folder / 'train', names)
    for name, hosts in (('one', None), ('two', names)):
        succeed('test.sh', [CONFIG, str(work / 'epoch_2.pth'), '--out',
                            str(folder / f'results-{name}'), '--deterministic',
                            '--cfg-options', *options, 'report=False'],
                folder / f'test-{name}', hosts)
    for split, file in itertools.product(
            ('val', 'test'), ('predictions.csv', 'scores.npz', 'metrics.json')):
        a, b = ((folder / f'results-{name}' / split / file).read_bytes()
                for name in ('one', 'two'))
        assert a == b, file
    print('predictions.csv, scores.npz and metrics.json of val and test: the same bytes')


def break_off(folder: Path, options: list[str], names: dict[str, str], what: str,
              harm: Callable[[int], None], limit: float) -> None:
    """Harms the second host during a training, and checks that both end.

    ``harm`` takes the process of the second host's launcher.
    """
    log = folder / f'train-{what}'

    def text(host: str) -> str:
        return Path(f'{log}-{host}.log').read_text(errors='replace')

    with running('train.sh', [CONFIG, '--work-dir', str(folder / what), '--cfg-options',
                              *options, 'max_epochs=10000',
                              f'peer_timeout={PEER_TIMEOUT}'], log, names) as hosts:
        end = time.monotonic() + 120
        while 'epoch 1/' not in text(FIRST):
            assert time.monotonic() < end, text(FIRST)[-3000:]
            time.sleep(.1)
        harm(hosts[SECOND].pid)
        started = time.monotonic()
        for host, process in hosts.items():
            process.wait(limit)
            print(f'{what}: {host} ended after {time.monotonic() - started:.1f} s, status '
                  f'{process.returncode}: {text(host).split("error: ")[-1].strip()}\n')
            assert process.returncode not in (0, 1), text(host)[-3000:]
        assert 'lost the connection' in text(FIRST), text(FIRST)[-3000:]


def kill_worker(launcher: int) -> None:
    """Kills a process that a launcher started."""
    children = Path(f'/proc/{launcher}/task/{launcher}/children').read_text()
    os.kill(int(children.split()[0]), signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--folder', type=Path, help='folder to keep')
    args = parser.parse_args()
    if not can_run():
        sys.exit('needs root and iproute2, to make network namespaces')
    with contextlib.ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder = folder.resolve()
        write_dataset(folder / 'clips', train_groups=5, test_groups=1, clips=2,
                      size=(96, 64), classes=CLASSES, progress=False)
        options = [f'data_root={folder / "clips"}', f'cache_dir={folder / "cache"}',
                   'classes=' + ','.join(HRI30_CLASSES[k - 1] for k in CLASSES),
                   'split.val_groups=1', 'num_frames=4', 'input_size=(32,32)',
                   'batch_size=3', 'num_workers=0', 'precision=fp32', 'early_stopping=None']
        names = stack.enter_context(two_hosts())
        compare(folder, options, names)
        break_off(folder, options, names, 'a killed process', kill_worker, 30)
        break_off(folder, options, names, 'a pulled cable',
                  lambda _: subprocess.run(['ip', '-n', names[SECOND], 'link', 'set',
                                              'cable', 'down'], check=True),
                  PEER_TIMEOUT + 30)


if __name__ == '__main__':
    main()
