"""torch.compile of the model, and the clip cache that a GPU gets."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from conftest import DEMO_CONFIG, PRIMITIVE
from mmaction.registry import MODELS
from mmengine.registry import init_default_scope

from hri30_ext import config, hardware
from hri30_ext.apis import train
from hri30_ext.config import load_config, unresolved


@pytest.mark.slow
def test_the_model_has_no_graph_break(options):
    init_default_scope('mmaction')
    cfg = load_config(DEMO_CONFIG, options)
    model = MODELS.build(cfg.model).train()
    clips = torch.zeros(2, 3, 4, 32, 32)
    for module, given in ((model.backbone, clips), (model.cls_head, model.backbone(clips))):
        found = torch._dynamo.explain(module)(given)
        assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


def test_compiled_parts_train_and_keep_their_names(options, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, 'compile', lambda self: compiled.append(self))
    for value in (False, True):
        train(DEMO_CONFIG, work_dir=str(tmp_path / str(value)),
              options={**options, 'max_epochs': 1, 'compile': value})
        assert len(compiled) == 2 * value
    assert [type(each).__name__ for each in compiled] == ['ResNet3dSlowOnly', 'I3DHead']


@pytest.mark.parametrize('device, free, stored, form', [
    ('cuda', 10e9, False, 'jpeg'), ('cuda', 9.9e9, False, None),
    ('cuda', 9.9e9, True, 'jpeg'), ('cpu', 1e12, True, None)])
def test_a_gpu_gets_a_cache_where_there_is_room(device, free, stored, form, tmp_path,
                                                monkeypatch):
    monkeypatch.setattr(hardware, 'get_device', lambda: device)
    monkeypatch.setattr(shutil, 'disk_usage', lambda place: SimpleNamespace(free=free))
    folder = tmp_path / 'new' / 'cache'
    if stored:
        folder.mkdir(parents=True)
        (folder / 'a.jpegs').touch()
    cfg = load_config(PRIMITIVE, {'cache_dir': str(folder)})
    assert cfg.train_pipeline[0].cache == form
    assert unresolved(cfg).clip_cache == 'auto'
    assert config.default_clip_cache(None) is None
