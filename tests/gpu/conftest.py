"""Skips this folder without CUDA, and records what its tests measure.

HRI30_FAKE_GPU=1 runs the tests on the CPU, to see that they can run; their figures then say
nothing about a GPU. Figures are properties in the file of pytest's ``--junit-xml``.
"""

import os
from pathlib import Path

import pytest
import torch
from conftest import CLASSES, DEMO_CONFIG

from hri30_ext.apis import train

FAKE = bool(os.environ.get('HRI30_FAKE_GPU'))
DEVICE = 'cuda' if torch.cuda.is_available() and not FAKE else 'cpu'


def pytest_collection_modifyitems(items):
    """Skips all tests here where there is no CUDA."""
    if DEVICE == 'cpu' and not FAKE:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason='needs CUDA'))


@pytest.fixture(scope='session', autouse=True)
def about(record_testsuite_property):
    """Records the device and the versions."""
    record_testsuite_property('device', torch.cuda.get_device_name() if DEVICE == 'cuda'
                              else 'the CPU in place of a GPU')
    record_testsuite_property('torch', f'{torch.__version__}, CUDA {torch.version.cuda}')


@pytest.fixture
def note(record_property):
    """Returns a function that records a figure of the test, and its bound."""
    return lambda name, value, bound: record_property(name, f'{value:.4g} ({bound})')


@pytest.fixture(scope='session')
def trained(clips_root, tmp_path_factory):
    """Checkpoint and options of the demo's model after an epoch in fp32 on the device."""
    folder = tmp_path_factory.mktemp('trained')
    options = {'data_root': str(clips_root), 'classes': CLASSES, 'split.val_groups': 1,
               'num_frames': 4, 'input_size': (32, 32), 'batch_size': 4, 'num_workers': 0,
               'max_epochs': 1, 'precision': 'fp32', 'cache_dir': str(folder / 'cache')}
    return train(DEMO_CONFIG, work_dir=str(folder / 'run'), options=options), options
