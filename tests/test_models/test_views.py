"""Each different view of a clip is computed once, and nothing else changes."""

from types import SimpleNamespace

import pytest
import torch
from conftest import DEMO_CONFIG
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmengine.model import is_model_wrapper

from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.errors import HRI30Error
from hri30_ext.models.views import TestTimeViews, clips_at_once, unique_views

SMALL = {'model.backbone.pretrained': None, 'model.backbone.depth': 18,
         'model.cls_head.in_channels': 512, 'num_frames': 4, 'classes': ['A', 'B', 'C']}
#: Rows of a view, and a config: 3D; 2D, each frame alone, in order, and shifted in time.
MODELS_2D_AND_3D = {
    'slowonly': (1, DEMO_CONFIG, {'num_frames': 4, 'classes': ['A', 'B', 'C']}),
    'cnn_lstm': (4, None, SMALL), 'tsn': (4, None, SMALL), 'tsm': (4, None, SMALL)}


def build(name):
    rows, config, options = MODELS_2D_AND_3D[name]
    config = config or str(next((PROJECT_ROOT / 'configs' / name).glob('*.py')))
    # In float64: a batch is summed in another order than single clips.
    model = MODELS.build(load_config(config, options).model).eval().double()
    # Random weights give every view the same scores; these have logits of spread 1.
    logits, fc_cls = [], model.cls_head.fc_cls
    hook = fc_cls.register_forward_hook(lambda layer, x, y: logits.append(y.mean(0)))
    score_each_view_alone(model, rows, range(1, 7))
    hook.remove()
    logits_VK = torch.stack(logits)
    with torch.no_grad():
        fc_cls.weight /= logits_VK.std(0)[:, None]
        fc_cls.bias.copy_((fc_cls.bias - logits_VK.mean(0)) / logits_VK.std(0))
    return rows, model


def clip_of(rows, numbers):
    """A clip whose views are random squares by their number, in the model's format."""
    def view(number):
        generator = torch.Generator().manual_seed(number)
        shape = (1, 3, 4, 2, 2) if rows == 1 else (rows, 3, 2, 2)
        squares = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        return squares.repeat_interleave(16, -1).repeat_interleave(16, -2)
    return torch.cat([view(number) for number in numbers])


def batch_of(rows, *clips):
    return dict(inputs=[clip_of(rows, numbers) for numbers in clips], data_samples=[
        ActionDataSample(metainfo=dict(video_id=f'clip {i}')).set_gt_label(i)
        for i in range(len(clips))])


@torch.no_grad()
def score_each_view_alone(model, rows, *clips):
    """The mean over all views, the same ones again and again: (N, K)."""
    return torch.stack([torch.stack([
        model.test_step(batch_of(rows, [number]))[0].pred_score for number in numbers
    ]).mean(0) for numbers in clips])


CLIPS = [[1, 2, 1, 1], [3, 3], [2, 4, 5, 6]]  # 2 + 1 + 4 different views


@pytest.mark.parametrize('name', MODELS_2D_AND_3D)
def test_result_and_number_of_computed_views(name):
    rows, model = build(name)
    expected_NK = score_each_view_alone(model, rows, *CLIPS)
    assert expected_NK.std(0).max() > 0.05
    computed = []
    model.backbone.register_forward_pre_hook(
        lambda module, inputs: computed.append(len(inputs[0]) // rows))
    with torch.no_grad():
        results = TestTimeViews(model, 4, max_views=3).test_step(batch_of(rows, *CLIPS))
    torch.testing.assert_close(torch.stack([one.pred_score for one in results]),
                               expected_NK, atol=1e-6, rtol=0)
    assert computed == [2, 2, 3]  # as few batches of at most 3 as there can be
    for i, one in enumerate(results):
        assert (one.video_id, int(one.gt_label)) == (f'clip {i}', i)
        assert int(one.pred_label) == int(expected_NK[i].argmax())


def test_views_are_averaged_in_float32_under_autocast():
    model = build('slowonly')[1].float()
    wrapped = TestTimeViews(model, 4, 16)
    assert is_model_wrapper(wrapped) and wrapped.module is model
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        score_K = wrapped.test_step(batch_of(1, [1, 2, 3]))[0].pred_score
    assert score_K.dtype == torch.float32
    assert not torch.equal(score_K, score_K.bfloat16().float())


@pytest.mark.parametrize('rows', [1, 4])
def test_different_views_in_order(rows):
    views, counts = unique_views(clip_of(rows, [7, 8, 7, 9, 8, 7]), rows)
    assert counts == [3, 2, 1]
    for view, number in zip(views, (7, 8, 9), strict=True):
        assert torch.equal(view, clip_of(rows, [number]))
    lying_apart = clip_of(rows, [7, 7]).transpose(-1, -2)
    assert unique_views(lying_apart, rows)[1] == [2]
    lying_apart[-1, ..., -1, -1] ^= 1  # one pixel
    assert unique_views(lying_apart, rows)[1] == [1, 1]


@pytest.mark.parametrize('rows, shape', [(4, (6, 3, 8, 8)), (1, (0, 3, 4, 8, 8))])
def test_what_is_no_number_of_views(rows, shape):
    with pytest.raises(HRI30Error, match='expected views of'):
        unique_views(torch.zeros(shape, dtype=torch.uint8), rows)


def test_logits_are_not_averaged():
    head = SimpleNamespace(average_clips='score')
    with pytest.raises(HRI30Error, match="average_clips='score'"):
        TestTimeViews(SimpleNamespace(cls_head=head), 4, 16)


@pytest.mark.parametrize('batch_size, views, expected', [
    (16, 1, 16), (16, 2, 16), (16, 3, 10), (16, 30, 1), (16, 100, 1), (1, 3, 1)])
def test_clips_that_are_read_at_once(batch_size, views, expected):
    assert clips_at_once(batch_size, views) == expected
