"""Execution providers of ONNX Runtime, with a runtime that claims to have others."""

from types import SimpleNamespace

import pytest
from conftest import run_tool

from hri30_ext.apis import Recognizer
from hri30_ext.deploy.runtime import backends
from hri30_ext.deploy.runtime.engines import build_engines
from hri30_ext.errors import HRI30Error

CPU, CUDA, TENSORRT = (backends.PROVIDERS[name][0] for name in ('cpu', 'cuda', 'tensorrt'))


@pytest.fixture
def claimed(monkeypatch, tmp_path):
    """Lets ONNX Runtime claim CUDA and TensorRT; returns the providers of each session."""
    onnxruntime = backends.import_runtime('onnxruntime')
    asked = []

    def open_session(data, options, providers):
        asked.append(providers)
        session = onnxruntime.InferenceSession(data, options, providers=[CPU])
        names = [name if isinstance(name, str) else name[0] for name in providers]
        return SimpleNamespace(
            run=session.run, get_inputs=session.get_inputs, get_outputs=session.get_outputs,
            get_providers=lambda: [CPU] if names[0] == CUDA else names)

    monkeypatch.setattr(backends, 'import_runtime', lambda package: SimpleNamespace(
        get_available_providers=lambda: [TENSORRT, CUDA, CPU], preload_dlls=lambda: None,
        SessionOptions=onnxruntime.SessionOptions, InferenceSession=open_session))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    return asked


@pytest.mark.parametrize('name', ['cpu', CPU, None])
def test_what_was_used_is_in_info(name, onnx_folder, validation_clips):
    recognizer = Recognizer.open(onnx_folder, threads=1, provider=name)
    assert recognizer.info.hints == {'provider': CPU}
    assert recognizer.backend(validation_clips).shape == (3, 3)


@pytest.mark.parametrize(('name', 'message'), [
    ('tensorrt', f'has .*{CPU}.*\n.*pip install onnxruntime-gpu tensorrt'),
    ('DmlExecutionProvider', 'pip install onnxruntime-directml'),
    ('gpu', f'has .*{CPU}.*\n.*or cpu, cuda, tensorrt, coreml, directml')])
def test_missing_provider_says_what_to_install(name, message, onnx_folder):
    with pytest.raises(HRI30Error, match=message):
        Recognizer.load(onnx_folder, provider=name)


def test_providers_are_for_onnx(openvino_folder, trained):
    for model in (openvino_folder, trained.checkpoint):
        with pytest.raises(HRI30Error, match='provider cuda .*\nExport.* --format onnx'):
            Recognizer.open(model, provider='cuda')


def test_provider_that_falls_back_is_refused(claimed, onnx_folder, validation_clips):
    recognizer = Recognizer.load(onnx_folder, provider='cuda')
    with pytest.raises(HRI30Error, match=f'{CUDA}: cannot start.*would use {CPU}'):
        recognizer.backend(validation_clips)


def test_engines_are_kept_by_weights(claimed, onnx_folder, tmp_path):
    """ONNX Runtime takes the engine of another model with the same names of nodes."""
    built = build_engines(onnx_folder)
    assert built['max_difference'] < 1e-5  # the CPU in disguise
    *engines, cpu = claimed
    assert cpu == [CPU] and len(engines) == 3  # the whole, and its two stages
    folders = {options['trt_engine_cache_path'] for (_, options), *_ in engines}
    assert {tuple(others) for _, *others in engines} == {(CUDA, CPU)}
    assert folders == {str(path) for path in (tmp_path / 'hri30' / 'tensorrt').iterdir()}
    assert len(folders) == 3


def test_tool_says_what_to_install(onnx_folder, tmp_path):
    run = run_tool('build_engines', onnx_folder, cwd=tmp_path)
    assert run.returncode == 2 and 'onnxruntime-gpu tensorrt' in run.stderr
    assert 'Traceback' not in run.stderr
