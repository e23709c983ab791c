"""Measures a service from outside, with several clients for some time.

``.venv/bin/python tests/nightly/service_load.py --url http://127.0.0.1:8000 CLIP...``
"""

import argparse
import json
import os
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import httpx
import numpy as np
import psutil


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
                try:
                    answer = client.post('/v1/predict',
                                         files={'clip': clips[number % len(clips)]})
                    status, retry = answer.status_code, 'Retry-After' in answer.headers
                except httpx.HTTPError:
                    pass
                answers.append((status, retry, time.monotonic() - asked))
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
    content = dict(
        seconds=round(took, 1), requests=len(answers), answered=statuses[200],
        busy_429=statuses[429],
        busy_with_retry_after=sum(retry for status, retry, _ in answers if status == 429),
        errors={str(status): count for status, count in statuses.items()
                if status not in (200, 429)})
    if statuses[200]:
        latencies = [1000 * latency for status, _, latency in answers if status == 200]
        median, p95 = np.percentile(latencies, (50, 95)).round().tolist()
        content.update(latency_ms=dict(median=median, p95=p95),
                       answered_a_second=round(statuses[200] / took, 2))
    if memory:
        content['server_rss_mib'] = dict(before=memory[0], after=memory[-1],
                                         most=max(memory))
    return content


def main() -> None:
    """Measures, and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('clips', nargs='+', metavar='CLIP', type=Path)
    parser.add_argument('--url', default='http://127.0.0.1:8000',
                        help='default: %(default)s')
    parser.add_argument('--clients', type=int, default=8, help='default: %(default)s')
    parser.add_argument('--seconds', type=float, default=60, help='default: %(default)s')
    parser.add_argument('--pid', type=int, help='of the service, to measure its memory')
    args = parser.parse_args()
    print(json.dumps(measure(
        args.url.rstrip('/'), [clip.read_bytes() for clip in args.clips], args.clients,
        args.seconds, os.environ.get('HRI30_TOKEN'), args.pid), indent=2))


if __name__ == '__main__':
    main()
