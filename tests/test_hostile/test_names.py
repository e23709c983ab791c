"""Files with hostile names, from the folder of clips to everything that names them."""

import csv
import os
import shutil

import numpy as np
import pytest
from conftest import CLASSES, DEMO_CONFIG

from hri30_ext.apis import test as run_test
from hri30_ext.datasets.hri30 import load_labelled_clips, load_test_clips
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.results import Results
from hri30_ext.evaluation.submission import check_submission
from hri30_ext.utils.text import printable, unescape_cell

PRINTED = ['=HYPERLINK(1)', '+1+1', '@SUM(1)', '-rf', '$(touch x)', ';reboot', '`id`',
           '<script>alert(1)<', '&amp;', "'single'", '\uff1d1', 'a b', '%2e%2e', 'x' * 251,
           '日本', '{{7*7}}', '${HOME}']
UNPRINTED = ['a\x1b[2Jb', 'a\nb', '\u202egva', 'a\tb', os.fsdecode(b'a\xffb'), 'a\u2028b']


@pytest.fixture
def root(clips_root, tmp_path):
    """A data folder with the training clips, and no test clips yet."""
    folder = tmp_path / 'data'
    (folder / 'test_set').mkdir(parents=True)
    (folder / 'train_set').symlink_to(clips_root / 'train_set')
    return folder


def add_clips(root, clips_root, names):
    clip = next(iter(sorted((clips_root / 'test_set').iterdir())))
    for name in names:
        shutil.copy(clip, root / 'test_set' / f'{name}.avi')


@pytest.mark.slow
def test_printed_names_do_no_harm(root, clips_root, options, checkpoint, tmp_path):
    add_clips(root, clips_root, PRINTED)
    before = sorted(tmp_path.iterdir()), sorted(os.listdir())
    run_test(DEMO_CONFIG, checkpoint, split='test', out=str(tmp_path / 'out'),
             options={**options, 'data_root': str(root), 'report': True})
    folder = tmp_path / 'out' / 'test'
    with open(folder / 'predictions.csv', newline='', encoding='utf-8') as file:
        rows = list(csv.DictReader(file))
    files = sorted(f'{name}.avi' for name in PRINTED)
    assert [unescape_cell(row['Video']) for row in rows] == files
    assert not [row['Video'] for row in rows if row['Video'][0] in '=+-@\uff1d']
    lines = (folder / 'test_set_labels.csv').read_text(encoding='utf-8').splitlines()
    assert [line.split(',')[0] for line in lines] == sorted(PRINTED)
    assert check_submission(folder / 'test_set_labels.csv', root) == len(PRINTED)
    assert Results.load(folder).videos == files
    page = (folder / 'report.html').read_text(encoding='utf-8')
    assert '<script>alert' not in page
    # Nothing was made by a name.
    assert sorted(set(tmp_path.iterdir()) - {tmp_path / 'out', tmp_path / 'cache'}) == [
        path for path in before[0] if path.name not in ('out', 'cache')]
    assert sorted(os.listdir()) == before[1]


@pytest.mark.slow
def test_unprinted_names_are_refused_in_a_submission(root, clips_root, options, checkpoint,
                                                     tmp_path):
    add_clips(root, clips_root, UNPRINTED)
    with pytest.raises(HRI30Error, match='in a submission') as error:
        run_test(DEMO_CONFIG, checkpoint, split='test', out=str(tmp_path / 'out'),
                 options={**options, 'data_root': str(root)})
    assert all(line.isprintable() for line in str(error.value).splitlines())
    # What was computed is kept.
    folder = tmp_path / 'out' / 'test'
    with open(folder / 'predictions.csv', newline='', encoding='utf-8',
              errors='surrogateescape') as file:
        rows = list(csv.DictReader(file))
    files = sorted(f'{name}.avi' for name in UNPRINTED)
    assert [unescape_cell(row['Video']) for row in rows] == files
    assert not (folder / 'test_set_labels.csv').exists()
    found = Results.load(folder)
    assert found.videos == files and np.isfinite(found.scores_NK).all()


def test_clips_lead_out_of_no_folder(root, clips_root, tmp_path):
    add_clips(root, clips_root, ['good'])
    (root / 'annotations').mkdir()
    annotation = root / 'annotations' / 'test_set_labels.csv'
    annotation.write_text('../../etc/passwd,DeliverObject,1\n')
    with pytest.raises(HRI30Error, match='annotated, and no such clip'):
        load_test_clips(root, CLASSES)
    annotation.write_text('good,DeliverObject,1\n')
    found, = load_test_clips(root, CLASSES)
    assert found['filename'] == str(root / 'test_set' / 'good.avi')


def test_wrong_names_are_printed_on_one_line_each(tmp_path):
    (tmp_path / 'train_set').mkdir()
    for name in UNPRINTED:
        (tmp_path / 'train_set' / f'{name}.avi').touch()
    with pytest.raises(HRI30Error) as error:
        load_labelled_clips(tmp_path, CLASSES)
    text = str(error.value)
    assert text.count('\n') == 5 and printable(text, keep='\n') == text
