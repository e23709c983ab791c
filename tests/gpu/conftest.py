"""Skips this folder without CUDA, and writes what its tests measured.

HRI30_FAKE_GPU=1 runs the tests on the CPU, to see that they can run; their figures then say
nothing about a GPU. HRI30_GPU_OUT names the folder of ``gpu.json`` and ``gpu.md``.
"""

import datetime
import json
import os
from pathlib import Path

import pytest
import torch
from conftest import CLASSES, DEMO_CONFIG

from hri30_ext.apis import train
from hri30_ext.utils.fileio import atomic_write_text

FAKE = bool(os.environ.get('HRI30_FAKE_GPU'))
DEVICE = 'cuda' if torch.cuda.is_available() and not FAKE else 'cpu'
_rows: dict[str, dict] = {}


def pytest_collection_modifyitems(items):
    """Skips all tests here where there is no CUDA."""
    if DEVICE == 'cpu' and not FAKE:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason='needs CUDA'))


@pytest.fixture
def note(request):
    """Returns a function that keeps a figure of the test for the table."""
    def keep(name, value, bound=''):
        _rows[request.node.nodeid].setdefault('figures', []).append(
            dict(name=name, value=float(value), bound=bound))
    _rows.setdefault(request.node.nodeid, {})
    return keep


@pytest.fixture(scope='session')
def trained(clips_root, tmp_path_factory):
    """Checkpoint and options of the demo's model after an epoch in fp32 on the device."""
    folder = tmp_path_factory.mktemp('trained')
    options = {'data_root': str(clips_root), 'classes': CLASSES, 'split.val_groups': 1,
               'num_frames': 4, 'input_size': (32, 32), 'batch_size': 4, 'num_workers': 0,
               'max_epochs': 1, 'precision': 'fp32', 'cache_dir': str(folder / 'cache')}
    return train(DEMO_CONFIG, work_dir=str(folder / 'run'), options=options), options


def pytest_runtest_logreport(report):
    """Keeps the outcome of a test: that of its call, or of a set-up that ended it."""
    if report.when == 'call' or report.outcome != 'passed':
        reason = report.longrepr[2] if report.skipped else ''
        _rows.setdefault(report.nodeid, {}).update(
            outcome=report.outcome, seconds=round(report.duration, 1), reason=reason)


def pytest_sessionfinish():
    """Writes one JSON file and one Markdown table."""
    out = os.environ.get('HRI30_GPU_OUT')
    if not out:
        return
    cuda = DEVICE == 'cuda'
    about = dict(
        device=torch.cuda.get_device_name() if cuda else 'the CPU in place of a GPU',
        gpus=torch.cuda.device_count() if cuda else 0, torch=torch.__version__,
        cuda=torch.version.cuda, cores=len(os.sched_getaffinity(0)),
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'))
    lines = [', '.join(f'{name}: {value}' for name, value in about.items()), '',
             '| test | outcome | seconds | figures (bound) |', '| --- | --- | --- | --- |']
    for name, row in _rows.items():
        figures = '; '.join(
            f'{each["name"]} {each["value"]:.4g}'
            + (f' ({each["bound"]})' if each['bound'] else '')
            for each in row.get('figures', ()))
        lines.append(f'| {name.split("::")[-1]} | {row.get("outcome")} | '
                     f'{row.get("seconds")} | {figures or row.get("reason", "")} |')
    atomic_write_text(Path(out) / 'gpu.json',
                      json.dumps(dict(**about, tests=_rows), indent=1) + '\n')
    atomic_write_text(Path(out) / 'gpu.md', '\n'.join(lines) + '\n')
