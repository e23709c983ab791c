"""Many processes: how they begin, wait for each other and agree, and how one is missed.

torch.distributed with NCCL where there is CUDA, otherwise gloo; everything here is the same
for one process, and then costs nothing.
"""

import atexit
import contextlib
import datetime
import itertools
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
import torch.distributed as dist
from mmengine.dist import get_dist_info

from ..errors import HRI30Error

T = TypeVar('T')

#: Seconds without an answer after which another process counts as lost.
PEER_TIMEOUT = 600

# What gloo, NCCL and the store say of a process that is gone.
_LOST = ('connection closed by peer', 'connection reset', 'broken pipe', 'socket closed',
         'connection was closed', 'connection refused', 'remote process', 'no route to',
         'timed out', 'timeout', 'failed to recv', 'failed to send')
# What is said of other things, some of them in the same words.
_NOT_LOST = ('cuda error', 'dataloader', 'duplicate gpu', 'invalid usage')

_store: dist.Store | None = None
_control: dist.ProcessGroup | None = None
_turns = itertools.count()


class PeerLost(HRI30Error):
    """Another process, or the host that it ran on, is gone.

    Attributes:
        exit_code (int): 75, the EX_TEMPFAIL of sysexits.h: to be tried again.
    """

    exit_code = 75


# ---- Beginning --------------------------------------------------------------------------


def start(launcher: str, timeout: float = PEER_TIMEOUT) -> None:
    """Joins the other processes, where there are any; mmengine then finds them joined.

    mmengine's own start calls ``torch.cuda.set_device`` and takes NCCL, both of which want
    CUDA.

    Args:
        launcher (str): ``none``, or ``pytorch``: RANK, WORLD_SIZE, MASTER_ADDR and
            MASTER_PORT are in the environment, as tools/_launch.py and torchrun set them;
            LOCAL_RANK too where it is not RANK modulo the GPUs.
        timeout (float): Seconds without an answer after which a process counts as lost,
            and seconds that the first processes wait for the last.

    Raises:
        HRI30Error: another launcher, more processes than GPUs, or some never came.
    """
    global _store, _control
    if launcher == 'none' or dist.is_initialized():
        return
    if launcher != 'pytorch':
        raise HRI30Error(f'--launcher {launcher}: expected none or pytorch.\nUnder Slurm, '
                         'tools/slurm_train.sh starts the processes.')
    cuda = torch.cuda.is_available()
    try:
        rank, size, port = (int(os.environ[name]) for name in (
            'RANK', 'WORLD_SIZE', 'MASTER_PORT'))
        # Not all that start processes set it; mmengine reads it as well.
        local_rank = int(os.environ.setdefault(
            'LOCAL_RANK', str(rank % torch.cuda.device_count() if cuda else rank)))
        address = os.environ['MASTER_ADDR']
    except (KeyError, ValueError) as error:
        raise HRI30Error(f'--launcher pytorch: the environment lacks {error}.\nStart '
                         'several processes with GPUS=N bash tools/train.sh.') from error
    if cuda and local_rank >= torch.cuda.device_count():
        raise HRI30Error(
            f'GPUS: process {local_rank + 1} of {socket.gethostname()} has no GPU of its '
            f'own; there are {torch.cuda.device_count()}.\nSet GPUS to that number at most '
            '(--device cpu runs as many processes as you like).')
    if cuda:
        torch.cuda.set_device(local_rank)
    wait = datetime.timedelta(seconds=timeout)
    # torchrun holds the store itself; tools/_launch.py hands on a socket that listens.
    hosts_store = rank == 0 and os.environ.get('TORCHELASTIC_USE_AGENT_STORE') != 'True'
    listening = os.environ.get('HRI30_LISTEN_FD') if hosts_store else None
    try:
        _store = dist.TCPStore(
            address, port, size, is_master=hosts_store, timeout=wait,
            master_listen_fd=int(listening) if listening else None)
        dist.init_process_group('nccl' if cuda else 'gloo', store=_store, rank=rank,
                                world_size=size, timeout=wait)
        # Beside NCCL, which cannot say at once that a process is gone.
        _control = dist.new_group(backend='gloo', timeout=wait)
    except (dist.DistError, RuntimeError) as error:
        raise HRI30Error(
            f'rank {rank} on {socket.gethostname()}: the {size} processes did not come '
            f'together at {address}, port {port}, within {timeout:g} s '
            f'({_first_line(error)}).\nExpected the same command on every host, with the '
            'same NNODES, GPUS, MASTER_ADDR and PORT and its own NODE_RANK, and a network '
            'that lets them connect.') from error
    atexit.register(dist.destroy_process_group)


# ---- Agreeing ---------------------------------------------------------------------------


def agree(flag: int) -> int:
    """Returns the largest flag of all processes, in all of them.

    To be called by all at the same point, such as once an iteration: a signal may have
    reached one of them alone.

    Args:
        flag (int): This process's.

    Returns:
        int: The flag itself where there is one process.
    """
    if get_dist_info()[1] == 1:
        return flag
    largest = torch.tensor([flag])
    dist.all_reduce(largest, dist.ReduceOp.MAX, group=_get_control())
    return int(largest)


def _get_control() -> dist.ProcessGroup:
    """Returns the group on the CPU; all processes come here at the same point.

    Where not :func:`start` but mmengine has joined the processes, as in mmaction2's own
    tools, there is none yet, and NCCL takes nothing on the CPU.
    """
    global _control
    if _control is None:
        _control = dist.new_group(backend='gloo')
    return _control


def begin_sum(values: torch.Tensor) -> dist.Work:
    """Begins to add up values on the CPU over all processes, in place.

    Args:
        values (torch.Tensor): On the CPU; not to be touched before ``wait()``.

    Returns:
        torch.distributed.Work: Whose ``wait()`` ends when the sums are there.
    """
    return dist.all_reduce(values, group=_get_control(), async_op=True)


def on_main(function: Callable[..., T], *args) -> T | None:
    """Runs a function in the first process alone; the others wait as long as it takes.

    A collective operation would count the first process as lost where it takes long.

    Args:
        function (Callable): Of ``args``.

    Returns:
        What the function returned, in the first process; None in the others.

    Raises:
        PeerLost: in the others, where it raised in the first.
    """
    rank, size = get_dist_info()
    if size == 1:
        return function(*args)
    key = f'on_main/{next(_turns)}'
    store = _store or dist.distributed_c10d._get_default_store()
    if rank == 0:
        outcome = 'failed'
        try:
            result = function(*args)
            outcome = 'done'
        finally:
            store.set(key, outcome)
        return result
    with explain_lost_peer():  # with the first process, its store is gone
        while not store.check([key]):
            time.sleep(.05)
        outcome = store.get(key)
    if outcome != b'done':
        raise PeerLost('rank 0 failed, and says why.')
    return None


# ---- Missing one ------------------------------------------------------------------------


@contextlib.contextmanager
def explain_lost_peer() -> Iterator[None]:
    """Says in words that another process is gone, where torch says it in its own.

    Raises:
        PeerLost: an operation between processes failed within.
    """
    try:
        yield
    except RuntimeError as error:  # all of torch's are
        rank, size = get_dist_info()
        text = str(error).lower()
        if size == 1 or any(sign in text for sign in _NOT_LOST) or not (
                isinstance(error, dist.DistError) or any(sign in text for sign in _LOST)):
            raise
        raise PeerLost(
            f'rank {rank} of {size} on {socket.gethostname()}: lost the connection to '
            f'another process ({_first_line(error)}).\nThat process or its host has ended, '
            'or has not answered for longer than peer_timeout; its own output says why.\n'
            'A training goes on from its last checkpoint with --resume.') from error


def _first_line(error: Exception) -> str:
    """Returns what an error of torch's says, without its place in C++ files."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if line.startswith('[') and '] ' in line:
        line = line.split('] ', 1)[1]
    return line.split('. ')[0][:200].rstrip('.')
