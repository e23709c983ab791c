"""Searching settings: what is tried, what is given up, what is kept."""

import math
from types import SimpleNamespace

import pytest
from conftest import DEMO_CONFIG, as_arguments, run_tool

from hri30_ext.apis import searching
from hri30_ext.config import load_config
from hri30_ext.errors import HRI30Error, Interrupted

pytest.importorskip('optuna', reason='the extra "search" is not installed')

SPACE = ['lr=1e-4:1e-2:log', 'decay=cosine,step']
OPTIONS = ['warmup_epochs=0', 'data_root=here', 'split.seed=7']


@pytest.fixture
def trained(monkeypatch):
    """Stands in for training: the nearer lr is to 1e-3 the better, and step is worse."""
    runs = []

    def fake(run, hooks):
        runs.append(run)
        values = searching.parse_options(list(run.settings))
        right = 1 - abs(math.log10(values['lr']) + 3) - 0.1 * (values['decay'] == 'step')
        if len(runs) == 4:
            raise HRI30Error('memory ran out')
        for epoch in (1, 2):
            hooks[0].after_val_epoch(SimpleNamespace(epoch=epoch),
                                     {'top1': right * epoch / 2})
        return {'top1': right}

    monkeypatch.setattr(searching, 'train_and_test', fake)
    monkeypatch.setattr(searching, 'run_queue', lambda function, jobs: (
        function(*job) for job in jobs))
    return runs


def test_space():
    parsed = searching.parse_space(['lr=1e-4:1e-2:log', 'num_frames=4:16', 'flip=None,x',
                                    'input_size=(32,32),(48,32)'])
    assert [type(one).__name__ for one in parsed.values()] == [
        'FloatDistribution', 'IntDistribution', 'CategoricalDistribution',
        'CategoricalDistribution']
    assert parsed['lr'].log and (parsed['num_frames'].low, parsed['num_frames'].high) == (
        4, 16)
    assert parsed['input_size'].choices == ('(32,32)', '(48,32)')
    for wrong in ('lr', 'lr=1', 'lr=2:1', 'lr=0:1:log', 'flip=a', 'lr=e:1'):
        with pytest.raises(HRI30Error, match='--space .*\nExpected KEY=LOW:HIGH'):
            searching.parse_space([wrong])


def test_wrong_settings_end_before_any_training(trained, tmp_path):
    for wrong, words in (('lr=-1:1', 'expected a number from 0'),
                         ('decay=cosine,stepp', 'no such choice')):
        with pytest.raises(HRI30Error, match=words):
            searching.search(DEMO_CONFIG, [wrong], 3, str(tmp_path / 'out'))
    assert not trained and not (tmp_path / 'out').exists()


def test_a_search_is_kept_and_goes_on(trained, tmp_path, capsys):
    out = tmp_path / 'out'
    best = searching.search(DEMO_CONFIG, SPACE, 12, str(out), OPTIONS)
    assert len(trained) == 12
    printed = capsys.readouterr().out
    assert printed.count('pruned after 1 epochs') >= 2 and 'failed: memory' in printed
    right = 1 - abs(math.log10(best['settings']['lr']) + 3)
    assert best['top1'] == pytest.approx(right, abs=1e-9) and best['top1'] > 0.8
    assert best['settings']['decay'] == 'cosine'
    cfg = load_config(str(out / 'best.py'))  # a variant that says what differs
    assert cfg.lr == best['settings']['lr'] and cfg.split.seed == 7
    assert cfg.split.type == 'group' and cfg.warmup_epochs == 0
    assert (out / 'best.py').read_text().count('\n') <= 9
    assert (out / 'search.png').stat().st_size > 10_000
    again = searching.search(DEMO_CONFIG, SPACE, 13, str(out), OPTIONS)
    assert len(trained) == 14 and again['top1'] >= best['top1']  # and the failed one
    assert len({run.folder for run in trained}) == 14
    with pytest.raises(HRI30Error, match='holds another search'):
        searching.search(DEMO_CONFIG, SPACE[:1], 13, str(out), OPTIONS)


def test_a_signal_and_the_first_failure_end_a_search(trained, monkeypatch, tmp_path):
    def fail(run, hooks):
        raise HRI30Error('it ended') from cause

    arguments = DEMO_CONFIG, SPACE, 3, str(tmp_path / 'out'), OPTIONS
    cause = None
    with monkeypatch.context() as patch, pytest.raises(HRI30Error, match='it ended'):
        patch.setattr(searching, 'train_and_test', fail)
        searching.search(*arguments)
    searching.search(*arguments)
    cause = Interrupted('SIGTERM: saved', 15)
    monkeypatch.setattr(searching, 'train_and_test', fail)
    with pytest.raises(HRI30Error, match='it ended'):
        searching.search(*arguments[:2], 5, *arguments[3:])


def test_without_optuna(monkeypatch):
    monkeypatch.setattr(searching, 'optuna', None)
    with pytest.raises(HRI30Error, match='(?s)package optuna.*tools/setup.sh'):
        searching.parse_space(SPACE)


@pytest.mark.slow
def test_tool_from_a_space_to_a_config(options, tmp_path):
    done = run_tool('analysis/search.py', DEMO_CONFIG, '--space', 'lr=1e-4:1e-2:log',
                    'flip=None,label_aware', '--trials', 1, '--out', tmp_path / 'out',
                    *as_arguments({**options, 'report': False, 'max_epochs': 1}),
                    cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'Best: trial ' in done.stdout and done.stdout.count(': top-1 ') == 1
    cfg = load_config(str(tmp_path / 'out' / 'best.py'))
    assert 1e-4 <= cfg.lr <= 1e-2 and cfg.data_root == options['data_root']
