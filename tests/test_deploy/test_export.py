"""What is exported is what was trained, or nothing is."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, as_arguments, call_hri30
from mmaction.registry import DATASETS, MODELS
from mmengine.dataset import pseudo_collate

from hri30_ext.apis import Recognizer
from hri30_ext.apis.exporting import export
from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.datasets.hri30 import list_split
from hri30_ext.deploy import export as exporting
from hri30_ext.deploy.export import compare, why_no_parity
from hri30_ext.deploy.runtime.backends import import_package
from hri30_ext.deploy.runtime.certainty import ClassSets, OpenSet
from hri30_ext.deploy.runtime.exported import load, read_info
from hri30_ext.deploy.runtime.recognizer import ClipRecognizer
from hri30_ext.deploy.torch_backend import TorchBackend, Whole, count_frame_stages
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.calibration import save_calibration
from hri30_ext.names import name_part
from hri30_ext.synthetic.video import write_video


@pytest.fixture
def reference(trained):
    return TorchBackend(load_config(trained.config, trained.options), trained.checkpoint)


def test_reference_is_what_mmaction2_predicts(trained, reference, validation_clips):
    """The one that all are compared with: mmaction2's own test step on its own pipeline."""
    cfg = load_config(trained.config, trained.options)
    cfg.test_dataloader.dataset.subset = 'val'
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    with torch.no_grad():
        results = [reference.recognizer.test_step(pseudo_collate([dataset[i]]))[0]
                   for i in range(len(dataset))]
    expected_NK = torch.stack([result.pred_score for result in results]).numpy()
    scores_NK = reference(validation_clips)
    np.testing.assert_allclose(scores_NK, expected_NK, atol=1e-5)
    cudnn, found = torch.backends.cudnn, []
    reference.recognizer.backbone.register_forward_hook(
        lambda *_: found.append((cudnn.enabled, cudnn.allow_tf32)))
    reference(validation_clips[:1])
    assert found == [(True, False)]
    # The comparison is worth something: clips differ, and no probability is 0 or 1.
    assert scores_NK.argmax(axis=1).tolist() == [0, 1, 2] and scores_NK.max() < 0.99


def test_only_stages_without_temporal_kernels_are_split(reference, validation_clips):
    backbone = reference.recognizer.backbone
    assert [getattr(backbone, f'layer{i}')[0].conv1.conv.kernel_size[0]
            for i in (1, 2, 3)] == [1, 1, 3]
    assert reference.splittable and count_frame_stages(reference.recognizer) == 2
    features = np.stack([reference.frame_features(clip) for clip in validation_clips])
    np.testing.assert_allclose(reference.clip_scores(features),
                               reference(validation_clips), atol=1e-5)
    backbone.conv1.conv.kernel_size = (9, 5, 5)  # as the demo's
    assert count_frame_stages(reference.recognizer) == 0


@pytest.mark.parametrize('kind', ['openvino', 'onnx'])
def test_float32_is_exact_for_any_batch(kind, reference, validation_clips, request):
    info, backend = load(request.getfixturevalue(f'{kind}_folder'), threads=1)
    expected_NK = reference(validation_clips)
    for batch in (1, len(validation_clips)):
        np.testing.assert_allclose(backend(validation_clips[:batch]), expected_NK[:batch],
                                   atol=1e-4)
    assert backend.splittable
    features = backend.frame_features(validation_clips.reshape(-1, 32, 48, 3))
    assert features.dtype == np.float32
    scores_NK = backend.clip_scores(
        features.reshape(*validation_clips.shape[:2], *features.shape[1:]))
    np.testing.assert_allclose(scores_NK, expected_NK, atol=1e-4)


def test_folder_says_what_it_is(openvino_folder, trained, preprocessing, clips_root):
    info = read_info(openvino_folder)
    assert (info.format, info.precision, info.classes) == ('openvino', 'fp32',
                                                           tuple(CLASSES))
    assert info.preprocessing == preprocessing
    assert info.hints == {'INFERENCE_PRECISION_HINT': 'f32'}
    assert info.source['config'].startswith('slowonly_k400') and len(
        info.source['checkpoint_sha256']) == 64
    assert {'torch', 'mmaction2', 'openvino'} <= set(info.versions)
    assert 1 <= info.window_seconds <= 2  # clips of 30 to 60 frames at 30 a second
    recognizer = Recognizer(trained.config, trained.checkpoint, options=trained.options)
    assert recognizer.stream().window_seconds == info.window_seconds
    assert info.parity['clips'] == 3 and 'synthetic data' in info.parity['data']
    assert info.parity['whole']['max_difference'] <= 1e-4
    assert info.parity['stages']['max_difference'] <= 1e-4
    assert json.loads((openvino_folder / 'parity.json').read_text()) == info.parity


def test_window_is_the_median_of_the_training_clips(tmp_path, trained, monkeypatch):
    folder = tmp_path / 'data' / 'train_set'
    folder.mkdir(parents=True)
    frames = np.zeros((90, 32, 48, 3), np.uint8)
    # By group; that of 90 frames is held out.
    for group, length in ((1, 30), (2, 36), (3, 60), (4, 90)):
        write_video(frames[:length], folder / f'CID01_SID0{group}_VID01.avi')
    options = {**trained.options, 'data_root': str(tmp_path / 'data'), 'classes': CLASSES,
               'split.val_groups': [4]}
    cfg = load_config(trained.config, options)
    preprocessing = exporting.Preprocessing.from_config(cfg)
    assert exporting.measure_window_seconds(cfg, preprocessing) == 1.2
    parts = [dict(filename=name_part(str(folder / 'CID01_SID04_VID01.avi'), 1, end))
             for end in (1.5, 1.75, 2.5)]
    monkeypatch.setattr(exporting, 'list_split', lambda *_, **__: parts)
    assert exporting.measure_window_seconds(cfg, preprocessing) == 0.75
    assert [clip for clip, _ in exporting._read(parts, preprocessing)] == parts


def test_calibration_goes_along_and_a_broken_clip_is_left_out(
        trained, openvino_folder, tmp_path, validation_clips, clips_root, capsys):
    options = dict(trained.options, data_root=str(tmp_path / 'data'))
    shutil.copytree(clips_root, tmp_path / 'data')
    broken = list_split(load_config(trained.config, options).test_dataloader,
                        subset='val')[1]['filename']
    Path(broken).write_text('no video')
    checkpoint = shutil.copy(trained.checkpoint, tmp_path)
    shutil.copytree(openvino_folder, tmp_path / 'out')
    (tmp_path / 'out' / 'model.xml.old').touch()
    sets = ClassSets(1., .1, 9)
    open_set = OpenSet(0., .05, 19, ((1., 0, -1), (0, 1, -1), (-1, 0, 1)))
    save_calibration(checkpoint, 1.25, 3, 'x', sets, open_set)
    export(trained.config, checkpoint, 'openvino', 'fp16', tmp_path / 'out',
           options=options)
    assert f'warning: left out: {broken}: cannot be decoded' in capsys.readouterr().err
    info = read_info(tmp_path / 'out')
    assert (info.temperature, info.sets, info.open_set) == (1.25, sets, open_set)
    assert info.parity['clips'] == 2
    found = next(ClipRecognizer.load(tmp_path / 'out').predict_views([validation_clips]))
    assert sorted(found.set) == sorted(info.classes) and found.unknown is True
    assert not (tmp_path / 'out' / 'model.xml.old').exists()  # replaced as a whole
    assert {path.name for path in tmp_path.iterdir()} == {
        'data', 'out', 'weights.pth', 'weights.calibration.json'}
    # Half the bytes of float32, but for what is no weight.
    assert (tmp_path / 'out' / 'model.bin').stat().st_size < 0.6 * 4 * sum(
        value.numel() for value in torch.load(checkpoint)['state_dict'].values())


@pytest.mark.slow
@pytest.mark.parametrize('kind', [('openvino', 'bf16'), ('openvino', 'int8'),
                                  ('onnx', 'int8')])
def test_lower_precisions(kind, trained, tmp_path, reference, validation_clips):
    info = export(trained.config, trained.checkpoint, *kind, tmp_path / 'out',
                  options=trained.options, calibration_clips=4)
    scores_NK = load(tmp_path / 'out', threads=1)[1](validation_clips)
    assert scores_NK.argmax(axis=1).tolist() == [0, 1, 2]
    difference = np.abs(scores_NK - reference(validation_clips)).max()
    assert info.parity['whole']['shift'] <= exporting.MAX_SHIFT[kind[1]]
    if kind[1] == 'int8':
        assert difference > 0
        text = (tmp_path / 'out' / info.files['model']).read_bytes()
        assert (b'QuantizeLinear' if kind[0] == 'onnx' else b'FakeQuantize') in text


# ---- Refusals ---------------------------------------------------------------------------


def _spoil(monkeypatch, part):
    """Lets the converter see another weight than the model has."""
    trace = exporting._trace

    def spoiled(module, example, path):
        if path.stem != part:
            return trace(module, example, path)
        weight = next(module.parameters())
        before = weight.detach().clone()
        weight.data.mul_(1.5)
        trace(module, example, path)
        weight.data.copy_(before)

    monkeypatch.setattr(exporting, '_trace', spoiled)


def test_child_process_may_end_after_models_are_deleted(openvino_folder, validation_clips):
    """OpenVINO swaps the stack of signal handlers, which must outlive the models."""
    shape = validation_clips[:1].shape
    code = f"""
import signal, subprocess
import numpy as np
from hri30_ext.deploy.runtime.exported import load
signal.signal(signal.SIGCHLD, lambda *_: None)
first, second = (load({str(openvino_folder)!r}, threads=1)[1] for _ in range(2))
first(np.zeros({shape}, np.uint8))
second(np.zeros({shape}, np.uint8))
del first
del second
subprocess.run(['sleep', '0.1'], check=True)
"""
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


@pytest.mark.parametrize('part', ['model', 'frame_stage', 'clip_stage'])
def test_other_scores_are_refused_and_nothing_changes(part, trained, tmp_path, monkeypatch,
                                                      openvino_folder):
    def content():
        return {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob('*')}

    out = tmp_path / 'new' / 'out'
    if part == 'model':  # there is one already
        shutil.copytree(openvino_folder, out)
    before = content()
    _spoil(monkeypatch, part)
    with pytest.raises(HRI30Error, match='differs from the trained'):
        export(trained.config, trained.checkpoint, 'openvino', 'fp32', out,
               options=trained.options)
    assert content() == before


def test_mistakes_are_refused(trained, tmp_path):
    (tmp_path / 'thesis.tex').touch()
    for kind, message in ((('onnx', 'fp16'), 'onnx: fp32, int8; openvino: fp32, fp16, bf'),
                          (('tflite', 'fp32'), 'tflite'),
                          (('onnx', 'fp32'), 'holds other files')):
        with pytest.raises(HRI30Error, match=message):
            export(trained.config, trained.checkpoint, *kind, tmp_path,
                   options=trained.options)
    assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_what_counts_as_parity():
    labels_N = np.arange(4) % 2
    right_NK = np.eye(2)[labels_N] * 0.8 + 0.1
    same = compare(right_NK, right_NK, labels_N)
    assert same == dict(max_difference=0, shift=0, right=4, right_reference=4)
    assert why_no_parity(same, 4, 'fp32') is None
    # Two of 4 clips change sides: 0.9 and 0.1 become 0.49 and 0.51.
    moved_NK = right_NK.copy()
    moved_NK[[0, 2]] = 0.49, 0.51
    moved = compare(right_NK, moved_NK, labels_N)
    assert moved['right'] == 2
    assert moved['shift'] == pytest.approx((0.41 + 0.41) / 4)
    assert why_no_parity(moved, 4, 'int8').startswith('2 of 4 clips')
    # One lost clip is allowed, but not if probabilities move everywhere.
    moved_NK[0] = right_NK[0]
    moved = compare(right_NK, moved_NK, labels_N)
    assert '0.103' in why_no_parity(moved, 4, 'int8')
    nan = compare(right_NK, right_NK * np.nan, labels_N)
    assert why_no_parity(nan, 4, 'bf16') == 'its scores are no probabilities'
    # One point of many clips.
    figures = dict(max_difference=0.1, shift=0.01, right_reference=290)
    for lost in (3, 4):
        reason = why_no_parity(dict(figures, right=290 - lost), 300, 'int8')
        assert bool(reason) is (lost == 4)


# ---- Other models -----------------------------------------------------------------------


def _config(folder, **options):
    config = str(next((PROJECT_ROOT / 'configs' / folder).glob('*.py')))
    return load_config(config, {'load_from': None, **options}).model


def _tsm():
    """A 2D recognizer: clips are not mixed up."""
    return _config('tsm', num_frames=4, input_size=(64, 32),
                   **{'model.backbone.pretrained': None})


def _swin():
    model = _config('swin')
    model.backbone.arch = dict(embed_dims=24, depths=[2, 2], num_heads=[1, 2])
    model.backbone.out_indices = [1]
    model.cls_head.in_channels = 48
    return model


def _foundation(probe, adapter=None, name='test_vit'):
    return dict(
        type='FoundationRecognizer',
        backbone=dict(type='TimmFrames', name=name, input_size=(64, 32), num_frames=4,
                      pretrained=None, adapter=adapter and dict(type=adapter, channels=8)),
        cls_head=dict(type='ProbeHead', num_classes=3, probe=dict(type=probe)),
        data_preprocessor=dict(type='ActionDataPreprocessor', format_shape='NCTHW'))


def _trace_small(settings, path):
    """Traces a model of random weights on clips of 4 frames, 64 x 32; returns both."""
    whole = Whole(MODELS.build(settings)).eval()
    for parameter in whole.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    clips = np.random.default_rng(0).integers(0, 256, (3, 4, 32, 64, 3), np.uint8)
    with torch.no_grad():
        exporting._trace(whole, clips[:2], path)
        return whole(torch.from_numpy(clips)).numpy(), clips


@pytest.mark.parametrize('settings', [
    _swin, lambda: _foundation('STEPProbe'), lambda: _foundation('AttentiveProbe'),
    lambda: _foundation('MeanProbe', 'Frame2FreqAdapter'), _tsm],
    ids=['swin', 'step', 'attentive', 'frame2freq', 'tsm'])
def test_graphs_are_for_any_batch(settings, tmp_path):
    """What only looks right for the batch of the trace: of 2 here."""
    expected_NK, clips = _trace_small(settings(), tmp_path / 'model.onnx')
    session = import_package('onnxruntime').InferenceSession(
        tmp_path / 'model.onnx', providers=['CPUExecutionProvider'])
    for batch in (1, 3):
        scores_NK, = session.run(None, {'inputs': clips[:batch]})
        np.testing.assert_allclose(scores_NK, expected_NK[:batch], atol=1e-5)
    assert np.ptp(expected_NK, axis=0).max() > 1e-4  # the clips are told apart


def test_what_onnx_cannot_express_is_refused_by_name(tmp_path):
    with pytest.raises(HRI30Error, match='TimmFrames.* cannot be exported: .*rms_norm'):
        _trace_small(_foundation('MeanProbe', name='test_vit4'), tmp_path / 'model.onnx')


@pytest.mark.slow
def test_the_verb(trained, tmp_path):
    assert call_hri30('export', trained.config, trained.checkpoint, '--format', 'onnx',
                      '--out', tmp_path / 'out', *as_arguments(trained.options)) == 0
    assert read_info(tmp_path / 'out').format == 'onnx'
