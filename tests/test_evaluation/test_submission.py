"""Checking submissions."""

import pytest
from conftest import run_tool

from hri30_ext.datasets import HRI30_CLASSES
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.submission import (
    check_submission,
    format_findings,
    read_spellings,
)
from hri30_ext.names import released_name

NAMES = [released_name(name) for name in HRI30_CLASSES]
ROWS = [f'testvideo{i:03},{name},{i}' for i, name in enumerate(NAMES, 1)]


@pytest.fixture
def root(name_clips):
    """30 test clips and the training file."""
    root = name_clips(*(f'test_set/testvideo{i:03}.avi' for i in range(1, 31)))
    (root / 'annotations').mkdir()
    (root / 'annotations' / 'train_set_labels.csv').write_text(''.join(
        f'CID{i:02}_SID01_VID01,{name},{i}\n' for i, name in enumerate(NAMES, 1)))
    return root


@pytest.fixture
def check(root, tmp_path):
    """Checks a submission: its bytes, or its rows."""
    def run(content):
        if not isinstance(content, bytes):
            content = ''.join(f'{row}\n' for row in content).encode()
        path = tmp_path / 'submission.csv'
        path.write_bytes(content)
        return check_submission(path, root)
    return run


def test_a_clean_one(check):
    findings = check(ROWS)
    assert findings.status == 0 and findings.rows == 30
    assert format_findings(findings, 'x.csv') == 'x.csv: 30 rows, nothing to correct.'


def test_rows_against_clips(check):
    findings = check([*ROWS[:5], *ROWS[6:], ROWS[0], 'other,Walking,27'])
    assert findings.status == 2
    assert findings.errors == {
        'Clips that stand there twice': ["line 30: 'testvideo001', as in line 1"],
        'Rows without a test clip': ["line 31: 'other'"],
        'Test clips without a row': ['testvideo006']}
    assert findings.warnings == {
        'Classes that are never predicted': ['6 MoveDiagonallyBackwardRightWithDrill']}


def test_the_swap_of_28_and_29_is_said_in_words(check):
    rows = [*ROWS[:27], 'testvideo028,WalkingWithObject,29',
            'testvideo029,WalkingWithDrill,28', ROWS[29]]
    text = format_findings(check(rows), 'x.csv')
    assert 'swapped' in text and 'alphabetical order' in text
    assert '28 is WalkingWithObject, 29 is WalkingWithDrill.' in text
    assert 'line 28: WalkingWithObject has id 29, expected 28' in text


def test_ids_that_count_from_zero_or_anyhow(check):
    from_zero = [f'testvideo{i:03},{name},{i - 1}' for i, name in enumerate(NAMES, 1)]
    assert any('count from 0' in what for what in check(from_zero).errors)
    errors = check([ROWS[0].replace(',1', ',7'), ROWS[1].replace(',2', ',031'),
                    *ROWS[2:]]).errors
    assert errors == {
        'Class ids other than 1 to 30': ["line 2: '031'"],
        'Class ids that are not those of their names': [
            'line 1: DeliverObject has id 7, expected 1']}


def test_spelling(check):
    rows = [*ROWS[:17], 'testvideo018,NoCollaborativeWithDrill,18',
            'testvideo019,Juggling,19', *ROWS[19:]]
    assert check(rows).errors == {
        'Names that the training file spells otherwise': [
            "line 18: 'NoCollaborativeWithDrill', there NoCollaborativeWithDrilll "
            '(with three l)'],
        'Unknown class names': ["line 19: 'Juggling'"]}


def test_form(check):
    rows = ['video,class,id', ROWS[0].replace(',', '.avi,', 1), ROWS[1] + ' ',
            ROWS[2].replace(',', ';'), '', *ROWS[3:]]
    findings = check(b'\xef\xbb\xbf' + '\r\n'.join(rows).encode())
    assert {what.split(';')[0].split(',')[0] for what in findings.errors} == {
        'A byte order mark', 'A header', 'Video ids with an ending',
        'Spaces around a column', 'Not video_id', 'Test clips without a row'}
    assert findings.errors['Test clips without a row'] == ['testvideo003']
    assert {what.split(';')[0] for what in findings.warnings} == {
        'Line ends of Windows', 'The last line does not end', 'Empty lines',
        'Classes that are never predicted'}


@pytest.mark.parametrize('content, what', [
    (b'', 'The file is empty'), (b'\n \n', 'The file is empty'),
    (b'PK\0\x03', 'Not a text file'), ('a,b,1\n'.encode('utf-16'), 'Not a text file'),
    (b'a,b,1\n\xff\n', 'Not a text file in UTF-8')])
def test_what_is_no_submission_at_all(check, content, what):
    findings = check(content)
    assert findings.status == 2 and list(findings.errors) == [what]


def test_other_classes_and_a_training_file_that_is_wrong(root, check):
    path = root / 'annotations' / 'train_set_labels.csv'
    path.unlink()
    assert read_spellings(root) == NAMES
    path.write_text('a,Wave,1\nb,Point,2\n')
    assert read_spellings(root) == ['Wave', 'Point']
    assert 'Class ids other than 1 to 2' in check(ROWS).errors
    path.write_text('a,Wave,1\nb,Point,1\n')
    with pytest.raises(HRI30Error, match="class 1 is 'Wave' and 'Point'"):
        read_spellings(root)
    path.write_text('a,Wave,1\nb,Point,3\n')
    with pytest.raises(HRI30Error, match='without gaps'):
        read_spellings(root)


def test_the_tool(root, tmp_path):
    path = tmp_path / 'submission.csv'
    rows = [ROWS[0], ROWS[2], ROWS[1], *ROWS[3:]]
    path.write_text(''.join(f'{row}\n' for row in rows))
    ran = run_tool('submission', path, '--root', root, cwd=tmp_path)
    assert ran.returncode == 1 and not ran.stderr
    assert ('warning: Rows that are not sorted by name:\n  line 2: testvideo003, where '
            'testvideo002 comes in order\n') in ran.stdout
