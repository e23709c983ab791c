"""Reading exported folders: whole, and those with mistakes."""

import json
import shutil

import msgspec
import numpy as np
import pytest

from hri30_ext.deploy.runtime.exported import ModelInfo, load, read_info
from hri30_ext.errors import HRI30Error
from hri30_ext.video.preprocessing import Preprocessing, Resize

INFO = ModelInfo(
    classes=('Walking', 'Drilling'),
    preprocessing=Preprocessing(8, 1, 'uniform', (Resize(32, 24), )),
    format='openvino', precision='bf16', files={'model': 'model.xml'}, window_seconds=1.5,
    hints={'INFERENCE_PRECISION_HINT': 'bf16'}, versions={'torch': '2.13.0'})


def write(folder, **changes):
    content = {**msgspec.to_builtins(INFO), **changes}
    (folder / 'model.json').write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize('changes', [
    dict(format_version=2), dict(format='torch'), dict(precision='fp64'), dict(surplus=1),
    dict(classes=[]), dict(classes=['Walking', 1]), dict(files={'other': 'b.xml'}),
    dict(window_seconds=0), dict(temperature=1e300), dict(preprocessing={}),
    dict(sets=dict(threshold=2, alpha=.1, clips=9))])
def test_other_content_is_refused(changes, tmp_path):
    assert read_info(write(tmp_path)) == INFO
    with pytest.raises(HRI30Error) as caught:
        read_info(write(tmp_path, **changes))
    assert str(caught.value).startswith(str(tmp_path / 'model.json'))
    assert next(iter(changes)) in str(caught.value)


@pytest.mark.parametrize(('kind', 'name'), [('openvino', 'model.xml'),
                                            ('openvino', 'model.bin'),
                                            ('onnx', 'model.onnx')])
def test_truncated_or_missing_graph_is_named(kind, name, request, tmp_path,
                                             validation_clips):
    folder = shutil.copytree(request.getfixturevalue(f'{kind}_folder'), tmp_path / 'copy')
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:len(content) // 2])
    with pytest.raises(HRI30Error, match=f'{folder}/model'):
        load(folder, threads=1)[1](validation_clips)
    (folder / name).unlink()
    with pytest.raises(HRI30Error, match=f'{folder}/model'):
        load(folder, threads=1)[1](validation_clips)


@pytest.mark.parametrize('kind', ['openvino', 'onnx'])
@pytest.mark.parametrize('other', ['frames', 'classes'])
def test_graph_of_another_model_is_refused(kind, other, request, tmp_path):
    """A file of another export, with which the scores would be of other classes."""
    folder = shutil.copytree(request.getfixturevalue(f'{kind}_folder'), tmp_path / 'copy')
    content = json.loads((folder / 'model.json').read_text())
    if other == 'frames':
        content['preprocessing']['num_frames'] = 5
    else:
        content['classes'].append('Welding')
    (folder / 'model.json').write_text(json.dumps(content))
    info, backend = load(folder, threads=1)
    width, height = info.preprocessing.size
    with pytest.raises(HRI30Error, match=f'{folder}/model'):
        backend(np.zeros((1, info.preprocessing.num_frames, height, width, 3), np.uint8))
