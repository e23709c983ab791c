"""The nightly programs, in small."""

import importlib.util

from hri30_ext.config import PROJECT_ROOT

spec = importlib.util.spec_from_file_location(
    'upstream', PROJECT_ROOT / 'tests' / 'nightly' / 'upstream.py')
upstream = importlib.util.module_from_spec(spec)
spec.loader.exec_module(upstream)


def test_outcomes_of_upstream_are_compared_with_those_expected():
    found = upstream.Outcomes()
    found.failed, found.passed = {'a', 'b'}, {'c', 'd'}
    assert upstream.compare(found, dict(b='a network', d='imgaug', e='pims')) == [
        'failed unexpectedly: a', 'not run: e, expected to fail: pims',
        'passed unexpectedly: d, expected to fail: imgaug']
    assert upstream.compare(found, dict(a='x', b='y')) == []


def test_expected_failures_have_reasons():
    expected = upstream.read_expected(upstream.EXPECTED.read_text('utf-8'))
    assert all(test.startswith('tests/') and reason for test, reason in expected.items())
    assert len(expected) > 10
