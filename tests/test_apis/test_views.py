"""Views of a clip at test time: which frames, and whose mean is written."""

import json

import numpy as np
import pytest
import torch
from conftest import DEMO_CONFIG
from mmaction.datasets.transforms import UniformSample
from mmaction.registry import DATASETS, MODELS
from mmengine.dataset import Compose, pseudo_collate

from hri30_ext.apis import test as run_test
from hri30_ext.apis.testing import prepare
from hri30_ext.apis.views import compare_views, format_views
from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.errors import HRI30Error
from hri30_ext.evaluation.results import Results
from hri30_ext.transforms.views import UniformViews

LSTM = str(next((PROJECT_ROOT / 'configs' / 'cnn_lstm').glob('*.py')))
SIDES = ['MoveLeftWhileDrilling', 'MoveRightWhileDrilling', 'Walking']


def frames_of(length, clip_len, num_clips, sampling='segments'):
    step = UniformViews(clip_len=clip_len, num_clips=num_clips, sampling=sampling)
    found = step.transform(dict(total_frames=length, start_index=0))
    return found['frame_inds'].reshape(num_clips, clip_len)


def test_frames_of_two_views():
    # Segments from 0, 2.25, 4.5 and 6.75; fractions of 0.5625 and 1.6875 frames.
    assert frames_of(9, 4, 2).tolist() == [[0, 2, 5, 7], [1, 3, 6, 8]]
    # Segments from 0, 2, 4 and 6 would all round alike; fractions of 0.5 and 1.5 frames,
    # after -3/8, -1/8, 1/8 and 3/8 of a frame are added.
    assert frames_of(8, 4, 2).tolist() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    # Segments of 1 frame; fractions of 1/6, 1/2, 5/6; -7/16, -5/16, ..., 7/16 are added.
    assert frames_of(8, 8, 3).tolist() == [
        [0, 0, 1, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 3, 4, 6, 7, 7]]


@pytest.mark.parametrize('clip_len', [8, 13, 16, 32])
@pytest.mark.parametrize('sampling', ['segments', 'mmaction2'])
def test_several_views_differ(clip_len, sampling):
    for length in range(30, 61):
        for views in (3, 10):
            frames = frames_of(length, clip_len, views, sampling)
            assert len({tuple(view) for view in frames}) == views
            assert (np.diff(frames) >= 0).all() and frames.max() < length


@pytest.mark.parametrize('clip_len', [8, 13, 16, 32])
def test_one_view_by_the_rule_of_mmaction2(clip_len):
    step = UniformSample(clip_len, test_mode=True)
    for length in range(1, 61):
        found = frames_of(length, clip_len, 1, 'mmaction2')
        assert found.ravel().tolist() == step._get_sample_clips(length).tolist()


def test_views_that_cannot_be_given(checkpoint, options):
    options.update(test_flip=True, classes=['TurnLeft', 'Stop', 'Go'])
    with pytest.raises(HRI30Error, match='no class:\n  TurnLeft'):
        prepare(DEMO_CONFIG, checkpoint, options)
    config = next((PROJECT_ROOT / 'configs' / 'slowonly').glob('*8x4x1*.py'))
    with pytest.raises(HRI30Error, match='does not reach.*SampleFrames'):
        prepare(str(config), checkpoint, {'test_clips': 3})
    config = next((PROJECT_ROOT / 'configs' / 'slowonly').glob('*centercrop*.py'))
    with pytest.raises(HRI30Error, match='test_crops=3: does not reach'):
        prepare(str(config), checkpoint, {'test_crops': 3})


def make_checkpoint(config, options, path):
    """Saves random weights whose logits of different views differ by about one."""
    cfg = load_config(config, options)
    model = MODELS.build(cfg.model).eval()
    fc_cls, logits = model.cls_head.fc_cls, []
    hook = fc_cls.register_forward_hook(lambda layer, x, y: logits.append(y))
    score_views(cfg, model)
    hook.remove()
    logits_NK = torch.cat(logits)
    spread_K = logits_NK.std(dim=0)
    with torch.no_grad():
        fc_cls.weight /= spread_K[:, None]
        fc_cls.bias.copy_((fc_cls.bias - logits_NK.mean(dim=0)) / spread_K)
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


@pytest.fixture
def checkpoint(options, tmp_path):
    return make_checkpoint(DEMO_CONFIG, options, tmp_path / 'random.pth')


def score_views(cfg, model, mirror=False):
    """Scores every view of the validation clips alone, (N, V, K), without the program."""
    dataset = DATASETS.build(cfg.val_dataloader.dataset)
    pipeline, scores = Compose(cfg.test_pipeline), {}
    for index in range(len(dataset)):
        sample = dataset.get_data_info(index)
        packed = pipeline(dict(sample))
        views = packed['inputs'].chunk(cfg.test_clips * cfg.test_crops)
        if mirror:
            views = [view.flip(-1) for view in views]
        with torch.no_grad():
            scores[sample['video_id']] = torch.stack([
                model.test_step(pseudo_collate([{**packed, 'inputs': view}]))[0].pred_score
                for view in views])
    return torch.stack([scores[name] for name in sorted(scores)]).numpy()


@pytest.mark.parametrize('config, clips, crops, flip', [
    (DEMO_CONFIG, 3, 1, False), (LSTM, 3, 1, False), (DEMO_CONFIG, 1, 1, True),
    (LSTM, 2, 3, False)], ids=['3D', '2D in order', 'mirrored', 'crops'])
def test_scores_are_the_mean_of_the_views(config, clips, crops, flip, options, clips_root,
                                          tmp_path):
    options.update(test_clips=clips, test_crops=crops)
    if flip:  # of classes that change sides, without their annotation
        (tmp_path / 'data').mkdir()
        (tmp_path / 'data' / 'train_set').symlink_to(clips_root / 'train_set')
        options.update(classes=SIDES, data_root=str(tmp_path / 'data'))
    if config == LSTM:
        options.update({'model.backbone.pretrained': None, 'model.backbone.depth': 18,
                        'model.cls_head.in_channels': 512})
    checkpoint = make_checkpoint(config, options, tmp_path / 'random.pth')
    metrics = run_test(config, checkpoint, 'val', str(tmp_path),
                       {**options, 'test_flip': flip})
    results, cfg = Results.load(tmp_path / 'val'), load_config(config, options)
    model = MODELS.build(cfg.model).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)['state_dict'])
    views_NVK = score_views(cfg, model)
    if flip:  # what a mirrored clip shows is mapped back
        views_NVK = np.concatenate(
            [views_NVK, score_views(cfg, model, True)[..., [1, 0, 2]]], axis=1)
    np.testing.assert_allclose(results.scores_NK, views_NVK.mean(axis=1), atol=2e-3)
    assert np.ptp(views_NVK, axis=1).max() > 0.02  # the views do differ
    assert metrics['val']['num_videos'] == len(results.videos) == 3


def test_cost_stands_beside_gain(checkpoint, options, tmp_path):
    rows = compare_views(DEMO_CONFIG, checkpoint, str(tmp_path), clips=[3], options=options)
    assert [(row['clips'], row['flip'], row['views']) for row in rows] == [
        (1, False, 1), (1, True, 2), (3, False, 3), (3, True, 6)]
    assert rows[0]['cost'] == 1 and all(row['seconds'] > 0 for row in rows)
    assert json.loads((tmp_path / 'views.json').read_text()) == rows
    assert (tmp_path / '3-flip' / 'val' / 'predictions.csv').is_file()
    assert len(format_views(rows).splitlines()) == 5
    with pytest.raises(HRI30Error, match='test_clips=0: expected'):
        compare_views(DEMO_CONFIG, checkpoint, str(tmp_path), clips=[0], options=options)
