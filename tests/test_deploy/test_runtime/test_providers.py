"""Execution providers of ONNX Runtime, with a runtime that claims to have another."""

from types import SimpleNamespace

import pytest

from hri30_ext.apis import Recognizer
from hri30_ext.deploy.runtime import backends
from hri30_ext.errors import HRI30Error

CPU, CUDA = (backends.PROVIDERS[name] for name in ('cpu', 'cuda'))


@pytest.mark.parametrize('name', ['cpu', CPU, None])
def test_what_was_used_is_in_info(name, onnx_folder, validation_clips):
    recognizer = Recognizer.open(onnx_folder, threads=1, provider=name)
    assert recognizer.info.hints == {'provider': CPU}
    assert recognizer.backend(validation_clips).shape == (3, 3)


@pytest.mark.parametrize('name', ['cuda', 'DmlExecutionProvider', 'gpu'])
def test_missing_provider_is_named_with_those_that_are_there(name, onnx_folder):
    with pytest.raises(HRI30Error, match=f'{name}.*{CPU}'):
        Recognizer.load(onnx_folder, provider=name)


def test_providers_are_for_onnx(openvino_folder, trained):
    for model in (openvino_folder, trained.checkpoint):
        with pytest.raises(HRI30Error, match='--format onnx'):
            Recognizer.open(model, provider='cuda')


@pytest.mark.parametrize('starts', [True, False])
def test_provider_that_falls_back_is_refused(starts, onnx_folder, validation_clips,
                                             monkeypatch):
    onnxruntime, asked = backends.import_package('onnxruntime'), []

    def open_session(path, options, providers):
        asked.append(providers)
        session = onnxruntime.InferenceSession(path, options, providers=[CPU])
        return SimpleNamespace(run=session.run, get_inputs=session.get_inputs,
                               get_providers=lambda: providers if starts else [CPU])

    monkeypatch.setattr(backends, 'import_package', lambda package: SimpleNamespace(
        get_available_providers=lambda: [CUDA, CPU], preload_dlls=lambda: None,
        SessionOptions=onnxruntime.SessionOptions, InferenceSession=open_session))
    recognizer = Recognizer.load(onnx_folder, provider='cuda')
    if starts:
        assert recognizer.backend(validation_clips).shape == (3, 3)
    else:
        with pytest.raises(HRI30Error, match=f'{CUDA} cannot start.*would use {CPU}'):
            recognizer.backend(validation_clips)
    assert asked == [[CUDA, CPU]]
