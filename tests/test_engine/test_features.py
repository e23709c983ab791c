"""Training the head from memory is training it from clips."""

import itertools
import threading
from unittest.mock import MagicMock

import pytest
import torch
from conftest import DEMO_CONFIG
from mmaction.registry import HOOKS, MODELS
from mmaction.structures import ActionDataSample
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from hri30_ext.apis import train
from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.datasets import HRI30Dataset
from hri30_ext.engine import FeatureCacheHook
from hri30_ext.engine.features import _POOLS, CachedFeatures, collate_features
from hri30_ext.engine.fine_tuning import freeze_all_but
from hri30_ext.engine.tokens import CachedTokens, make_key
from hri30_ext.errors import HRI30Error

HOOKS_OF_A_RUN = ['${strategies[strategy].schedule}', '${feature_caches[cache_features]}',
                  '${class_weightings[class_weights]}', dict(type='RecordLosses')]
TSM = str(next((PROJECT_ROOT / 'configs' / 'tsm').glob('*.py')))


@HOOKS.register_module()
class RecordLosses(Hook):
    """Keeps the loss of each step and the metrics of each validation."""

    losses: list = []
    metrics: list = []
    clips: list = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())
        self.clips.append([sample.video_id for sample in data_batch['data_samples']])

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.append(dict(metrics))

    def after_train(self, runner):
        assert runner.train_dataloader.dataset.subset == 'train'
        assert 'forward' not in vars(runner.model.data_preprocessor)
        assert 'extract_feat' not in vars(runner.model)


@pytest.fixture
def decoded(monkeypatch):
    """Names of the clips that went through a pipeline."""
    names, prepare = [], HRI30Dataset.prepare_data

    def prepare_data(self, index):
        names.append(self.get_data_info(index)['video_id'])
        return prepare(self, index)

    monkeypatch.setattr(HRI30Dataset, 'prepare_data', prepare_data)
    return names


def run(folder, options, config=DEMO_CONFIG, **changes):
    """Trains on 6 clips, in 3 batches; returns the losses and the last checkpoint."""
    for kept in (RecordLosses.losses, RecordLosses.metrics, RecordLosses.clips):
        kept.clear()
    train(config, work_dir=str(folder), options={
        **options, 'max_epochs': 3, 'batch_size': 2, 'precision': 'fp32', 'lr': 0.1,
        'strategy': 'frozen_backbone', 'early_stopping': None, 'warmup_epochs': 0,
        'custom_hooks': HOOKS_OF_A_RUN, **changes})
    last = (folder / 'last_checkpoint').read_text()
    return (list(RecordLosses.losses), list(RecordLosses.metrics),
            list(RecordLosses.clips), torch.load(last, weights_only=True)['state_dict'])


def assert_same(one, other):
    torch.testing.assert_close(torch.tensor(one[0]), torch.tensor(other[0]), atol=1e-5,
                               rtol=0)
    assert one[2] == other[2]
    for a, b in zip(one[1], other[1], strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    assert one[3].keys() == other[3].keys()
    for name, weight in one[3].items():
        torch.testing.assert_close(weight, other[3][name], atol=1e-5, rtol=1e-5, msg=name)


#: The training clips as the validation sees its own.
PLAIN = {'train_dataloader.dataset.pipeline': '${test_pipeline}'}


@pytest.mark.parametrize('changes', [
    {}, {'num_workers': 1}, {'class_weights': 'balanced'}],
    ids=['0 workers', '1 worker', 'class weights'])
@pytest.mark.slow
def test_losses_metrics_and_weights_are_those_without(options, tmp_path, changes):
    if changes.get('num_workers'):
        changes = {**changes, 'model.cls_head.dropout_ratio': 0}
    plain = run(tmp_path / 'plain', options, **PLAIN, **changes)
    cached = run(tmp_path / 'cached', options, cache_features='plain', **changes)
    assert len(plain[0]) == 9 and max(plain[0]) - min(plain[0]) > 1e-2
    assert_same(cached, plain)


@pytest.mark.slow
def test_frames_of_a_2d_model(options, tmp_path):
    options = {**options, 'model.backbone.depth': 18, 'model.cls_head.in_channels': 512,
               'load_from': None, 'max_epochs': 1}
    plain = run(tmp_path / 'plain', options, TSM, **PLAIN)
    assert_same(run(tmp_path / 'cached', options, TSM, cache_features='plain'), plain)


@pytest.mark.slow
def test_clips_are_read_again_when_the_backbone_learns(options, tmp_path, decoded):
    schedule = [dict(begin=0, parts=['cls_head']), dict(begin=2, parts=['backbone'])]
    changes = {'strategy': 'progressive', 'snapshot_interval': 1,
               'strategies.progressive.schedule.schedule': schedule,
               'model.cls_head.dropout_ratio': 0}
    cached = run(tmp_path / 'cached', options, cache_features='plain', **changes, **PLAIN)
    # Once for the first two epochs; then 6 to train and 3 to validate.
    assert len(decoded) == 9 + 9 and len(set(decoded[:9])) == 9
    assert_same(cached, run(tmp_path / 'plain', options, **changes, **PLAIN))
    first, second, third = (torch.load(tmp_path / 'cached' / f'snapshot_epoch_{i}.pth',
                                       weights_only=True)['state_dict'] for i in (1, 2, 3))
    name = 'backbone.conv1.conv.weight'
    assert torch.equal(first[name], second[name])
    assert not torch.equal(second[name], third[name])


@pytest.mark.slow
def test_augmented_draws_change_with_the_epoch(options, tmp_path, decoded):
    class Served(FeatureCacheHook):
        features: dict = {}

        def before_train_iter(self, runner, batch_idx, data_batch=None):
            for sample, feature in zip(data_batch['data_samples'],
                                       data_batch['inputs'][0], strict=True):
                self.features[runner.epoch, sample.video_id] = feature.sum().item()

    HOOKS.register_module(module=Served, force=True)
    run(tmp_path, options, cache_features='augmented',
        **{'feature_caches.augmented': dict(type='Served', augmented_views=2)})
    assert len(decoded) == 2 * 6 + 3
    names = {name for _, name in Served.features}
    assert len(names) == 6
    for name in names:
        first, second, third = (Served.features[epoch, name] for epoch in range(3))
        assert first == third
        assert first != second


@pytest.mark.parametrize('changes, message', [
    ({'strategy': 'full'}, "Expected strategy='frozen_backbone'"),
    ({'strategy': 'frozen_backbone', 'test_clips': 2}, 'test_clips=2'),
    ({'model.cls_head.spatial_type': 'none'}, 'I3DHead does not begin with pooling'),
    ({'feature_caches.plain.augmented_views': -1}, 'augmented_views=-1, expected'),
])
def test_what_cannot_be_cached(options, tmp_path, changes, message):
    with pytest.raises(HRI30Error, match=message):
        run(tmp_path, options, cache_features='plain', **changes)


FEATURES = {  # of 2 clips, of 4 frames where frames are described one by one
    'I3DHead': (2, 8, 4, 3, 3), 'LSTMHead': (8, 8, 3, 3), 'TSMHead': (8, 8, 3, 3),
    'TSNHead': (8, 8, 3, 3), 'X3DHead': (2, 8, 4, 3, 3), 'TimeSformerHead': (2, 8),
    'UniFormerHead': (2, 8), 'SlowFastHead': [(2, 6, 2, 3, 3), (2, 2, 4, 3, 3)]}


@pytest.mark.parametrize('kind', _POOLS)
def test_heads_begin_with_their_pooling(kind):
    init_default_scope('mmaction')
    extra = {'TSMHead': dict(num_segments=4), 'X3DHead': dict(fc1_bias=True)}
    head = MODELS.build(dict(type=kind, num_classes=3, in_channels=8,
                             **extra.get(kind, {}))).eval()
    shapes = FEATURES[kind] if isinstance(FEATURES[kind], list) else [FEATURES[kind]]
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(shape, generator=generator) for shape in shapes]
    pool = getattr(head, _POOLS[kind]) if _POOLS[kind] else lambda x: x
    pooled = [pool(one) for one in features]
    # One vector for each row.
    assert all(one[0].numel() == one.shape[1] for one in pooled)
    scores, expected = (head(x if len(x) > 1 else x[0], num_segs=4)
                        for x in (pooled, features))
    torch.testing.assert_close(scores, expected)


def test_batches_are_in_the_order_of_the_clips():
    items = [dict(inputs=(torch.full((2, 3), i),), data_samples=i) for i in range(4)]
    cached = CachedFeatures(items, 2, {})
    assert len(cached) == 2 and cached.num_bytes == 4 * 6 * 8
    assert cached[1]['data_samples'] == 1
    cached.draw = 1
    batch = collate_features([cached[1], cached[0]])
    assert batch['data_samples'] == [3, 2]
    assert batch['inputs'][0].tolist() == [[3] * 3] * 2 + [[2] * 3] * 2


def open_tokens(folder, labels=(0, 1, 2)):
    encoder = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(encoder.weight)
    torch.nn.init.zeros_(encoder.bias)
    vars(encoder).update(name='x', input_size=(8, 8), grid=(1, 1), num_steps=1, tubelet=1)
    clips = [dict(video_id=str(i), filename='', label=label) for i, label in
             enumerate(labels)]
    dataset = MagicMock(get_data_info=clips.__getitem__, __len__=lambda self: len(clips))
    return CachedTokens(folder / 'new' / 'train.bf16', make_key(encoder, dataset, [], 0),
                        len(clips), {})


def make_views(labels=(0, 1, 2)):
    for i, label in enumerate(labels):
        yield i, dict(inputs=[torch.full((1, 1, 2, 4), i)],
                      data_samples=ActionDataSample().set_gt_label(label))


def test_tokens_are_of_the_labels_that_the_clips_have_now(tmp_path):
    tokens = open_tokens(tmp_path)
    tokens.write(3, (1, 1, 2, 4), make_views())
    assert [int(tokens[i]['data_samples'].gt_label) for i in range(3)] == [0, 1, 2]
    assert open_tokens(tmp_path).was_stored
    with pytest.raises(HRI30Error, match=r'holds other tokens:\n  clips: '):
        open_tokens(tmp_path, labels=(0, 2, 1))


def test_trainings_that_begin_together_encode_once(tmp_path):
    first, second = open_tokens(tmp_path), open_tokens(tmp_path)
    unused = make_views()
    other = threading.Thread(target=second.write, args=(3, (1, 1, 2, 4), unused))

    def views():
        other.start()
        yield from make_views()

    first.write(3, (1, 1, 2, 4), views())
    other.join(60)
    assert next(unused)[0] == 0  # as it was
    assert [item['inputs'][0].flatten()[0].item() for item in second] == [0, 1, 2]


def test_nothing_is_left_of_tokens_that_were_not_finished(tmp_path):
    tokens = open_tokens(tmp_path)
    with pytest.raises(KeyError):
        tokens.write(3, (1, 1, 2, 4), itertools.islice(make_views(), 2))
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['train.lock']


@pytest.mark.parametrize('parts, graph', [
    (['cls_head'], {'conv1': False, 'layer3': False, 'layer4': False}),
    (['cls_head', 'backbone.layer4'], {'conv1': False, 'layer3': False, 'layer4': True}),
    (['cls_head', 'backbone'], {'conv1': True, 'layer3': True, 'layer4': True})])
def test_frozen_stages_keep_nothing_for_gradients(parts, graph, options):
    init_default_scope('mmaction')
    cfg = load_config(DEMO_CONFIG, {**options, 'precision': 'fp32'})
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    model.train()
    freeze_all_but(model, parts)
    found = {}
    for name in graph:
        getattr(model.backbone, name).register_forward_hook(
            lambda module, x, y, name=name: found.update({name: y.requires_grad}))
    # What autograd saves while the backbone runs, apart from parameters.
    kept = []
    model.cls_head.register_forward_pre_hook(lambda module, x: kept.append(len(saved)))
    saved = []
    own = {parameter.data_ptr() for parameter in model.parameters()}
    batch = next(iter(Runner.build_dataloader(cfg.train_dataloader, seed=0)))
    with torch.autograd.graph.saved_tensors_hooks(
            lambda x: (x.data_ptr() in own or saved.append(x), x)[1], lambda x: x):
        model.train_step(batch, wrapper)
    assert found == graph
    assert (kept[0] > 0) == any(graph.values())
    for name, parameter in model.named_parameters():
        learns = any(name.startswith(part) for part in parts)
        assert parameter.requires_grad == learns, name
