"""The doctor finds every kind of fault where it was planted, and nothing in clean data."""

import json
import os
import shutil
import sys
from collections import Counter

import numpy as np
import pytest
from bad_decoder import MARKS
from conftest import CLASSES, call_hri30
from faults import FAULTS, KINDS, Garden

from hri30_ext.datasets import HRI30_CLASSES
from hri30_ext.datasets.leave_out import LEAVE_OUT, read_leave_out
from hri30_ext.doctor import KINDS as ALL_KINDS
from hri30_ext.doctor import examine, format_table, to_json
from hri30_ext.doctor.fingerprints import FingerprintStore
from hri30_ext.errors import HRI30Error
from hri30_ext.synthetic import write_dataset
from hri30_ext.utils.fileio import sha256_of

OPTIONS = dict(workers=2, progress=False)


@pytest.fixture
def root(clips_root, tmp_path):
    """A copy of three classes, three groups and some test clips, to change."""
    shutil.copytree(clips_root, tmp_path / 'data')
    return tmp_path / 'data'


def kinds(found, *severities):
    return sorted({finding.kind for finding in found.findings
                   if not severities or finding.severity in severities})


@pytest.mark.slow
def test_clean_data_and_every_planted_fault(tmp_path):
    whole = tmp_path / 'whole'
    write_dataset(whole, 2, 1, 2, size=(96, 64), workers=1, progress=False)
    found = examine(whole, **OPTIONS)
    assert found.exit_code == 0, format_table(found)
    assert set(kinds(found)) == {'unlike_hri30'}  # an info
    assert len(found.clips) == 180

    shutil.copytree(whole, tmp_path / 'planted')
    garden = Garden(tmp_path / 'planted', np.random.default_rng(1))
    planted = {name: plant(garden) for name, plant in FAULTS.items()}
    expected = Counter(pair for pairs in planted.values() for pair in pairs)
    found = examine(tmp_path / 'planted', seconds=3, decode='bad_decoder:inspect',
                    **OPTIONS)
    pairs = Counter((finding.kind, finding.path) for finding in found.findings)
    alarms = Counter((finding.kind, finding.path) for finding in found.findings
                     if finding.severity != 'info')
    assert not expected - pairs and not alarms - expected
    assert found.exit_code == 3
    assert set(KINDS) | {'unlike_hri30', 'missing_class', 'known_hole', 'irregular',
                         'interlaced', 'foreign_names', 'left_out', 'refused'} == set(
                             ALL_KINDS)
    died = {finding.kind: finding for finding in found.findings
            if finding.kind in ('crashes', 'hangs', 'memory')}
    assert 'SIGSEGV' in died['crashes'].detail and '6 seconds' in died['hangs'].detail
    assert 'memory' in died['memory'].detail
    for finding in died.values():  # they are known by their bytes
        path, facts = tmp_path / 'planted' / finding.path, found.clips[finding.path].facts
        assert (facts.sha256, facts.num_bytes) == (sha256_of(path), path.stat().st_size)
    table = format_table(found, cases=0)
    assert max(map(len, table.splitlines())) <= 100
    for _, path in expected:
        assert path in table


def test_no_folder_and_no_clips(tmp_path):
    with pytest.raises(HRI30Error, match='no such data folder'):
        examine(tmp_path / 'none')
    (tmp_path / 'train_set').mkdir()
    with pytest.raises(HRI30Error, match='no clips'):
        examine(tmp_path)


TWO_CLASSES = [f'train_set/CID{label:02d}_SID{group:02d}_VID01.avi' for label in (9, 10)
               for group in range(1, 13) if (label, group) != (10, 8)]


@pytest.mark.parametrize(('names', 'classes', 'expected'), [
    (TWO_CLASSES, HRI30_CLASSES, {('known_hole', 'train_set/CID10_SID08_VID01'),
                                  ('missing_class', 'train_set')}),
    # In other data it is a hole as any other.
    (TWO_CLASSES, (*HRI30_CLASSES[:9], 'Other'), {
        ('hole', 'train_set/CID10_SID08_VID01'), ('missing_class', 'train_set')}),
    # No plan, no holes.
    ([f'CID01_SID{group:02d}_VID{clip:02d}.avi' for group in range(1, 5)
      for clip in range(1, 2 * group)], ['Only'], {('irregular', '.')}),
    ([f'test_set/testvideo{number:03d}.avi' for number in range(1, 31) if number != 17],
     HRI30_CLASSES, {('hole', 'test_set/testvideo017')})])
def test_gaps_in_the_plan_of_groups_and_numbers(name_clips, names, classes, expected):
    found = examine(name_clips(*names), classes, **OPTIONS).findings
    assert {(finding.kind, finding.path) for finding in found
            if finding.kind != 'empty'} == expected


def test_annotation_by_the_alphabet_is_seen_in_every_row(name_clips):
    root = name_clips(*(f'train_set/CID{label:02d}_SID01_VID0{clip}.avi'
                        for label in range(1, 31) for clip in (1, 2)))
    (root / 'annotations').mkdir()
    (root / 'annotations/train_set_labels.csv').write_text(''.join(
        f'CID{label:02d}_SID01_VID0{clip},{sorted(HRI30_CLASSES)[label - 1]},{label}\n'
        for label in range(1, 31) for clip in (1, 2)))
    swapped = [finding for finding in examine(root, **OPTIONS).findings
               if finding.kind in ('swapped_labels', 'label_contradiction')]
    assert {finding.kind for finding in swapped} == {'swapped_labels'}
    assert [': '.join(finding.detail.split(': ')[:2]) for finding in swapped] == [
        f'row {row}: CID{label}_SID01_VID0{clip}'
        for row, label, clip in ((55, 28, 1), (56, 28, 2), (57, 29, 1), (58, 29, 2))]


@pytest.mark.parametrize('count', [1, 5])
def test_foreign_names_are_one_finding_and_offer_no_fix(name_clips, count):
    root = name_clips(*(f'train_set/jump {i}.avi' for i in range(count)))
    found = examine(root, **OPTIONS)
    assert Counter(finding.kind for finding in found.findings) == dict(
        foreign_names=1, empty=count)
    table = format_table(found)
    assert 'These are not HRI30 names: docs/your_data.md' in table and '--fix' not in table
    assert 'look for a common cause' in table


def test_test_clips_of_one_name_in_two_folders(root):
    clip = (root / 'test_set/testvideo001.avi').read_bytes()
    for name in ('x/a.avi', 'y/a.avi', 'y/a.mp4'):
        (root / 'test_set' / name).parent.mkdir(exist_ok=True)
        (root / 'test_set' / name).write_bytes(clip)
    with open(root / 'annotations/test_set_labels.csv', 'a') as file:
        file.write('x/a,DeliverObject,1\ny/a,DeliverObject,1\n')
    found = examine(root, CLASSES, **OPTIONS)
    assert [(f.kind, f.path) for f in found.findings if f.severity == 'error'] == [
        ('same_name', 'test_set/y/a.mp4')]
    (root / 'test_set/y/a.mp4').unlink()
    assert not examine(root, CLASSES, **OPTIONS).counts['error']


@pytest.mark.parametrize(('target', 'severity'), [
    ('train_set/CID01_SID02_VID01.avi', ['warning']),  # of another group
    ('train_set/CID02_SID01_VID01.avi', []),  # of one group: they may be as alike
    ('test_set/testvideo001.avi', ['error'])])
def test_changed_copies_are_compared_where_clips_are_not_alike_anyway(root, target,
                                                                      severity):
    garden = Garden(root, np.random.default_rng(0))
    garden.write(target, garden.frames('train_set/CID01_SID01_VID01.avi')[2:],
                 codec='mjpeg')
    found = examine(root, CLASSES, **OPTIONS)
    assert [finding.severity for finding in found.findings
            if finding.kind == 'near_duplicate'] == severity
    assert 'near_duplicate' not in kinds(examine(root, CLASSES, near=False, **OPTIONS))


def test_what_training_refuses_is_an_error_whatever_it_is(root, monkeypatch):
    def refuse(*arguments, **settings):
        raise HRI30Error('a new rule\nof training')
    monkeypatch.setattr('hri30_ext.doctor.examination.load_labelled_clips', refuse)
    found = examine(root, CLASSES, **OPTIONS)
    assert [(finding.kind, finding.detail) for finding in found.findings
            if finding.severity == 'error'] == [('refused', 'a new rule of training')]


@pytest.mark.parametrize('decode', ['math:factorial', 'builtins:len'])
def test_answer_of_a_decoder_that_was_taken_over_is_checked(root, decode):
    found = examine(root, CLASSES, decode=decode, **OPTIONS)
    assert kinds(found, 'error') == ['undecodable']


def test_clip_that_ended_its_process_is_read_once_more(root):
    """Only what happens twice is a finding of the clip."""
    clips = sorted((root / 'train_set').iterdir())[:len(MARKS)]
    for path, mark in zip(clips, MARKS.values(), strict=True):
        path.write_bytes(path.read_bytes() + mark)
    found = examine(root, CLASSES, seconds=3, decode='bad_decoder:inspect_again', **OPTIONS)
    assert not kinds(found, 'error')
    assert len(list(root.parent.glob('*.seen'))) == 12
    for path in clips:
        assert found.clips[f'train_set/{path.name}'].facts.sha256 == sha256_of(path)


def test_process_that_cannot_be_started_is_no_fault_of_a_clip(root, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'executable', str(root / 'no python'))
    assert call_hri30('check', root, '--classes', *CLASSES, '--fix') == 2
    said = capsys.readouterr()
    assert 'could not be started' in said.err and 'fault of the machine' in said.err
    assert 'CID01' not in said.out and not (root / LEAVE_OUT).exists()


def test_exit_codes_and_json(root, tmp_path, monkeypatch, capsys):
    common = [root, '--classes', *CLASSES, '--workers', 2]
    assert call_hri30('check', *common) == 0
    assert 'The data are clean.' in capsys.readouterr().out
    (root / 'stray.avi').write_bytes(b'')
    assert call_hri30('check', *common) == 1
    target = root / 'train_set' / 'CID01_SID01_VID01.avi'
    target.write_bytes(b'')
    assert call_hri30('check', *common, '--json', tmp_path / 'found.json') == 3
    assert 'CID01_SID01_VID01.avi' in capsys.readouterr().out
    found = json.loads((tmp_path / 'found.json').read_text())
    assert found['version'] == 1 and found['exit_code'] == 3
    assert found['counts'] == dict(error=1, warning=1, info=1)
    assert found['findings'][0] == dict(
        kind='empty', severity='error', path='train_set/CID01_SID01_VID01.avi',
        detail='it has no bytes')
    clip = found['clips']['train_set/CID01_SID02_VID01.avi']
    assert clip['split'] == 'train' and clip['codec'] == 'mpeg4'
    assert clip['width'] == 96 and clip['seconds'] == round(clip['frames'] / 30, 3)
    assert call_hri30('check', *common, '--fix') == 1  # the stray clip is left
    assert 'leaves out 1 clips' in capsys.readouterr().out
    assert read_leave_out(root) == {
        'train_set/CID01_SID01_VID01.avi': 'empty: it has no bytes'}
    assert call_hri30('check', *common) == 1
    assert call_hri30('check', root, '--undo') == 0
    assert 'Deleted' in capsys.readouterr().out and not (root / LEAVE_OUT).exists()
    assert call_hri30('check', root, '--undo') == 2
    assert call_hri30('check', tmp_path / 'none') == 2
    assert 'error: ' in capsys.readouterr().err
    assert call_hri30('check', root, '--workers', 0) == 2


def test_names_cannot_drive_the_terminal_and_survive_json(root):
    evil = b'evil\x1b[2J\r\xe2\x80\xae\xff.avi'
    path = f'test_set/{os.fsdecode(evil)}'
    shutil.copy(root / 'test_set/testvideo001.avi', root / path)
    found = examine(root, CLASSES, store=root.parent / 'store.json', **OPTIONS)
    assert FingerprintStore(root.parent / 'store.json').get(root / path)
    assert ('malformed_name', path) in [(f.kind, f.path) for f in found.findings]
    table = format_table(found)
    assert r'evil\x1b[2J\r\u202e\xff.avi' in table
    assert all(c.isprintable() or c == '\n' for c in table)
    read = json.loads(json.dumps(to_json(found)))
    assert path in read['clips'] and read['clips'][path]['frames'] > 0
