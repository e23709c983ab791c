"""Soaks a service: many clients for a while, no error, memory that stays level.

    python tests/nightly/stress/service.py --clients 8 --seconds 60 --out work_dirs/service
    python tests/nightly/stress/service.py --url http://127.0.0.1:8000 CLIP...

The first command exports the demo's model with random weights for ONNX Runtime and serves
it on 127.0.0.1. The second one measures a service that runs; HRI30_TOKEN is its token. This
exits with 1 if a client got anything but an answer or 429 with a time to retry, if no one
got an answer, or if the server's memory grew by more than a quarter.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import httpx
import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests')]
GROWTH = 1.25


def measure(url: str, clips: list[bytes], clients: int, seconds: float,
            token: str | None = None, pid: int | None = None) -> dict:
    """Lets clients send one request after the other.

    Args:
        url (str): Of the service.
        clips (list[bytes]): Contents of files, taken in turns.
        clients (int): Number of clients at a time.
        seconds (float): For how long.
        token (str, optional): Of the service.
        pid (int, optional): Process of the service, whose memory is sampled each second.

    Returns:
        dict: Counts of answers, latencies and memory; ``errors`` by status, ``failed``: no
        answer.
    """
    began, answers, memory = time.monotonic(), [], []
    headers = {'Authorization': f'Bearer {token}'} if token else {}

    def ask(number: int) -> None:
        with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
            while (asked := time.monotonic()) - began < seconds:
                status, retry = 'failed', False
                with contextlib.suppress(httpx.HTTPError):
                    answer = client.post('/v1/predict',
                                         files={'clip': clips[number % len(clips)]})
                    status, retry = answer.status_code, 'Retry-After' in answer.headers
                answers.append((status, retry, 1000 * (time.monotonic() - asked)))
                number += 1
                if status != 200:
                    time.sleep(.25)  # less than Retry-After: the service stays full

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(ask, number) for number in range(clients)]
        while running:
            if pid is not None:
                memory.append(round(psutil.Process(pid).memory_info().rss / 2**20))
            running = wait(running, timeout=1).not_done
    took = time.monotonic() - began
    statuses = Counter(status for status, _, _ in answers)
    latencies = [latency for status, _, latency in answers if status == 200]
    return dict(
        seconds=round(took, 1), requests=len(answers), answered=statuses[200],
        answered_a_second=round(statuses[200] / took, 2), busy_429=statuses[429],
        busy_with_retry_after=sum(retry for status, retry, _ in answers if status == 429),
        errors={str(status): count for status, count in statuses.items()
                if status not in (200, 429)},
        latency_ms=dict(zip(('median', 'p95'), np.percentile(
            latencies or [0], (50, 95)).round().tolist(), strict=True)),
        server_rss_mib=memory and dict(before=memory[0], after=memory[-1],
                                       most=max(memory)))


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[tuple[str, int, list[Path]]]:
    """Serves the demo's model with random weights.

    Yields:
        tuple[str, int, list[Path]]: Address and process of the service, and some clips.
    """
    from conftest import DEMO_CONFIG, HRI30, random_checkpoint

    from hri30_ext.apis.exporting import export
    from hri30_ext.synthetic import write_dataset
    data, model = folder / 'data', str(folder / 'exported')
    write_dataset(data, train_groups=2, test_groups=1, clips=1, progress=False)
    options = {'data_root': str(data), 'load_from': None, 'split.val_groups': 1}
    checkpoint = random_checkpoint(DEMO_CONFIG, options, folder / 'random.pth')
    export(DEMO_CONFIG, checkpoint, 'onnx', 'fp32', model, options)
    with subprocess.Popen([*HRI30, 'serve', '--model', model, '--port', '0'], text=True,
                          stdout=subprocess.PIPE) as process:
        try:
            process.stdout.readline()  # names the model
            url = process.stdout.readline().split()[0].rstrip('/')
            yield url, process.pid, sorted((data / 'test_set').glob('*.avi'))[:10]
        finally:
            process.terminate()


def main() -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('clips', nargs='*', metavar='CLIP', type=Path)
    parser.add_argument('--url', help='of a service that runs')
    parser.add_argument('--pid', type=int, help='of that service, to measure its memory')
    parser.add_argument('--clients', type=int, default=8, metavar='N')
    parser.add_argument('--seconds', type=float, default=60, metavar='S')
    parser.add_argument('--out', type=Path, metavar='D', help='folder of the data')
    args = parser.parse_args()
    if not (args.url and args.clips or args.out):
        parser.error('expected --out, or --url and clips')
    with (contextlib.nullcontext((args.url, args.pid, args.clips)) if args.url
          else serve(args.out.resolve())) as (url, pid, clips):
        clips = [clip.read_bytes() for clip in clips]
        token = os.environ.get('HRI30_TOKEN')
        measure(url, clips, 1, 3, token)  # a warm-up
        content = measure(url.rstrip('/'), clips, args.clients, args.seconds, token, pid)
    print(json.dumps(content, indent=1))
    memory = content['server_rss_mib']
    return int(not content['answered'] or bool(content['errors'])
               or content['busy_429'] != content['busy_with_retry_after']
               or bool(memory) and memory['after'] >= GROWTH * memory['before'])


if __name__ == '__main__':
    sys.exit(main())
