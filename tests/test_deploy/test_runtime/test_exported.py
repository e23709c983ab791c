"""An exported folder may come from anywhere."""

import json
import shutil

import msgspec
import numpy as np
import pytest

from hri30_ext.deploy.runtime.exported import ModelInfo, load, read_info
from hri30_ext.deploy.runtime.onnx_graph import check_graph
from hri30_ext.errors import HRI30Error
from hri30_ext.video.preprocessing import Preprocessing, Resize

INFO = ModelInfo(
    classes=('Walking', 'Drilling'),
    preprocessing=Preprocessing(8, 1, 'uniform', (Resize(32, 24), )),
    format='openvino', precision='bf16', files={'model': 'model.xml'}, window_seconds=1.5,
    hints={'INFERENCE_PRECISION_HINT': 'bf16'}, versions={'torch': '2.13.0'})
HUGE = dict(msgspec.to_builtins(INFO)['preprocessing'], num_frames=1024,
            steps=[dict(type='Resize', width=8192, height=8192)])


def write(folder, **changes):
    content = {**msgspec.to_builtins(INFO), **changes}
    (folder / 'model.json').write_text(json.dumps(content))
    return folder


def test_reads_what_was_written(tmp_path):
    assert read_info(write(tmp_path)) == INFO


@pytest.mark.parametrize(('changes', 'message'), [
    (dict(format_version=2), r'Invalid value 2 - at `\$.format_version`'),
    (dict(format_version=True), r'Expected `int`.* - at `\$.format_version`'),
    (dict(format='torch'), "Invalid enum value 'torch'"), (dict(format=['onnx']), 'format'),
    (dict(precision='fp64'), "Invalid enum value 'fp64'"),
    (dict(format='onnx'), "precision='bf16' of format onnx"),
    (dict(surplus=1), 'unknown field `surplus`'),
    ({'x' * 9999: 1}, 'unknown field `x{900}'),
    (dict(classes=[]), r'length >= 1 - at `\$.classes`'),
    (dict(classes='Walking'), 'classes'),
    (dict(classes=['Walking', 'Walking']), 'different names'),
    (dict(classes=['Walking', 1]), 'classes'), (dict(classes=['']), 'classes'),
    (dict(classes=['\x1b[2J', 'Walking']), 'printable'),
    (dict(files={}), 'files: '), (dict(files={'model': 1}), 'files'),
    (dict(files={'model': 'model.bin'}), r'end with \.xml'),
    (dict(files={'model': '../model.xml'}), 'files'),
    (dict(files={'model': '/etc/model.xml'}), 'files'),
    (dict(files={'model': 'C:\\model.xml'}), 'files'),
    (dict(files={'model': '.xml'}), 'files'), (dict(files={'model': 'a.xml\n'}), 'files'),
    (dict(files={'model': 'a.xml', 'frame_stage': 'b.xml'}), 'files: found'),
    (dict(files={'model': 'a.xml', 'other': 'b.xml'}), 'Invalid enum value'),
    (dict(window_seconds=0), '>= 0.01 - at `.*window_seconds'),
    (dict(window_seconds='1'), 'window_seconds'),
    (dict(window_seconds=True), 'window_seconds'),
    (dict(temperature=-1), 'temperature'), (dict(temperature=1e300), 'temperature'),
    (dict(sets=dict(threshold=2, alpha=.1, clips=9)), 'sets.threshold'),
    (dict(open_set=dict(threshold=1, alpha=.1, clips=9, prototypes=[[1, 2], [3]])),
     'prototypes: expected as many'),
    (dict(open_set=dict(threshold=1, alpha=.1, clips=9, prototypes=[[1]])),
     'open_set: 1 prototypes of 2 classes'),
    (dict(hints={}), 'hints: '),
    (dict(hints={'CACHE_DIR': '/home'}), 'hints: .* are not those of openvino bf16'),
    (dict(versions={'torch': 2}), 'versions'), (dict(source=[]), 'source'),
    (dict(versions={'torch': 'x' * 501}), 'versions'),
    (dict(versions={str(k): '' for k in range(51)}), 'versions'),
    (dict(source={'data': '\n'}), 'printable'),
    (dict(parity=1), 'parity'), (dict(preprocessing={}), 'preprocessing'),
    (dict(preprocessing=None), 'preprocessing'),
    (dict(preprocessing=HUGE), '1024 frames of 67,108,864 pixels')])
def test_other_content_is_refused(changes, message, tmp_path):
    with pytest.raises(HRI30Error, match=message) as caught:
        read_info(write(tmp_path, **changes))
    assert str(caught.value).startswith(str(tmp_path / 'model.json'))
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize('text', [
    b'', b'{', b'[]', b'null', b'\xff\xfe', b'[' * 100_000, b' ' * (5 << 20),
    json.dumps({**msgspec.to_builtins(INFO), 'window_seconds': float('nan')}).encode()])
def test_what_is_no_json_is_refused(text, tmp_path):
    (tmp_path / 'model.json').write_bytes(text)
    with pytest.raises(HRI30Error, match=r'model\.json: '):
        read_info(tmp_path)


@pytest.mark.parametrize('name', ['model.xml', 'clip_stage.bin'])
def test_missing_file_is_named(name, openvino_folder, tmp_path):
    folder = shutil.copytree(openvino_folder, tmp_path / 'copy')
    (folder / name).unlink()
    with pytest.raises(HRI30Error, match=f'{name} is missing'):
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


def write_graph(folder, nodes, initializers=(), **model):
    """Writes an ONNX model of these nodes, from ``f`` (float32) to ``y``."""
    import onnx
    helper = onnx.helper
    folder.mkdir()
    graph = helper.make_graph(
        [helper.make_node('Cast', ['x'], ['f'], to=onnx.TensorProto.FLOAT), *nodes], 'g',
        [helper.make_tensor_value_info('x', onnx.TensorProto.UINT8, ['n', 8, 24, 32, 3])],
        [helper.make_tensor_value_info('y', onnx.TensorProto.FLOAT, ['n', 2])],
        initializers)
    opsets = [helper.make_opsetid('', 17), helper.make_opsetid('other', 1)]
    (folder / 'model.onnx').write_bytes(helper.make_model(
        graph, opset_imports=opsets, ir_version=8, **model).SerializeToString())
    write(folder, format='onnx', precision='fp32', files={'model': 'model.onnx'}, hints={})


def run_graph(folder):
    return load(folder, threads=1)[1](np.ones((1, 8, 24, 32, 3), np.uint8))


@pytest.mark.parametrize('location', ['../secret.bin', 'link.bin', 'inside.bin', None])
def test_weights_of_a_graph_are_in_its_file(location, tmp_path):
    """ONNX may keep numbers in other files."""
    onnx = pytest.importorskip('onnx')
    folder, secret = tmp_path / 'model', tmp_path / 'secret.bin'
    numbers = onnx.TensorProto(name='w', data_type=onnx.TensorProto.FLOAT,
                               dims=[8 * 24 * 32 * 3, 2],
                               data_location=onnx.TensorProto.EXTERNAL)
    numbers.external_data.add(key='location', value=location or str(secret))
    node = onnx.helper.make_node
    write_graph(folder, [node('Flatten', ['f'], ['flat']),
                         node('MatMul', ['flat', 'w'], ['y'])], [numbers])
    secret.write_bytes(bytes(4 * 8 * 24 * 32 * 3 * 2))
    (folder / 'link.bin').symlink_to(secret)
    (folder / 'inside.bin').write_bytes(secret.read_bytes())
    with pytest.raises(HRI30Error, match=r'model\.onnx: .*in another file'):
        run_graph(folder)


def test_graphs_that_may_not_end_are_refused(tmp_path):
    onnx = pytest.importorskip('onnx')
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    true = onnx.helper.make_tensor('true', onnx.TensorProto.BOOL, [], [True])
    body = onnx.helper.make_graph(
        [node('Identity', ['go'], ['still']), node('Identity', ['v'], ['w'])], 'body',
        [info('i', onnx.TensorProto.INT64, []), info('go', onnx.TensorProto.BOOL, []),
         info('v', onnx.TensorProto.FLOAT, None)],
        [info('still', onnx.TensorProto.BOOL, []), info('w', onnx.TensorProto.FLOAT, None)])
    reduce = [node('ReduceMean', ['f'], ['m'], axes=[1, 2, 3], keepdims=0),
              node('Slice', ['m', 'begin', 'end', 'axis'], ['y'])]
    ends = [onnx.helper.make_tensor(name, onnx.TensorProto.INT64, [1], [value])
            for name, value in (('begin', 0), ('end', 2), ('axis', 1))]
    write_graph(tmp_path / 'honest', reduce, ends)
    assert run_graph(tmp_path / 'honest').tolist() == [[1, 1]]
    loop = node('Loop', ['', 'true', 'f'], ['y'], body=body)
    write_graph(tmp_path / 'loop', [loop], [true])
    with pytest.raises(HRI30Error, match='control flow'):
        run_graph(tmp_path / 'loop')
    write_graph(tmp_path / 'domain', [*reduce[:1], node('Slice', ['m'], ['y'],
                                                        domain='other')])
    with pytest.raises(HRI30Error, match='another domain'):
        run_graph(tmp_path / 'domain')
    function = onnx.helper.make_function(
        'other', 'F', ['a'], ['b'], [node('Identity', ['a'], ['b'])],
        [onnx.helper.make_opsetid('', 17)])
    write_graph(tmp_path / 'function', reduce, ends, functions=[function])
    with pytest.raises(HRI30Error, match='functions of its own'):
        run_graph(tmp_path / 'function')


def test_openvino_graphs_that_may_not_end_are_refused(tmp_path):
    """The same Loop, as OpenVINO writes it."""
    openvino = pytest.importorskip('openvino')
    from openvino import opset13 as ops
    frames = ops.parameter([1, 8, 24, 32, 3], openvino.Type.u8)
    value, go = ops.parameter([1, 2], openvino.Type.f32), ops.constant(True)
    loop = ops.loop(ops.constant(2**40), ops.constant(True))
    twice = ops.add(value, value)
    body = openvino.Model([ops.result(twice), ops.result(go)], [value], 'body')
    loop.set_function(body)
    loop.set_special_body_ports([-1, 1])
    start = ops.constant(np.ones((1, 2), np.float32))
    loop.set_merged_input(value.output(0).get_node(), start.output(0), twice.output(0))
    scores = loop.get_iter_value(twice.output(0), -1)
    folder = tmp_path / 'model'
    folder.mkdir()
    openvino.save_model(openvino.Model([ops.result(scores)], [frames], 'm'),
                        folder / 'model.xml', compress_to_fp16=False)
    write(folder)
    with pytest.raises(HRI30Error, match='control flow'):
        run_graph(folder)


@pytest.mark.parametrize('data', [
    b'\xff', b'\x3a\x05abc', b'\x3b', b'\x38\x01', b'\xff' * 20])
def test_damaged_graphs_are_refused(data):
    with pytest.raises((ValueError, IndexError)):
        check_graph(data)
