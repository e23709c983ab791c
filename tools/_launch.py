"""Runs a program in several processes: all of one machine, or those of one node of several.

    _launch.py --nproc-per-node=N [--nnodes=M --node-rank=R --master-addr=A] FILE ARGS..

In place of torchrun, whose environment it gives to the processes (RANK, WORLD_SIZE,
LOCAL_RANK, MASTER_ADDR, MASTER_PORT), and which lacks what a long training needs:

- It exits with the program's own status, 128 + N where signal N ended a process.
- A signal reaches every process, and they have time to save. One that is ignored, as
  nohup has it, stays so.
- When one process ends, the others do within seconds, those that they have started too.
- What went wrong is said once: not by every process, and not by those that only miss
  another. Process 0 has the terminal.

Imports nothing but the standard library.
"""

import argparse
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: What a process exits with that has lost another: hri30_ext.engine.distributed.PeerLost.
PEER_LOST = 75
#: Seconds that the others have after one has failed: to end, then to heed SIGTERM.
END_SECONDS, TERM_SECONDS = 3, 3
#: Seconds that all have after a signal, to save, once the first has ended.
SAVE_SECONDS = 120

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


class Process:
    """One process of the program.

    Args:
        local_rank (int): Which one on this machine.
        rank (int): Which one of all; only the first has the terminal.
        command (list[str]): What to run.
        environment (dict[str, str]): What all have in common.
        folder (Path): For its last words.
        listening (socket.socket, optional): For the process that the others look for.
    """

    def __init__(self, local_rank: int, rank: int, command: list[str], environment: dict,
                 folder: Path, listening: socket.socket | None) -> None:
        self.rank = rank
        self.error_file = folder / f'error{rank}'
        self.output_file = None if rank == 0 else folder / f'output{rank}'
        environment = dict(environment, RANK=str(rank), LOCAL_RANK=str(local_rank),
                           HRI30_ERROR_FILE=str(self.error_file))
        passed = ()
        if rank == 0 and listening is not None:
            environment['HRI30_LISTEN_FD'] = str(listening.fileno())
            passed = (listening.fileno(),)
        with contextlib.ExitStack() as stack:
            output = self.output_file and stack.enter_context(open(self.output_file, 'wb'))
            # A session of its own: a Ctrl-C reaches this launcher alone, which passes it
            # on, and what a process leaves behind can be ended with it.
            self.popen = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, pass_fds=passed,
                stdout=output, stderr=subprocess.STDOUT if output else None,
                start_new_session=True, preexec_fn=_end_with_parent)

    @property
    def status(self) -> int | None:
        """As a shell counts it; None while it runs."""
        code = self.popen.poll()
        return code if code is None or code >= 0 else 128 - code

    @property
    def message(self) -> str:
        """What it says to the user, if anything."""
        with contextlib.suppress(OSError):
            return self.error_file.read_text(encoding='utf-8', errors='replace').strip()
        return ''

    def last_lines(self, count: int = 30) -> list[str]:
        """Returns the end of its output, where nobody has seen it."""
        if self.output_file is None:
            return []
        text = self.output_file.read_text(encoding='utf-8', errors='replace')
        return text.rstrip().splitlines()[-count:]

    def send(self, number: int) -> None:
        """Sends it a signal; not to its workers, which it needs to save."""
        with contextlib.suppress(ProcessLookupError):
            self.popen.send_signal(number)

    def kill(self) -> None:
        """Ends it and all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)


def _end_with_parent() -> None:
    """Has the kernel send SIGTERM when the launcher is gone, however it went."""
    with contextlib.suppress(OSError, AttributeError):  # Linux
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def interface_to(address: str) -> str | None:
    """Names the network interface that leads to an address.

    gloo would take the one of this machine's host name, which many a hosts file maps to
    127.0.1.1.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            udp.connect((address, 9))  # sends nothing
            own = socket.inet_aton(udp.getsockname()[0])
            for _, name in socket.if_nameindex():
                with contextlib.suppress(OSError):  # one without an address
                    request = struct.pack('256s', name.encode()[:15])
                    if fcntl.ioctl(udp, 0x8915, request)[20:24] == own:  # SIOCGIFADDR
                        return name
    except OSError:
        pass  # of no such name; or another family of addresses
    return None


def wait(processes: list[Process], received: list[int]) -> list[Process]:
    """Waits until all have ended.

    Args:
        processes (list[Process]): All of this machine.
        received (list[int]): Signals that were passed on; grows meanwhile.

    Returns:
        list[Process]: Those that failed on their own, in that order: not what was done to
        them here.
    """
    failed: list[Process] = []
    running, ended, terminated = list(processes), None, False
    while running:
        time.sleep(.05)
        for process in list(running):
            if process.status is None:
                continue
            running.remove(process)
            process.kill()  # what it has left behind
            if process.status:
                ended = ended or time.monotonic()
                if not terminated:
                    failed.append(process)
        if ended is None:
            continue
        passed = time.monotonic() - ended - (SAVE_SECONDS if received else 0)
        if passed > END_SECONDS and not terminated:
            terminated = True
            for process in running:
                process.send(signal.SIGTERM)
        if passed > END_SECONDS + TERM_SECONDS:
            for process in running:
                process.kill()
    return failed


def _name(status: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(status - 128).name
    return f'signal {status - 128}'


def conclude(failed: list[Process], received: list[int], total: int) -> int:
    """Says what went wrong, once, and returns the exit status."""
    if not failed:
        return 0
    stopped = {128 + number for number in received}
    # Whoever only lost another comes last, and whoever was killed first.
    failed = sorted(failed, key=lambda process: (
        process.status == PEER_LOST, process.status <= 128 or process.status in stopped))
    first = failed[0]
    told = dict.fromkeys(process.message for process in failed
                         if process.message and process.status == first.status)
    if first.status == PEER_LOST:
        told = dict.fromkeys([first.message])  # one is enough
    where = f'rank {first.rank} of {total} on {socket.gethostname()}'
    if told:
        text = '\n'.join(told)
    elif first.status in stopped:
        if any(process.rank == 0 for process in failed):
            return first.status  # process 0 has said what it saved
        text = f'stopped by {_name(first.status)}'
    elif first.status > 128:
        text = (f'{where} (process {first.popen.pid}) was killed by {_name(first.status)}; '
                'all others were ended.\n'
                + ('Where nobody sent that, memory ran out, which dmesg says: set '
                   'batch_size or num_workers lower.\n'
                   if first.status == 128 + signal.SIGKILL else '')
                + 'A training goes on from its last checkpoint with --resume.')
    else:
        # A traceback of process 0 has been seen.
        seen = any(process.rank == 0 and process.status != PEER_LOST for process in failed)
        lines = [] if seen else first.last_lines()
        text = '\n'.join([f'{where} ended with status {first.status}; all others were '
                          'ended.' + (' Its last lines:' if lines else ''), *lines])
    print(f'error: {text}', file=sys.stderr)
    return first.status


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--nproc-per-node', type=int, default=1)
    parser.add_argument('--nnodes', type=int, default=1)
    parser.add_argument('--node-rank', type=int, default=0)
    parser.add_argument('--master-addr', default='127.0.0.1')
    parser.add_argument('--master-port', type=int, default=0, help='0: a free one')
    parser.add_argument('program', nargs=argparse.REMAINDER)
    args = parser.parse_args()

    received: list[int] = []
    processes: list[Process] = []

    def pass_on(number: int, frame) -> None:
        received.append(number)
        for process in processes:
            process.send(number)

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, pass_on)

    total = args.nnodes * args.nproc_per_node
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='hri30-')))
        listening = None
        if args.nnodes == 1:
            # Held from here on, so that no other program gets the port.
            listening = stack.enter_context(socket.socket())
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((args.master_addr, args.master_port))
            listening.listen(128)
            args.master_port = listening.getsockname()[1]
        environment = dict(os.environ, WORLD_SIZE=str(total), MASTER_ADDR=args.master_addr,
                           MASTER_PORT=str(args.master_port))
        environment.setdefault('MKL_NUM_THREADS', environment.get('OMP_NUM_THREADS', '1'))
        interface = interface_to(args.master_addr)
        if interface:
            environment.setdefault('GLOO_SOCKET_IFNAME', interface)
        first = args.node_rank * args.nproc_per_node
        if first:
            print(f'ranks {first} to {first + args.nproc_per_node - 1} of {total}; the '
                  f'log is that of {args.master_addr}', flush=True)
        try:
            for local_rank in range(args.nproc_per_node):
                processes.append(Process(
                    local_rank, first + local_rank, [sys.executable, *args.program],
                    environment, folder, listening))
            if received:  # while they were being started
                pass_on(received[-1], None)
            return conclude(wait(processes, received), received, total)
        finally:
            for process in processes:
                process.kill()


if __name__ == '__main__':
    sys.exit(main())
