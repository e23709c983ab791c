"""An exported folder may come from anywhere."""

import json
import os
import shutil

import numpy as np
import pytest

from hri30_ext.deploy.runtime.exported import ModelInfo, is_exported, load, read_info
from hri30_ext.errors import HRI30Error
from hri30_ext.video.preprocessing import Preprocessing, Resize

INFO = ModelInfo(
    classes=('Walking', 'Drilling'),
    preprocessing=Preprocessing(8, 1, 'uniform', (Resize(32, 24), )),
    format='openvino', precision='bf16', files={'model': 'model.xml'}, window_seconds=1.5,
    hints={'INFERENCE_PRECISION_HINT': 'bf16'}, versions={'torch': '2.13.0'})


def write(folder, **changes):
    content = {**INFO.to_json(), **changes}
    (folder / 'model.json').write_text(json.dumps(content))
    return folder


def test_reads_what_was_written(tmp_path):
    assert read_info(write(tmp_path)) == INFO
    assert not INFO.frame_stage and is_exported(tmp_path)


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(format_version=2), 'format_version=2, and this program reads 1'),
    (dict(format_version=True), 'format_version=True'),
    (dict(format='torch'), "format='torch'"), (dict(format=['onnx']), 'format='),
    (dict(precision='fp64'), "precision='fp64' of format openvino"),
    (dict(format='onnx'), "precision='bf16' of format onnx"),
    (dict(surplus=1), 'not known: surplus'),
    (dict(classes=[]), 'classes: '), (dict(classes='Walking'), 'classes: '),
    (dict(classes=['Walking', 'Walking']), 'classes: '),
    (dict(classes=['Walking', 1]), 'classes: '),
    (dict(classes=['\x1b[2J', 'Walking']), 'printable'),
    (dict(files={}), 'files: '), (dict(files={'model': 1}), 'files: '),
    (dict(files={'model': 'model.bin'}), r'ends with \.xml'),
    (dict(files={'model': '../model.xml'}), 'without a folder'),
    (dict(files={'model': '/etc/model.xml'}), 'without a folder'),
    (dict(files={'model': 'C:\\model.xml'}), 'without a folder'),
    (dict(files={'model': '.xml'}), 'files: '), (dict(files={'model': 'a.xml\n'}), 'files'),
    (dict(files={'model': 'a.xml', 'frame_stage': 'b.xml'}), 'files: found'),
    (dict(window_seconds=0), 'window_seconds=0'), (dict(window_seconds='1'), 'window_s'),
    (dict(window_seconds=True), 'window_seconds=True'),
    (dict(temperature=-1), 'temperature=-1'), (dict(temperature=1e300), 'temperature='),
    (dict(hints={}), 'hints: '),
    (dict(hints={'CACHE_DIR': '/home'}), 'hints: .* are not those of openvino bf16'),
    (dict(versions={'torch': 2}), 'versions: '), (dict(source=[]), 'source: '),
    (dict(parity=1), 'parity: '), (dict(preprocessing={}), 'preprocessing: '),
    (dict(preprocessing=None), 'preprocessing: ')])
def test_other_content_is_refused(changes, message, tmp_path):
    with pytest.raises(HRI30Error, match=message) as caught:
        read_info(write(tmp_path, **changes))
    assert str(caught.value).startswith(str(tmp_path / 'model.json'))


def test_missing_field_is_named(tmp_path):
    content = INFO.to_json()
    del content['hints']
    (tmp_path / 'model.json').write_text(json.dumps(content))
    with pytest.raises(HRI30Error, match='missing: hints; not known: none'):
        read_info(tmp_path)


@pytest.mark.parametrize('text', [
    b'', b'{', b'[]', b'null', b'\xff\xfe', b'[' * 100_000, b' ' * (5 << 20),
    json.dumps({**INFO.to_json(), 'window_seconds': float('nan')}).encode()])
def test_what_is_no_json_is_refused(text, tmp_path):
    (tmp_path / 'model.json').write_bytes(text)
    with pytest.raises(HRI30Error, match=r'model\.json: '):
        read_info(tmp_path)


def test_no_such_folder(tmp_path):
    with pytest.raises(HRI30Error, match=r'cannot be read .*\n.*export\.py wrote'):
        load(tmp_path / 'none')


@pytest.mark.parametrize('name', ['model.xml', 'clip_stage.bin'])
def test_missing_file_is_named(name, openvino_folder, tmp_path):
    folder = shutil.copytree(openvino_folder, tmp_path / 'copy')
    (folder / name).unlink()
    with pytest.raises(HRI30Error, match=f'{name} is not there'):
        load(folder)


@pytest.mark.parametrize(('kind', 'name'), [('openvino', 'model.xml'),
                                            ('openvino', 'model.bin'),
                                            ('onnx', 'model.onnx')])
def test_truncated_graph_is_named(kind, name, request, tmp_path, validation_clips):
    folder = shutil.copytree(request.getfixturevalue(f'{kind}_folder'), tmp_path / 'copy')
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:len(content) // 2])
    backend = load(folder, threads=1)[1]
    with pytest.raises(HRI30Error, match=r'cannot be run .*\n.*whole'):
        backend(validation_clips)


def test_graph_of_other_frames_is_refused(openvino_folder, tmp_path, validation_clips):
    """model.json and graph must agree: a graph is not fed with what it does not take."""
    folder = shutil.copytree(openvino_folder, tmp_path / 'copy')
    content = json.loads((folder / 'model.json').read_text())
    content['preprocessing']['num_frames'] = 5
    (folder / 'model.json').write_text(json.dumps(content))
    with pytest.raises(HRI30Error, match=r'takes .*, and model\.json says'):
        load(folder, threads=1)[1](validation_clips)


def test_model_that_takes_all_the_memory_is_refused(tmp_path):
    content = INFO.preprocessing.to_json()
    huge = dict(content, num_frames=1024, steps=[dict(content['steps'][0], width=8192,
                                                      height=8192)])
    with pytest.raises(HRI30Error, match='1024 frames of 67,108,864 pixels'):
        read_info(write(tmp_path, preprocessing=huge))


def test_links_do_not_lead_out_of_the_folder(tmp_path):
    outside, folder = tmp_path / 'outside', tmp_path / 'model'
    outside.mkdir()
    folder.mkdir()
    write(folder)
    (folder / 'model.xml').write_text('<net/>')
    (outside / 'weights.bin').write_bytes(b'secret')
    (folder / 'model.bin').symlink_to(outside / 'weights.bin')
    with pytest.raises(HRI30Error, match=r'model\.bin: a link that leads out'):
        load(folder)


def test_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / 'model.json')
    with pytest.raises(HRI30Error, match='model.json'):
        read_info(tmp_path)


@pytest.mark.parametrize('location', ['../secret.bin', 'link.bin', None])
def test_weights_of_a_graph_are_in_its_folder(location, tmp_path):
    """ONNX may keep numbers in other files."""
    onnx = pytest.importorskip('onnx')
    helper, folder = onnx.helper, tmp_path / 'model'
    folder.mkdir()
    secret = tmp_path / 'secret.bin'
    secret.write_bytes(bytes(4 * 8 * 24 * 32 * 3 * 2))
    (folder / 'link.bin').symlink_to(secret)
    numbers = onnx.TensorProto(name='w', data_type=onnx.TensorProto.FLOAT,
                               dims=[8 * 24 * 32 * 3, 2],
                               data_location=onnx.TensorProto.EXTERNAL)
    numbers.external_data.add(key='location', value=location or str(secret))
    graph = helper.make_graph(
        [helper.make_node('Cast', ['x'], ['f'], to=onnx.TensorProto.FLOAT),
         helper.make_node('Flatten', ['f'], ['flat']),
         helper.make_node('MatMul', ['flat', 'w'], ['y'])], 'g',
        [helper.make_tensor_value_info('x', onnx.TensorProto.UINT8, ['n', 8, 24, 32, 3])],
        [helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, ['n', 2])], [numbers])
    (folder / 'model.onnx').write_bytes(helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8
        ).SerializeToString())
    write(folder, format='onnx', precision='fp32', files={'model': 'model.onnx'}, hints={})
    _, backend = load(folder)
    with pytest.raises(HRI30Error, match=r'model\.onnx'):
        backend(np.zeros((1, 8, 24, 32, 3), np.uint8))
