"""Training in several processes: joining them, sharing flags, and noticing a lost one.

Uses torch.distributed, with NCCL on CUDA and gloo on the CPU. With a single process every
function here works and does next to nothing.
"""

import atexit
import contextlib
import datetime
import itertools
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
import torch.distributed as dist
from mmengine.dist import get_dist_info

from ..errors import HRI30Error

T = TypeVar('T')

# Parts of the messages of gloo, NCCL and the store when a process is gone.
_LOST = ('connection closed by peer', 'connection reset', 'broken pipe', 'socket closed',
         'connection was closed', 'connection refused', 'remote process', 'no route to',
         'timed out', 'timeout', 'failed to recv', 'failed to send')
# Parts of messages about other failures; some contain one of the above.
_NOT_LOST = ('cuda error', 'dataloader', 'duplicate gpu', 'invalid usage')

#: A gloo group of all processes, for small tensors on the CPU.
_control: dist.ProcessGroup | None = None
_calls_on_main = itertools.count()


class PeerLost(HRI30Error):
    """Another process, or the host it ran on, is gone."""

    # EX_TEMPFAIL of sysexits.h. tools/_launch.py looks for a process that failed first.
    exit_code = 75


def start(launcher: str, timeout: float = 600) -> None:
    """Joins the processes of a run; mmengine, whose own way needs CUDA, finds them joined.

    Args:
        launcher (str): ``none``, or ``pytorch`` for the environment variables of torchrun
            (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT).
        timeout (float): Seconds that processes wait for each other, here and later.

    Raises:
        HRI30Error: There are more processes than GPUs, or some did not join.
    """
    global _control
    if launcher == 'none' or dist.is_initialized():
        return
    # NVML counts the GPUs of a driver that is too old, too.
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    rank, size, local_rank = (
        int(os.environ[name]) for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'))
    address, port = os.environ['MASTER_ADDR'], os.environ['MASTER_PORT']
    if gpus:
        if local_rank >= gpus:
            raise HRI30Error(
                f'GPUS: process {local_rank + 1} on {socket.gethostname()} has no GPU; '
                f'there are {gpus}.\nSet GPUS to {gpus} or less. With --device cpu any '
                'number of processes runs.')
        torch.cuda.set_device(local_rank)
    wait = datetime.timedelta(seconds=timeout)
    try:
        dist.init_process_group('nccl' if gpus else 'gloo', timeout=wait)
        # NCCL does not report a lost process at once, and takes no tensors on the CPU.
        _control = dist.new_group(backend='gloo', timeout=wait)
    except (RuntimeError, ValueError) as error:
        raise HRI30Error(
            f'rank {rank} on {socket.gethostname()}: the {size} processes did not join at '
            f'{address}, port {port}, in {timeout:g} s ({_first_line(error)}).\nRun the '
            'same command on every host, with the same NNODES, GPUS, MASTER_ADDR and PORT, '
            'each with its own NODE_RANK; hosts must be able to connect, see '
            'GLOO_SOCKET_IFNAME in docs/distributed.md.') from error
    atexit.register(dist.destroy_process_group)


def max_over_ranks(flag: int) -> int:
    """Returns the maximum of a flag over all processes, which all must call this."""
    global _control
    if get_dist_info()[1] == 1:
        return flag
    if _control is None:  # mmaction2's own tools have joined the processes
        _control = dist.new_group(backend='gloo')
    largest = torch.tensor([flag])
    dist.all_reduce(largest, dist.ReduceOp.MAX, group=_control)
    return int(largest)


def on_main(function: Callable[..., T], *args) -> T | None:
    """Calls a function on rank 0 alone; the other ranks wait, however long it takes.

    Returns:
        What the function returned on rank 0, None on other ranks.

    Raises:
        PeerLost: On the other ranks, if the function raised on rank 0.
    """
    rank, size = get_dist_info()
    if size == 1:
        return function(*args)
    key = f'on_main/{next(_calls_on_main)}'
    # A collective operation would time out.
    store = dist.distributed_c10d._get_default_store()
    if rank == 0:
        outcome = 'failed'
        try:
            result = function(*args)
            outcome = 'done'
        finally:
            store.set(key, outcome)
        max_over_ranks(0)  # rank 0 may host the store, which the others still have to read
        return result
    with explain_lost_peer():  # the store may be gone
        while not store.check([key]):
            time.sleep(.05)
        outcome = store.get(key)
    if outcome != b'done':
        raise PeerLost('rank 0 failed; see its message.')
    max_over_ranks(0)
    return None


@contextlib.contextmanager
def explain_lost_peer() -> Iterator[None]:
    """Turns torch's errors about a lost process into :class:`PeerLost`."""
    try:
        yield
    except RuntimeError as error:  # the base class of torch's errors
        rank, size = get_dist_info()
        text = str(error).lower()
        if size == 1 or any(sign in text for sign in _NOT_LOST) or not (
                isinstance(error, dist.DistError) or any(sign in text for sign in _LOST)):
            raise
        raise PeerLost(
            f'rank {rank} of {size} on {socket.gethostname()}: lost the connection to '
            f'another process ({_first_line(error)}).\nThat process or its host ended, or '
            'did not answer within peer_timeout; see its own output.\n'
            'Resume the training from its last checkpoint with --resume.') from error


def _first_line(error: Exception) -> str:
    """Returns the first sentence of an error of torch, without its C++ source location."""
    return re.match(r'(?:\[[^]]*\] )?(.*?)(?:\. |\.?$)', str(error), re.M)[1][:200]
