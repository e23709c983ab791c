"""tools/predict.sh: from what a user names to a table, files and a video."""

import csv
import json
import shutil

import av
import numpy as np
import pytest
import torch
from brightness import make_recognizer
from conftest import CLASSES, DEMO_CONFIG, call_hri30, run_tool
from mmaction.registry import MODELS

from hri30_ext.apis import predicting
from hri30_ext.apis.predicting import find_clips
from hri30_ext.apis.recognizer import Recognizer, find_config_of
from hri30_ext.checkpoints import META_KEY, Essentials, save_safetensors
from hri30_ext.config import load_config
from hri30_ext.deploy.runtime.certainty import ClassSets, OpenSet
from hri30_ext.deploy.runtime.video_io import FileSource
from hri30_ext.errors import HRI30Error
from hri30_ext.synthetic.video import write_video


@pytest.fixture
def checkpoint(options, tmp_path):
    """Random weights with this project's record, of other settings than the config's."""
    cfg = load_config(DEMO_CONFIG, options)
    save_safetensors(MODELS.build(cfg.model).state_dict(), tmp_path / 'best.safetensors',
                     Essentials.from_config(cfg))
    return tmp_path / 'best.safetensors'


@pytest.fixture
def clips(clips_root, tmp_path):
    """Two whole clips and a broken one."""
    folder = tmp_path / 'clips'
    folder.mkdir()
    for name, source in zip('ac', sorted(clips_root.rglob('*.avi'))[::4], strict=False):
        shutil.copy(source, folder / f'{name}.avi')
    (folder / 'b.avi').write_text('no video')
    return folder


def test_a_checkpoint_alone_says_what_it_is_of(checkpoint, clips, options):
    alone = Recognizer(checkpoint, device='cpu', options={'precision': 'fp32'})
    assert list(alone.classes) == CLASSES and alone.info.preprocessing.num_frames == 4
    assert alone.info.precision == 'fp32'
    both = Recognizer(DEMO_CONFIG, checkpoint, device='cpu', options=options)
    clip = clips / 'a.avi'
    assert alone.predict(clip).scores.tolist() == both.predict(clip).scores.tolist()


def test_a_folder_is_a_training_or_an_exported_model(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr('hri30_ext.hardware.best_precision', lambda: 'bf16')
    opened = Recognizer.open(tmp_path)
    assert list(opened.classes) == CLASSES and opened.info.precision == 'bf16'
    (tmp_path / 'model.json').write_text('{}')
    with pytest.raises(HRI30Error, match='model.json'):
        Recognizer.open(tmp_path)


def test_a_checkpoint_that_fits_no_config_here(checkpoint, tmp_path):
    record = Essentials.from_config(load_config(DEMO_CONFIG)).to_dict()
    for change, words in (({'algorithm': 'mine'}, 'is of mine.* has its algorithm'),
                          ({'sampling': 'Other'}, 'has its sampling')):
        path = tmp_path / 'other.pth'
        torch.save(dict(state_dict={}, meta={META_KEY: {**record, **change}}), path)
        with pytest.raises(HRI30Error, match=f'(?s){words}.*CONFIG CHECKPOINT'):
            find_config_of(path)
    torch.save(dict(state_dict={}), path)
    with pytest.raises(HRI30Error, match='name its config as well'):
        Recognizer.open(path)
    with pytest.raises(HRI30Error, match='no such model'):
        Recognizer.open(tmp_path / 'none')


def test_files_folders_and_patterns(name_clips):
    root = name_clips('a/1.avi', 'a/2.mp4', 'a/x.txt', 'b/1.avi', 'c/3.avi')
    found = find_clips([str(root / 'a'), str(root / 'b' / '*'), str(root / 'a' / '1.avi')])
    assert found == {str(root / name): name for name in ('a/1.avi', 'a/2.mp4', 'b/1.avi')}
    assert list(find_clips([str(root / '**' / '3.avi')]).values()) == ['3.avi']
    with pytest.raises(HRI30Error, match='none: no such file'):
        find_clips([str(root / 'none')])


def test_table_files_and_video(checkpoint, clips, tmp_path):
    done = run_tool('predict', checkpoint, clips, '--csv', 'p.csv', '--json', 'p.json',
                    '--save', 'p.mp4', '--top', 2, '--device', 'cpu', cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    head, *rows, failed = done.stdout.splitlines()
    assert head.split() == ['clip', 'action', 'score', 'next']
    assert [row.split()[0] for row in rows] == ['a.avi', 'b.avi', 'c.avi']
    assert 'could not be read: Invalid data' in rows[1]
    assert failed == '1 of 3 clips could not be read'
    with open(tmp_path / 'p.csv', encoding='utf-8') as file:
        table = list(csv.DictReader(file))
    assert [row['Predicted_Label'] == 'FAILED' for row in table] == [False, True, False]
    content = json.loads((tmp_path / 'p.json').read_text())
    assert [set(row) for row in content] == [
        {'file', 'class', 'score', 'top'}, {'file', 'error'},
        {'file', 'class', 'score', 'top'}]
    for row, cells in zip(content[::2], table[::2], strict=True):
        assert len(row['top']) == 2 and row['top'][0]['score'] == row['score']
        assert cells['Predicted_Label'] == row['class']
        assert cells['Confidence'] == f'{row["score"]:.4f}'
    assert f'{content[0]["score"]:.3f}' in rows[0] and content[0]['class'] in rows[0]
    frames = 0
    for row in content[::2]:
        with av.open(row['file']) as container:
            frames += container.streams.video[0].frames
    with av.open(str(tmp_path / 'p.mp4')) as container:
        assert len(list(container.decode(video=0))) == frames


def test_a_camera_prints_actions(tmp_path, monkeypatch, capsys):
    """A stand-in for the camera: a second of black frames, then two of white ones."""
    frames = np.repeat(np.uint8([0, 255]), [30, 60])[:, None, None, None]
    write_video(np.broadcast_to(frames, (90, 32, 48, 3)), tmp_path / 'c.avi')
    monkeypatch.setattr(predicting.video_io, 'open_source',
                        lambda camera: FileSource([tmp_path / 'c.avi']))
    predicting.watch(make_recognizer(), '0', str(tmp_path / 'w.mp4'))
    lines = capsys.readouterr().out.split()
    assert lines[2::4] == ['dark', 'bright'] and float(lines[0]) < 1 < float(lines[4])
    assert (tmp_path / 'w.mp4').stat().st_size > 1000


@pytest.mark.parametrize('arguments, words', [
    (['none.pth', 'clips'], 'none.pth: no such model'),
    (['best.safetensors', 'none'], 'none: no such file or folder'),
    (['config.py', 'clips'], 'expected a video, a folder or 0 after'),
    (['best.safetensors', '0', '--csv', 'p.csv'], 'hri30 stream writes its events'),
    (['clips/a.avi', 'clips', '--provider', 'cuda'], 'runs exported folders')])
def test_mistakes(arguments, words, clips, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call_hri30('predict', *arguments) == 2 and words in capsys.readouterr().err


def test_sets_and_unknown_clips_are_written(tmp_path, capsys):
    """Columns at the end, where they were fitted; a clip that cannot be read has none."""
    for name, value in (('a', 255), ('c', 150)):
        write_video(np.full((8, 32, 48, 3), value, np.uint8), tmp_path / f'{name}.avi')
    (tmp_path / 'b.avi').write_text('no video')
    recognizer = make_recognizer(sets=ClassSets(.7, .1, 20), open_set=OpenSet(
        5., .05, 20, ((9., -9), (-9, 9))))
    table, rows = tmp_path / 'p.csv', tmp_path / 'p.json'
    found = find_clips([str(tmp_path)])
    with pytest.raises(HRI30Error, match='b.avi: cannot be written'):  # before the work
        predicting.predict(recognizer, found, csv=str(tmp_path / 'b.avi' / 'p.csv'))
    assert not recognizer.backend.batches
    predicting.predict(recognizer, found, 2, str(table), str(rows))
    out = capsys.readouterr().out.splitlines()
    assert out[1].endswith('90 %: bright') and 'unknown  90 %: bright, dark' in out[3]
    with open(table, newline='') as file:
        assert [(row['Set'], row['Unknown']) for row in csv.DictReader(file)] == [
            ('bright', 'False'), ('', ''), ('bright; dark', 'True')]
    assert [(row.get('set'), row.get('unknown')) for row in json.loads(rows.read_text())] \
        == [(['bright'], False), (None, None), (['bright', 'dark'], True)]
