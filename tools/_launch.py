"""Runs a Python program in several processes, with torch's elastic launcher.

    GPUS=N [NNODES=M NODE_RANK=R MASTER_ADDR=HOST] [PORT=P] _launch.py PROGRAM [ARGS ...]

``hri30`` becomes this program where GPUS or NNODES is set. Only rank 0 writes to the
terminal. The exit status is that of the process that failed first; 128 + N for signal N.
"""

import json
import logging
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

#: Sent on to every process. Slurm warns with SIGUSR1 before the time of a job ends.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
PEER_LOST = 75  # exit status of hri30_ext.engine.distributed.PeerLost


def fail(message: str, status: int = 2) -> int:
    print(f'error: {message}', file=sys.stderr)
    return status


def read_number(name: str, default: object, least: int = 0) -> int:
    text = os.environ.get(name) or str(default)
    if not re.fullmatch(r'\d{1,5}', text) or int(text) < least:
        sys.exit(fail(f'{name}={text}: expected a whole number, {least} or more'))
    return int(text)


def main(program: list[str]) -> int | None:
    gpus, nodes = read_number('GPUS', 1, 1), read_number('NNODES', 1, 1)
    handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    for number in handled:
        signal.signal(number, signal.SIG_DFL)  # no traceback before torch handles them
    node, address, port = 0, '127.0.0.1', read_number('PORT', 29500 if nodes > 1 else 0)
    if nodes > 1:
        node, address = read_number('NODE_RANK', ''), os.environ.get('MASTER_ADDR')
        if not address:
            return fail(f'NNODES={nodes} needs MASTER_ADDR, the address of the first host')
        print(f'host {node} of 0 to {nodes - 1}; {address} has the log', flush=True)
    for name in 'OMP_NUM_THREADS', 'MKL_NUM_THREADS':  # in all, as many as cores
        os.environ.setdefault(name, str(max(1, len(os.sched_getaffinity(0)) // gpus)))
    import torch.distributed.elastic.multiprocessing as elastic
    from torch.distributed import DistError
    from torch.distributed.elastic import rendezvous
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch
    logging.disable(logging.ERROR)  # torch reports every process
    with tempfile.TemporaryDirectory(prefix='hri30-') as folder:
        config = LaunchConfig(
            min_nodes=nodes, max_nodes=nodes, nproc_per_node=gpus, max_restarts=0,
            run_id='hri30', rdzv_backend='static' if nodes > 1 else 'c10d',
            rdzv_endpoint=f'{address}:{port}', local_addr='127.0.0.1',
            rdzv_configs=dict(rank=node, is_host=node == 0),
            logs_specs=elastic.DefaultLogsSpecs(folder, redirects={
                i: elastic.Std.ALL if node + i else elastic.Std.NONE for i in range(gpus)}),
            signals_to_handle=','.join(number.name for number in handled),
            shutdown_timeout=120)  # seconds to end a batch after a signal
        try:
            elastic_launch(config, sys.executable)(*program, '--launcher', 'pytorch')
        except elastic.SignalException as error:
            for file in Path(folder).glob('*/*/*/error.json'):  # that failed then
                failure = json.loads(file.read_text(encoding='utf-8'))
                if failure['status'] != PEER_LOST:
                    return fail(failure['message'], failure['status'])
            return 128 + error.sigval
        except elastic.errors.ChildFailedError as error:
            return explain(error.failures, gpus * nodes)
        except (DistError, rendezvous.RendezvousError) as error:
            return fail(f'no connection at {address}, port {port}: '
                        f'{str(error.__cause__ or error)[:200]}\nIs PORT in use, or does a '
                        'host not run the same command with its own NODE_RANK?')


def explain(failures: dict, total: int) -> int:
    """Prints why the first process failed; returns its exit status."""
    status = {rank: failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
              for rank, failure in failures.items()}
    lost, ended = PEER_LOST, 128 + signal.SIGTERM  # after another process, or by torch
    rank, first = min(failures.items(), key=lambda item: (
        status[item[0]] in (lost, ended), item[1].timestamp, status[item[0]] == ended))
    if 'status' in first.error_file_data:
        return fail(first.message, status[rank])
    if first.exitcode > 0 and (rank == 0 or 0 in failures and first.exitcode > 128):
        return first.exitcode  # rank 0 has written why, or what it saved
    return fail(f'rank {rank} of {total} on {os.uname().nodename} ' + (
        f'ended with status {first.exitcode}.' if first.exitcode > 0 else
        f'(process {first.pid}) was killed by {first.signal_name()}.\nIf nobody sent it, '
        'memory ran out: lower batch_size or num_workers. --resume resumes a training.'),
        status[rank])


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
