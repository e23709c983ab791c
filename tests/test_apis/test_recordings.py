"""Long recordings: cutting by a table, and the truth of a timeline."""

import csv
import shutil

import numpy as np
import pytest

from hri30_ext.apis.recordings import cut_table, read_truth
from hri30_ext.datasets.layouts import read_layout
from hri30_ext.errors import HRI30Error
from hri30_ext.synthetic import render_clip, write_video
from hri30_ext.video.decode import Video

HEAD = 'path,label,start,end\n'
# A keyframe every half a second.
PARTS = ('day1/long.avi,Wave,0.5,1\nday1/long.avi,Point,0.8,1.2\nday2/long.avi,Wave,1,1.4\n'
         'day2/long.avi,Point,1.4,2.1\n')


@pytest.fixture(scope='module')
def recordings(tmp_path_factory):
    """Two recordings of one name, of 2.4 s."""
    root = tmp_path_factory.mktemp('recordings')
    for day in ('day1', 'day2'):
        (root / day).mkdir()
        clips = [render_clip(i, 1, 1, size=(96, 64))[:36] for i in (1, 2)]
        write_video(np.concatenate(clips), root / day / 'long.avi')
    return root


@pytest.fixture
def table(tmp_path):
    def write(text):
        (tmp_path / 'parts.csv').write_text(text)
        return str(tmp_path / 'parts.csv')
    return write


def test_a_table_becomes_class_folders_with_recordings_as_groups(recordings, table,
                                                                 tmp_path):
    out, lines = tmp_path / 'out', []

    def cut(**settings):
        return cut_table(table(HEAD + PARTS), recordings, out, report=lines.append,
                         **settings)
    assert cut() == 0 and '4 clips' in lines[0]
    rows = [*csv.DictReader((out / 'clips.csv').read_text().splitlines())]
    assert [(row['path'], row['label'], row['group']) for row in rows] == [
        ('Wave/day1_long_0.5-1.mp4', 'Wave', 'day1/long.avi'),
        ('Point/day1_long_0.8-1.2.mp4', 'Point', 'day1/long.avi'),
        ('Wave/day2_long_1-1.4.mp4', 'Wave', 'day2/long.avi'),
        ('Point/day2_long_1.4-2.1.mp4', 'Point', 'day2/long.avi')]
    assert [len(Video(out / row['path'])) for row in rows] == [15, 12, 12, 21]
    layout = read_layout(out)
    assert layout.classes == ['Point', 'Wave'] and len(layout.groups) == 2
    with pytest.raises(HRI30Error, match=r'(?s)5 files exist:.*--overwrite'):
        cut()
    assert cut(overwrite=True) == 0


def test_a_damaged_part_costs_its_clip_alone(recordings, table, tmp_path):
    content = bytearray((recordings / 'day1' / 'long.avi').read_bytes())
    shutil.copytree(recordings, tmp_path / 'data')
    frames = [i for i in range(len(content)) if content[i:i + 4] == b'00dc'][1:73]
    for at in frames[20:30]:
        content[at + 8:at + 40] = bytes(32)
    (tmp_path / 'data' / 'day1' / 'long.avi').write_bytes(content)
    lines, out = [], tmp_path / 'out'
    rows = HEAD + PARTS.replace('0.5,1\n', '0.1,0.4\n')
    assert cut_table(table(rows), tmp_path / 'data', out, report=lines.append) == 1
    assert '1 clips could not be cut' in lines[1] and 'line 3' in lines[1]
    assert len([*out.glob('*/*')]) == 3 == len((out / 'clips.csv').read_text().split()) - 1


@pytest.mark.parametrize('row, expected', [
    ('day1/long.avi,Wave,1,3', 'line 2: .*long.avi: the part .* 3 s is not within the 2.4'),
    ('day1/long.avi,Wave,2,1', 'line 2: start 2, end 1'),
    ('day1/long.avi,Wave,,', 'line 2: day1/long.avi has no start and end'),
    ('day1/long.avi,,0,1', 'line 2: day1/long.avi has no label'),
    ('day1/long.avi,../x,0,1', "label '../x' cannot name a folder"),
    ('day3/long.avi,Wave,0,1', 'line 2: day3/long.avi')])
def test_a_wrong_table_cuts_nothing(recordings, table, tmp_path, row, expected):
    with pytest.raises(HRI30Error, match=expected):
        cut_table(table(f'{HEAD}{row}\n{PARTS}'), str(recordings), tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_truth_of_recordings(recordings, table):
    truth = read_truth(table(f'{HEAD}/else/long,Wave,0,1\n'
                             'long,Point,1,2\nday1/long,Wave,0,1\nday2/long,Wave,0.5,1\n'),
                       str(recordings / 'day1'), ['Point', 'Wave'])
    assert truth == {'long.avi': [(0, 1, 'Wave'), (1, 2, 'Point')]}


@pytest.mark.parametrize('rows, expected', [
    ('long.avi,Wave,0,1\nlong.avi,Point,0.9,2', r'line 3: Point begins at 0\.9 s, before '
     r'Wave ends at 1 s \(.*line 2'),
    ('long.avi,Wvae,0,1', 'line 2: Wvae is no class; nearest: Wave'),
    ('long.avi,Wave,0,3', 'not within'), ('long.avi,Wave,,', 'no start and end'),
    ('lang.avi,Wave,0,1', 'does not mention long.avi')])
def test_a_wrong_truth_is_a_message(recordings, table, rows, expected):
    with pytest.raises(HRI30Error, match=expected):
        read_truth(table(f'{HEAD}{rows}\n'), str(recordings / 'day1' / 'long.avi'),
                   ['Point', 'Wave'])
