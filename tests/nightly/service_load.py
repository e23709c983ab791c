"""Measures a service from outside, with several clients for some time.

``.venv/bin/python tests/nightly/service_load.py --url http://127.0.0.1:8000 CLIP...``
"""

import argparse
import json
import os
import statistics
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hri30_ext.errors import HRI30Error


@dataclass
class Load:
    """The answers that clients got.

    Attributes:
        seconds (float): How long they sent requests.
        statuses (Counter): Answers by status of HTTP; ``failed``: no answer.
        latencies (list[float]): Seconds of each answer with status 200.
        retry_after (int): Answers with status 429 that have Retry-After.
        rss_mib (list[float]): Resident memory of the server, sampled each second; empty
            if its process is not known.
    """

    seconds: float = 0.
    statuses: Counter = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    retry_after: int = 0
    rss_mib: list[float] = field(default_factory=list)

    def to_json(self) -> dict:
        """Returns a summary of numbers."""
        latencies = sorted(self.latencies)
        content = dict(
            seconds=round(self.seconds, 1), requests=sum(self.statuses.values()),
            answered=self.statuses[200], busy_429=self.statuses[429],
            busy_with_retry_after=self.retry_after,
            errors={str(status): count for status, count in self.statuses.items()
                    if status not in (200, 429)})
        if latencies:
            content['latency_ms'] = dict(
                median=round(1000 * statistics.median(latencies)),
                p95=round(1000 * latencies[int(.95 * (len(latencies) - 1))]))
            content['answered_a_second'] = round(self.statuses[200] / self.seconds, 2)
        if self.rss_mib:
            content['server_rss_mib'] = dict(
                before=round(self.rss_mib[0]), after=round(self.rss_mib[-1]),
                most=round(max(self.rss_mib)))
        return content


def rss_mib(pid: int) -> float:
    """Returns the resident memory of a process, MiB (Linux).

    Raises:
        HRI30Error: no such process.
    """
    try:
        with open(f'/proc/{pid}/statm') as file:
            return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**20
    except OSError as error:
        raise HRI30Error(f'--pid {pid}: no such process.') from error


def form(clip: bytes) -> tuple[bytes, str]:
    """Returns a form with a clip, and its content type."""
    boundary = uuid.uuid4().hex
    head = (f'--{boundary}\r\nContent-Disposition: form-data; name="clip"; '
            'filename="clip"\r\nContent-Type: application/octet-stream\r\n\r\n')
    return (head.encode() + clip + f'\r\n--{boundary}--\r\n'.encode(),
            f'multipart/form-data; boundary={boundary}')


def measure(url: str, clips: list[bytes], clients: int, seconds: float,
            token: str | None = None, pid: int | None = None,
            pause: float = .25) -> Load:
    """Lets clients send one request after the other.

    Args:
        url (str): Of the service.
        clips (list[bytes]): Contents of files, taken in turns.
        clients (int): Number of clients at a time.
        seconds (float): For how long.
        token (str, optional): Of the service.
        pid (int, optional): Process of the service, whose memory is measured.
        pause (float): Seconds that a client waits after 429; less than Retry-After, so
            that the service stays full.
    """
    found, lock = Load(), threading.Lock()
    began = time.monotonic()
    bodies = [form(clip) for clip in clips]

    def ask(number: int) -> None:
        while time.monotonic() - began < seconds:
            body, kind = bodies[number % len(bodies)]
            number += 1
            headers = {'Content-Type': kind}
            if token is not None:
                headers['Authorization'] = f'Bearer {token}'
            request = urllib.request.Request(f'{url}/v1/predict', body, headers)
            asked = time.monotonic()
            status, retry = 'failed', None
            try:
                with urllib.request.urlopen(request, timeout=120) as answer:
                    json.load(answer)
                    status = answer.status
            except urllib.error.HTTPError as error:
                status, retry = error.code, error.headers['Retry-After']
            except (OSError, ValueError):
                pass
            with lock:
                found.statuses[status] += 1
                found.retry_after += status == 429 and retry is not None
                if status == 200:
                    found.latencies.append(time.monotonic() - asked)
            if status != 200:
                time.sleep(pause)

    threads = [threading.Thread(target=ask, args=(number,), daemon=True)
               for number in range(clients)]
    if pid is not None:
        found.rss_mib.append(rss_mib(pid))
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(timeout=1)
            if pid is not None:
                found.rss_mib.append(rss_mib(pid))
    found.seconds = time.monotonic() - began
    return found


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
    try:
        load = measure(args.url.rstrip('/'), [clip.read_bytes() for clip in args.clips],
                       args.clients, args.seconds, os.environ.get('HRI30_TOKEN'), args.pid)
    except (HRI30Error, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    print(json.dumps(load.to_json(), indent=2))


if __name__ == '__main__':
    main()
