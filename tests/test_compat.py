"""Every remedy, by what fails without it."""

import functools
import hashlib
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from hostile import HOSTILE
from mmaction.models.heads import I3DHead
from mmaction.registry import DATASETS, MODELS, TRANSFORMS
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.runner import checkpoint as mm_checkpoint
from mmengine.runner import load_checkpoint

from hri30_ext.compat import import_mmaction
from hri30_ext.config import PROJECT_ROOT
from hri30_ext.errors import HRI30Error


def run_python(code):
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          cwd=PROJECT_ROOT, timeout=600)


def test_importing_changes_nothing_and_a_second_call_neither():
    """Of other packages, what configs do not name changes nothing."""
    result = run_python("""
import sys
def snapshot():
    found = {}
    for module in list(sys.modules.values()):
        name = getattr(module, '__name__', '') or ''
        if name.split('.')[0] not in ('torch', 'mmengine', 'mmcv', 'mmaction', 'numpy'):
            continue
        for key, value in list(vars(module).items()):
            found[f'{name}.{key}'] = value
            if isinstance(value, type) and value.__module__ == name:
                found[f'{name}.{key}.__new__'] = value.__new__  # inherited by most
                found.update({f'{name}.{key}.{k}': v for k, v in vars(value).items()
                              if k != '__doc__' and not k.startswith('_abc_')})
    return found
def changed(before, after):
    return {key for key in before if after.get(key) is not before[key]}
import mmengine.runner, torch.hub, mmaction, warnings
before, path, filters = snapshot(), list(sys.meta_path), list(warnings.filters)
safe = torch.serialization.get_safe_globals()
import hri30_ext
from hri30_ext import checkpoints, compat, config, names
assert not changed(before, snapshot()), changed(before, snapshot())
assert (path, filters) == (sys.meta_path, warnings.filters)
assert torch.serialization.get_safe_globals() == safe
import hri30_ext.modules
once = snapshot()
compat.apply()
assert changed(before, once) and not changed(once, snapshot())
""")
    assert result.returncode == 0, result.stderr


def test_mmaction_is_imported_whole():
    """Without the package that its wheel lacks, and beside transformers 5."""
    from mmaction.models import localizers
    assert 'BMN' in MODELS and 'TCANet' in MODELS and hasattr(localizers, 'DRN')
    assert 'VideoDataset' in DATASETS and 'HRI30Dataset' in DATASETS
    assert 'UniformSample' in TRANSFORMS
    assert 'mmaction.models.multimodal.vindlu' not in sys.modules


def test_missing_package_is_an_error_and_not_half_an_import(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmaction.utils', None)
    with pytest.raises(HRI30Error, match=r'imported: .*mmaction.utils(?s:.*)setup'):
        import_mmaction()


def test_download_without_a_network_names_the_file_and_its_place(tmp_path):
    url = 'http://127.0.0.1:9/weights/slowonly.pth'  # nobody listens on port 9
    with pytest.raises(HRI30Error) as error:
        mm_checkpoint.load_from_http(url, model_dir=str(tmp_path))
    assert url in str(error.value) and str(tmp_path / 'slowonly.pth') in str(error.value)
    assert 'load_from=PATH' in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings('ignore:Environment variable TORCH_FORCE')
def test_environment_cannot_switch_the_check_off(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    path, mark = tmp_path / 'hostile.pth', tmp_path / 'was run'
    HOSTILE['os.system'](path, mark)
    with pytest.raises(HRI30Error, match='hostile.pth: refused'):
        load_checkpoint(torch.nn.Linear(1, 1), str(path))
    assert not mark.exists()
    torch.load(path)  # which it switches off for others
    assert mark.exists()


@pytest.mark.parametrize('digits', ['right', 'wrong'])
def test_download_is_compared_with_the_digits_of_its_name(digits, tmp_path):
    file = tmp_path / 'a.pth'
    torch.save({'a': 1}, file)
    sha = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    name = f'slowonly_r50_20220901-{sha if digits == "right" else "0" * 8}.pth'
    file = file.rename(tmp_path / name)
    load = functools.partial(mm_checkpoint.load_from_http, file.as_uri(),
                             model_dir=str(tmp_path / 'hub'))
    if digits == 'right':
        assert load() == {'a': 1}
    else:
        with pytest.raises(HRI30Error, match='cannot be downloaded .*invalid hash'):
            load()
        assert not list((tmp_path / 'hub').iterdir())


def test_heads_score_bfloat16():
    head = I3DHead(num_classes=3, in_channels=4, average_clips='prob', dropout_ratio=0)
    samples = [ActionDataSample().set_gt_label(1) for _ in range(2)]
    features = torch.randn(2, 4, 1, 1, 1)
    with torch.autocast('cpu', torch.bfloat16):
        losses = head.loss(features, samples)
        scores = head.predict(features, samples)[0].pred_score
    assert losses['loss_cls'].dtype == torch.float32 and 'top1_acc' in losses
    assert scores.dtype == torch.float32
    assert scores.sum().item() == pytest.approx(1, abs=1e-6)


def test_time_of_a_step_is_read_without_waiting_for_its_losses():
    hub = MessageHub.get_instance('time')
    hub.update_scalar('train/loss', torch.zeros((), device='meta'))  # cannot be read
    hub.update_scalar('train/time', 0.5)
    assert hub.get_scalar('train/time').current() == 0.5


@pytest.mark.parametrize('kernel, stride, size', [
    ((5, 3, 3), 1, (2, 6, 6)), ((5, 3, 3), 1, (3, 6, 6)), ((5, 3, 3), 1, (4, 6, 6)),
    ((5, 3, 3), 1, (5, 6, 6)), ((1, 3, 3), (1, 2, 2), (2, 1, 1)),
    ((1, 3, 3), (1, 2, 2), (2, 1, 2))])
def test_gradient_of_clips_smaller_than_the_kernel_is_right_in_bfloat16(
        kernel, stride, size):
    padding = [side // 2 for side in kernel]
    conv = torch.nn.Conv3d(8, 16, kernel, stride, padding, bias=False)
    conv.weight.data = conv.weight.data.to(memory_format=torch.channels_last_3d)
    clip = torch.randn(4, 8, *size)
    expected, = torch.autograd.grad(conv(clip).square().sum(), conv.weight)
    for _ in range(5):
        # What is freed here is the memory that the wrong kernel does not initialise.
        junk = torch.full((1 << 20, ), 1e30)
        del junk
        with torch.autocast('cpu', torch.bfloat16):
            output = conv(clip)
        found, = torch.autograd.grad(output.float().square().sum(), conv.weight)
        assert (found - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize('memory_format', [
    torch.contiguous_format, torch.channels_last_3d])
def test_single_frames_are_pooled_as_pictures_with_the_same_numbers(memory_format):
    pool = torch.nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
    clip = torch.randint(9, (2, 3, 4, 7, 10), generator=torch.Generator().manual_seed(0))
    clip = clip.float().contiguous(memory_format=memory_format)  # many values are equal
    expected, found = (clip.clone().requires_grad_() for _ in range(2))
    three = torch.nn.functional.max_pool3d(expected, (1, 3, 3), (1, 2, 2), (0, 1, 1))
    two = pool(found)
    assert torch.equal(two, three) and two.stride() == three.stride()
    weights = torch.rand(three.shape, generator=torch.Generator().manual_seed(1))
    for output in (three, two):
        (output * weights).sum().backward()
    assert torch.equal(found.grad, expected.grad) and found.grad.count_nonzero()

    def operations(node):
        return {node.name()}.union(*(operations(one) for one, _ in node.next_functions))
    assert not any('MaxPool3D' in name for name in operations(two.grad_fn))
    # Graphs that are exported or counted stay, and windows over several frames.
    assert 'MaxPool3D' in pool.eval()(found).grad_fn.name()
    assert 'MaxPool3D' in torch.nn.MaxPool3d(3, 2, 1)(found).grad_fn.name()


def test_config_is_formatted_again_only_when_it_changed(monkeypatch):
    from mmengine.config import config as module
    calls = []
    original = module.FormatCode

    def format_code(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, 'FormatCode', format_code)
    cfg = Config(dict(model=dict(type='A', depth=18)))
    first = cfg.pretty_text
    assert cfg.pretty_text == first and len(calls) == 1
    cfg.model.depth = 50
    assert 'depth=50' in cfg.pretty_text and len(calls) == 2


def test_config_without_references_is_left_as_it_is(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text("classes = None\nmodel = dict(type='A', cost='$5')\n")
    assert Config.fromfile(str(path)).to_dict() == {
        'classes': None, 'model': {'type': 'A', 'cost': '$5'}}


@pytest.mark.parametrize(('factor', 'hue'), [(-0.3, 74), (0.25, 33), (0.6, 123)])
def test_hues_turn_in_both_directions(factor, hue):
    """A hue is half its angle: magenta is 150, and turns by 76 back, 63 and 153 on."""
    from mmaction.datasets.transforms import ColorJitter
    image = np.full((1, 1, 3), (255, 0, 255), np.float32)
    hsv = cv2.cvtColor(ColorJitter.adjust_hue(image, factor).astype(np.uint8),
                       cv2.COLOR_RGB2HSV)
    assert hsv[0, 0].tolist() == [hue, 255, 255]


@pytest.mark.parametrize('kind', ['PoseCompact', 'MMCompact'])
def test_poses_are_cut_out_under_numpy_2(kind):
    corners = np.array([[[[10, 20], [30, 60]]]], np.float32)  # of one person, x and y
    step = TRANSFORMS.build(dict(type=kind, padding=0.5, hw_ratio=None))
    image = np.zeros((100, 100, 3), np.uint8)
    found = step.transform(dict(keypoint=corners, img_shape=(100, 100), imgs=[image]))
    # The box is 20 x 40 pixels around (20, 40), and half as large again: from (5, 10).
    assert found['img_shape'] == (60, 30) and found['keypoint'][0, 0, 0].tolist() == [5, 10]
