"""Shared fixtures: rendered clips and a demo config shrunk to seconds."""

import os
import shutil
import signal
import subprocess
import sys
from unittest import mock

import pytest

os.environ.setdefault('MPLBACKEND', 'Agg')
# Tests expect what a CPU computes, bit for bit, and run more processes than there may be
# GPUs. HRI30_TEST_GPU=1 leaves GPUs visible.
if not os.environ.get('HRI30_TEST_GPU'):
    os.environ['CUDA_VISIBLE_DEVICES'] = ''

import mmengine.config.config
import numpy as np
import torch
from mmengine.registry import init_default_scope

import hri30_ext.modules  # noqa: F401
from hri30_ext.apis import train
from hri30_ext.checkpoints import Essentials
from hri30_ext.cli.__main__ import main as command_line
from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.datasets import HRI30_CLASSES
from hri30_ext.synthetic import write_dataset

# yapf takes a third of the time of a small training. Its input is valid Python, too; tests
# that run tools in processes of their own use it.
mmengine.config.config.FormatCode = lambda text, **_: (text, False)

init_default_scope('mmaction')
# Run by their own commands: tests/nightly/run.py, tests/benchmark/run.py, pytest tests/gpu.
collect_ignore = ['benchmark', 'gpu', 'nightly']
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
#: Marks tests that open a page in a browser.
in_browser = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get('CI') != 'true',
    reason='no chromium: apt-get install chromium')
CLASSES = list(HRI30_CLASSES[:3])
#: The command line.
HRI30 = [sys.executable, '-m', 'hri30_ext.cli']
DEMO_CONFIG = str(next((PROJECT_ROOT / 'configs' / 'demo').glob('*.py')))
#: Settings that make its model small, for tests that write many checkpoints.
TINY = {'model.backbone.base_channels': 8, 'model.cls_head.in_channels': 64}
PRIMITIVE = str(PROJECT_ROOT / 'configs' / 'slowonly' /
                'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py')


def run_tool(verb, *arguments, cwd, **environment):
    """Runs a verb of hri30 with these environment variables."""
    return subprocess.run(
        [*HRI30, verb, *map(str, arguments)], capture_output=True, text=True, cwd=cwd,
        env={**os.environ, **environment}, timeout=300)


def call_hri30(*arguments):
    """Runs a verb of hri30 in this process; returns its exit status."""
    with mock.patch.object(sys, 'argv', ['hri30', *map(str, arguments)]):
        try:
            command_line()
        except SystemExit as ended:
            return ended.code or 0
    return 0


def as_arguments(options):
    """Returns settings as arguments of a program."""
    return ['--cfg-options', *(
        f'{name}={",".join(value) if name == "classes" else value}'.replace(', ', ',')
        for name, value in options.items())]


def random_checkpoint(config, options, path, std=None):
    """Writes a checkpoint with random weights; std is that of the classifier."""
    from mmaction.registry import MODELS  # after the module that mends its import
    cfg = load_config(config, {**options, 'load_from': None})
    cfg.model.backbone.pretrained = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    if std:
        torch.nn.init.normal_(model.cls_head.fc_cls.weight, std=std)
    torch.save(dict(state_dict=model.state_dict(), meta=dict(
        dataset_meta=dict(classes=cfg.classes),
        hri30=Essentials.from_config(cfg).to_dict())), path)
    return str(path)


@pytest.fixture(autouse=True)
def defaults(monkeypatch):
    """Tests set data_root themselves, build modules by mmaction2's names, and draw the
    same numbers in any order."""
    monkeypatch.delenv('HRI30_ROOT', raising=False)
    torch.manual_seed(0)
    np.random.seed(0)
    yield
    init_default_scope('mmaction')  # a test may have changed it


@pytest.fixture
def heeded_signals():
    """Gives signals their default effect, also if the tests run under nohup."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in
              (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope='session')
def clips_root(tmp_path_factory):
    """Three classes, three groups and one test group, 96 x 64 pixels. Read-only."""
    root = tmp_path_factory.mktemp('data') / 'synthetic clips ü'
    write_dataset(root, train_groups=3, test_groups=1, clips=1, size=(96, 64),
                  classes=(1, 2, 3), progress=False)
    return root


@pytest.fixture
def root(clips_root, tmp_path):
    """A copy of the clips, to damage."""
    return shutil.copytree(clips_root, tmp_path / 'clips')


def small_settings(root, cache):
    """Settings with which the demo's config trains in seconds, equally on every CPU."""
    return {'data_root': str(root), 'classes': CLASSES, 'split.val_groups': 1,
            'num_frames': 4, 'input_size': (32, 32), 'batch_size': 4, 'num_workers': 0,
            'max_epochs': 2, 'precision': 'fp32', 'cache_dir': str(cache),
            'report': False}


@pytest.fixture(scope='session')
def demo(clips_root, tmp_path_factory):
    """The work folder of two epochs of the demo's config, and its settings. Read-only."""
    folder = tmp_path_factory.mktemp('demo')
    settings = {**small_settings(clips_root, folder / 'cache'), 'leak_check': None}
    train(DEMO_CONFIG, str(folder), options=settings)
    return folder, settings


@pytest.fixture
def options(clips_root, tmp_path):
    """Those small settings, of this test."""
    return small_settings(clips_root, tmp_path / 'cache')


@pytest.fixture
def checkpoint(options, tmp_path):
    """The demo's model with random weights."""
    return random_checkpoint(DEMO_CONFIG, options, tmp_path / 'random.pth', std=1)


@pytest.fixture(scope='session')
def browser():
    """Chromium, with a camera that shows a moving picture."""
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright, playwright.chromium.launch(
            executable_path=CHROMIUM, args=[
                '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
                *(['--no-sandbox'] if os.getuid() == 0 else [])]) as browser:
        yield browser


@pytest.fixture
def name_clips(tmp_path):
    """Returns a function that makes empty files with given names."""
    def make(*names, root=tmp_path / 'named'):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        return root
    return make
