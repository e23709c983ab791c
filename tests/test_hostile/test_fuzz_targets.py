"""Runs every seed of the fuzzers, and properties that hypothesis tries to break."""

import importlib
import random
import sys

import pytest
from conftest import PROJECT_ROOT

sys.path.insert(0, str(PROJECT_ROOT / 'tests' / 'nightly' / 'fuzz'))
from mutate import find_chunks, mutate, seed_videos
from run import TARGETS, seeds  # tests/nightly/fuzz/run.py

hypothesis = pytest.importorskip('hypothesis')
st = hypothesis.strategies
bounded = hypothesis.settings(derandomize=True, max_examples=100, deadline=None,
                              database=None)
CORPORA = [target for target in TARGETS if target != 'videos']


@pytest.mark.parametrize('target', CORPORA)
def test_seeds_are_no_faults(target):
    module = importlib.import_module(target)
    inputs = seeds(target)
    assert len(inputs) >= 12
    for data, _ in inputs:
        module.one_input(data)


@pytest.mark.parametrize('target', ['names', 'annotation', 'documents', 'options'])
def test_damaged_seeds_are_no_faults(target):
    module = importlib.import_module(target)
    for number, (data, _) in enumerate(seeds(target)):
        rng = random.Random(number)
        for _ in range(5):
            module.one_input(mutate(data, rng))


@bounded
@hypothesis.given(st.integers(0, 255), st.text(max_size=60))
def test_any_name_is_safe(num_classes, name):
    importlib.import_module('names').one_input(
        bytes([num_classes]) + name.encode('utf-8', 'surrogatepass'))


ROWS = st.lists(st.tuples(
    st.text(max_size=20), st.sampled_from(['Walking', 'DeliverObject', 'Other', '']),
    st.one_of(st.integers(-2, 5).map(str), st.text(max_size=5))), max_size=6)


@bounded
@hypothesis.given(ROWS, st.sampled_from(['\n', '\r\n', '\r', '']))
def test_any_annotation_is_read_or_refused(rows, end):
    text = end.join(','.join(row) for row in rows)
    importlib.import_module('annotation').one_input(text.encode('utf-8', 'surrogatepass'))


KEYS = st.sampled_from(['num_frames', 'classes', 'data_root', 'split.val_groups', 'decay',
                        'pipeline.0.frames', 'flip', 'num_workers', 'model.type', 'new.a'])


@bounded
@hypothesis.given(st.lists(st.tuples(KEYS, st.text(max_size=15)), max_size=3))
def test_any_option_is_a_value_or_refused(pairs):
    text = '\n'.join(f'{key}={value}' for key, value in pairs)
    importlib.import_module('options').one_input(text.encode('utf-8', 'surrogatepass'))


def test_damage_repeats_itself_and_knows_containers(tmp_path):
    for path in seed_videos(tmp_path):
        data = path.read_bytes()
        damaged = [mutate(data, random.Random(seed)) for seed in range(40)]
        assert damaged == [mutate(data, random.Random(seed)) for seed in range(40)]
        assert sum(one != data for one in damaged) >= 30
        assert (len(find_chunks(data)) > 10) == (path.suffix != '.dv')
    assert mutate(b'', random.Random(0)) is not None


def test_videos_that_were_faults_are_refused(tmp_path):
    """A DV file whose sound begins in its midst, which PyAV did not know."""
    path, = (path for path in seed_videos(tmp_path) if path.suffix == '.dv')
    rng = random.Random('2-18092')
    rng.choice(range(6))
    importlib.import_module('videos').one_input(mutate(path.read_bytes(), rng), '.dv')
