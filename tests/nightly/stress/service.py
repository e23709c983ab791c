"""Soaks the service: many clients for a while, no error, memory that stays level.

    python tests/nightly/stress/service.py --clients 8 --seconds 60 --out work_dirs/service

The demo's model with random weights is exported for ONNX Runtime and served on 127.0.0.1.
This exits with 1 if a client got anything but an answer or 429 with a time to retry, if no
one got an answer, or if the server's memory grew by more than a quarter.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests' / 'nightly')]

import torch  # noqa: E402
from service_load import measure  # noqa: E402

import hri30_ext.modules  # noqa: E402, F401
from hri30_ext.apis.exporting import export  # noqa: E402
from hri30_ext.config import load_config  # noqa: E402
from hri30_ext.synthetic import write_dataset  # noqa: E402

CONFIG = str(next((ROOT / 'configs' / 'demo').glob('*.py')))
GROWTH = 1.25


def export_model(folder: Path) -> tuple[Path, list[Path]]:
    """Exports random weights of the demo's model; returns the folder and some clips."""
    from mmaction.registry import MODELS
    data = folder / 'data'
    write_dataset(data, train_groups=2, test_groups=1, clips=1, progress=False)
    options = {'data_root': str(data), 'load_from': None, 'split.val_groups': 1}
    cfg = load_config(CONFIG, options)
    model = MODELS.build(cfg.model)
    model.init_weights()
    checkpoint = folder / 'random.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), checkpoint)
    exported = folder / 'exported'
    export(CONFIG, str(checkpoint), 'onnx', 'fp32', str(exported), options)
    return exported, sorted((data / 'test_set').glob('*.avi'))


def start(model: Path, log: Path) -> tuple[subprocess.Popen, str]:
    """Starts the service; returns its process and address when it answers."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    with open(log, 'w', encoding='utf-8') as file:
        process = subprocess.Popen(
            [sys.executable, '-m', 'hri30_ext.cli', 'serve', '--model', str(model),
             '--port', str(port)], stdout=file, stderr=file)
    url = f'http://127.0.0.1:{port}'
    for _ in range(600):
        try:
            urllib.request.urlopen(f'{url}/v1/health', timeout=5).close()
            return process, url
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(.1)
    process.kill()
    sys.exit(f'the service did not start:\n{log.read_text(encoding="utf-8")[-2000:]}')


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--clients', type=int, default=8, metavar='N')
    parser.add_argument('--seconds', type=float, default=60, metavar='S')
    parser.add_argument('--out', type=Path, required=True, metavar='D')
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    model, clips = export_model(out)
    clips = [clip.read_bytes() for clip in clips[:10]]
    process, url = start(model, out / 'service.log')
    try:
        measure(url, clips, 1, 3, None, process.pid)  # a warm-up
        content = measure(url, clips, args.clients, args.seconds, os.environ.get(
            'HRI30_TOKEN'), process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        status = process.wait(60)
    print(json.dumps(content, indent=1))
    memory = content['server_rss_mib']
    right = (content['answered'] > 0 and not content['errors']
             and content['busy_429'] == content['busy_with_retry_after']
             and memory['after'] < GROWTH * memory['before'])
    print(f'{content["answered"]} answered, {content["busy_429"]} told to retry, errors '
          f'{content["errors"]}, memory {memory}, exit status of the service {status}')
    sys.exit(0 if right else 1)


if __name__ == '__main__':
    main()
