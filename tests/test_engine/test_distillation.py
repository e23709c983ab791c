"""A student that learns from a teacher beside the labels."""

import json
from types import SimpleNamespace

import pytest
import torch
from conftest import CLASSES, DEMO_CONFIG
from mmaction.models.recognizers import Recognizer2D
from mmaction.registry import DATASETS, MODELS
from mmaction.structures import ActionDataSample
from mmengine.registry import init_default_scope
from same_training import assert_same_training, load
from scipy.special import log_softmax, softmax
from scipy.stats import entropy

from hri30_ext.apis import test as run_test
from hri30_ext.apis import train
from hri30_ext.apis.distilling import load_teacher
from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.datasets import HRI30Dataset
from hri30_ext.engine.distillation import DistillHook
from hri30_ext.errors import HRI30Error

EMBEDDED = str(next(PROJECT_ROOT.glob('configs/foundation/*embedded*.py')))


@pytest.mark.parametrize('class_weights, smoothing', [(None, 0), ([1., 2., 4.], 0.1)])
def test_loss_is_the_formula(taught, class_weights, smoothing):
    init_default_scope('mmaction')
    cfg = load_config(DEMO_CONFIG, {**taught, 'num_frames': 3, 'input_size': (40, 24),
                                    'label_smoothing': smoothing, 'distill.weight': 0.3,
                                    'distill.temperature': 4.0})
    student = MODELS.build(cfg.model).eval()
    torch.nn.init.normal_(student.cls_head.fc_cls.weight)
    if class_weights:
        student.cls_head.loss_cls.class_weight = torch.tensor(class_weights)
    [hook] = load_teacher(cfg)
    hook.before_train(SimpleNamespace(model=student))
    clips, labels = torch.randint(256, (4, 1, 3, 3, 24, 40)), torch.tensor([0, 2, 1, 2])
    samples = [ActionDataSample().set_gt_label(label) for label in labels]
    data = student.data_preprocessor(dict(inputs=list(clips), data_samples=samples))
    losses = student(**data, mode='loss')

    logits, others = (model.extract_feat(model.data_preprocessor(dict(
        inputs=list(clips), data_samples=[]))['inputs'], stage='head')[0].detach().numpy()
        for model in (student, hook.teacher))
    targets = (1 - smoothing) * torch.eye(3)[labels].numpy() + smoothing / 3
    weights = targets @ (class_weights or [1., 1., 1.])
    own = -(targets * log_softmax(logits, 1) @ torch.diag(torch.tensor(
        class_weights or [1., 1., 1.])).numpy()).sum() / weights.sum()
    # The teacher's classes are the second, the third and the first.
    divergences = entropy(
        *(softmax(x / 4, axis=1) for x in (others[:, [2, 0, 1]], logits)), axis=1)
    assert losses['loss_cls'].item() == pytest.approx(0.7 * own, rel=1e-4)
    assert losses['loss_distill'].item() == pytest.approx(
        0.3 * 16 * (weights * divergences).sum() / weights.sum(), rel=1e-4)
    assert losses['loss_distill'] > 0.1


class Recorder(Recognizer2D):
    """Keeps what it is shown."""

    def __init__(self):
        torch.nn.Module.__init__(self)
        self.data_preprocessor = MODELS.build(dict(
            type='ActionDataPreprocessor', mean=[10] * 3, std=[2] * 3, format_shape='NCHW'))

    def extract_feat(self, inputs, stage):
        self.seen = inputs
        return torch.zeros(len(inputs), 2), {}


@pytest.mark.parametrize('frames, chosen', [(3, [1, 4, 6]), (4, [1, 3, 5, 7])])
def test_teacher_sees_frames_of_the_student(frames, chosen):
    hook = DistillHook(Recorder(), [1, 0], frames, (8, 4), 0.5, 2, '')
    clips = torch.arange(8.).view(1, 1, 1, 8, 1, 1).expand(2, 1, 3, 8, 6, 16)
    hook.score(clips, frames_first=False)
    assert hook.teacher.seen.shape == (2, frames, 3, 4, 8)
    expected = (torch.tensor(chosen) - 10) / 2
    torch.testing.assert_close(hook.teacher.seen, expected.view(1, -1, 1, 1, 1).expand(
        2, frames, 3, 4, 8))
    again = hook.teacher.seen
    hook.score(clips[:, 0].transpose(1, 2), frames_first=True)
    assert torch.equal(hook.teacher.seen, again)


@pytest.mark.slow
def test_teacher_leaves_no_trace_but_in_the_weights(taught, options, tmp_path):
    taught.update(weight_averaging='ema', snapshot_interval=1, leak_check=None)
    plain = {**taught, 'distill.teacher': None, 'distill.checkpoint': None}
    for name, changes in (('plain', plain), ('none', {**taught, 'distill.weight': 0}),
                          ('all', {**taught, 'distill.weight': 1}), ('resumed', None)):
        changes = changes or {**taught, 'distill.weight': 1}
        train(DEMO_CONFIG, str(tmp_path / name), options=changes, resume=str(
            tmp_path / 'all' / 'snapshot_epoch_1.pth') if name == 'resumed' else False)
    one, none, all_, resumed = (tmp_path / name / 'epoch_2.pth' for name in (
        'plain', 'none', 'all', 'resumed'))
    assert_same_training(one, none)
    assert_same_training(all_, resumed)
    one, all_ = load(one), load(all_)
    for part in ('state_dict', 'ema_state_dict'):
        assert one[part].keys() == all_[part].keys()
        assert any(not torch.equal(one[part][name], all_[part][name]) for name in one[part])
    assert len(one['optimizer']['state']) == len(all_['optimizer']['state'])
    (tmp_path / 'teacher.py').unlink()
    (tmp_path / 'teacher.pth').unlink()
    metrics = run_test(str(tmp_path / 'all' / DEMO_CONFIG.split('/')[-1]),
                       str(tmp_path / 'all' / 'best.safetensors'), 'val', str(tmp_path))
    assert metrics['val']['num_videos'] == 3


@pytest.mark.slow
def test_views_of_cached_tokens_are_scored_once(taught, tmp_path, monkeypatch):
    read, prepare = [], HRI30Dataset.prepare_data
    monkeypatch.setattr(HRI30Dataset, 'prepare_data', lambda self, index: (
        read.append(index), prepare(self, index))[1])
    options = {**taught, 'input_size': (64, 32), 'max_epochs': 1, 'leak_check': None,
               'backbones.efficientnet-lite0.name': 'test_efficientnet',
               'backbones.efficientnet-lite0.pretrained': None, 'distill.weight': 1,
               'cache_features': 'augmented', 'features_dir': str(tmp_path / 'features')}
    last = [load(train(EMBEDDED, str(tmp_path / name), options=options))['state_dict']
            for name in ('one', 'two') if read.append(name) is None]
    # Two views to encode, and again to score; three clips to validate.
    assert len(read) == 2 * 12 + 3 + 2 and read[-1] == 'two'
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])
    [file] = (tmp_path / 'features').glob('teacher-*.json')
    scores = torch.tensor(json.loads(file.read_text()))
    cfg = load_config(EMBEDDED, options)
    [hook], dataset = load_teacher(cfg), DATASETS.build(cfg.train_dataloader.dataset)
    expected = [hook.score(dataset.draw(clip, 0, draw)['inputs'][None], False)[0]
                for draw in (0, 1) for clip in range(6)]
    torch.testing.assert_close(scores, torch.stack(expected), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(scores[:6], scores[6:], atol=1e-3)


@pytest.mark.parametrize('changes, message', [
    ({'classes': [*CLASSES[:2], 'Wave']}, f'Only one of both knows\n  {CLASSES[2]}\n  Wav'),
    ({'distill.checkpoint': 'none.pth'}, "checkpoint='none.pth': expected a config and"),
    ({'distill.checkpoint': None}, 'checkpoint=None: expected a config and'),
    ({'distill.teacher': 'none.py'}, 'none.py: no such config'),
    ({'distill.checkpoint': DEMO_CONFIG}, 'not a readable checkpoint'),
    ({'num_frames': 2}, 'sees 3 frames of a clip, and the student loads 2.\nSet num_fr'),
])
def test_what_cannot_teach_is_refused(taught, tmp_path, changes, message):
    with pytest.raises(HRI30Error, match=message):
        load_teacher(load_config(DEMO_CONFIG, {**taught, **changes}))
