"""Training the head on stored features is training it on clips."""

import threading
from types import SimpleNamespace

import pytest
import torch
from conftest import DEMO_CONFIG
from mmaction.registry import HOOKS, MODELS
from mmaction.structures import ActionDataSample
from mmengine.config import ConfigDict
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner

from hri30_ext.apis import train
from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.datasets import HRI30Dataset
from hri30_ext.engine.feature_files import (
    StoredFeatures,
    collate_features,
    store_features,
)
from hri30_ext.engine.features import _POOLS, make_stamp
from hri30_ext.engine.fine_tuning import freeze_all_but
from hri30_ext.errors import HRI30Error

HOOKS_OF_A_RUN = ['${strategies[strategy].schedule}', '${feature_caches[cache_features]}',
                  '${class_weightings[class_weights]}', dict(type='RecordLosses')]
TSM = str(next((PROJECT_ROOT / 'configs' / 'tsm').glob('*.py')))


@HOOKS.register_module()
class RecordLosses(Hook):
    """Keeps the loss of each step, the metrics of each validation, and features."""

    losses: list = []
    metrics: list = []
    clips: list = []
    features: dict = {}  # by epoch and clip

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(outputs['loss'].item())
        names = [sample.video_id for sample in data_batch['data_samples']]
        self.clips.append(names)
        self.features.update({(runner.epoch, name): feature.sum().item() for name, feature
                              in zip(names, data_batch['inputs'][0], strict=False)})

    def after_val_epoch(self, runner, metrics=None):
        self.metrics.append(dict(metrics))


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
    for kept in (RecordLosses.losses, RecordLosses.metrics, RecordLosses.clips,
                 RecordLosses.features):
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
def test_augmented_draws_change_with_the_epoch(options, tmp_path, decoded):
    run(tmp_path, options, cache_features='augmented',
        **{'feature_caches.augmented.augmented_views': 2})
    assert len(decoded) == 2 * 6 + 3
    names = {name for _, name in RecordLosses.features}
    assert len(names) == 6
    for name in names:
        first, second, third = (RecordLosses.features[epoch, name] for epoch in range(3))
        assert first == third
        assert first != second


@pytest.mark.parametrize('changes, message', [
    ({'strategy': 'full'}, "strategy='frozen_backbone'"),
    ({'strategy': 'progressive'}, "strategy='frozen_backbone'"),
    ({'strategy': 'frozen_backbone', 'test_clips': 2}, 'test_clips=1'),
    ({'strategy': 'frozen_backbone', 'mixing': 'both'}, 'mixing=None'),
    ({'strategy': 'frozen_backbone', 'repeats': 2}, 'repeats=1'),
    ({'model.cls_head.spatial_type': 'none'}, 'I3DHead'),
    ({'feature_caches.plain.augmented_views': -1}, 'augmented_views=-1'),
])
def test_what_cannot_be_cached(options, tmp_path, changes, message):
    with pytest.raises(HRI30Error, match=message):
        run(tmp_path, options, cache_features='plain', **changes)


FEATURES = {  # of 2 clips, of 4 frames where frames are described one by one
    'I3DHead': (2, 8, 4, 3, 3), 'LSTMHead': (8, 8, 3, 3), 'TSMHead': (8, 8, 3, 3),
    'TSNHead': (8, 8, 3, 3), 'X3DHead': (2, 8, 4, 3, 3), 'TimeSformerHead': (2, 8),
    'UniFormerHead': (2, 8), 'SlowFastHead': [(2, 6, 2, 3, 3), (2, 2, 4, 3, 3)]}


@pytest.mark.parametrize('kind', FEATURES)
def test_heads_begin_with_their_pooling(kind):
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


def make_views(numbers=(0, 1, 2)):
    """Two tensors of each view, with values that bfloat16 has."""
    for number in numbers:
        sample = ActionDataSample(metainfo=dict(video_id=str(number)))
        yield (torch.full((2, 3), number / 4), torch.full((2, 1, 1), -number)), (
            sample.set_gt_label(number + 5))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('processes', [1, 2])
def test_files_serve_features_and_labels_of_the_view_of_the_epoch(tmp_path, dtype,
                                                                  processes):
    paths = [tmp_path / 'new' / f'train-{i}.bin' for i in range(processes)]
    for i, path in enumerate(paths):
        store_features(path, make_views(range(i, 6, processes)), 6, dtype)
        store_features(path, iter(()), 6, dtype)  # it is there
    features = StoredFeatures(paths, dtype, dict(classes=['a']), views=2)
    assert len(features) == 3 and features.metainfo == dict(classes=['a'])
    for epoch in range(3):
        features.set_epoch(42, epoch)
        batch = collate_features([features[2], features[0]])
        numbers = [5, 3] if epoch == 1 else [2, 0]
        assert [tensor.shape for tensor in batch['inputs']] == [(2, 2, 3), (2, 2, 1, 1)]
        for tensor, factor in zip(batch['inputs'], (0.25, -1), strict=True):
            assert tensor.dtype == dtype
            assert tensor[:, 1].flatten(1)[:, 0].tolist() == [
                number * factor for number in numbers]
        assert [(sample.video_id, int(sample.gt_label)) for sample in batch[
            'data_samples']] == [(str(number), number + 5) for number in numbers]


def test_trainings_that_begin_together_compute_once(tmp_path):
    path, unused = tmp_path / 'train.bin', make_views()
    other = threading.Thread(target=store_features, args=(path, unused, 3, torch.float32))

    def views():
        other.start()
        yield from make_views()

    store_features(path, views(), 3, torch.float32)
    other.join(60)
    assert next(unused)[0][0].sum() == 0  # the first: it was not read
    assert len(StoredFeatures([path], torch.float32, {})) == 3


def test_nothing_is_left_of_features_that_were_not_finished(tmp_path):
    with pytest.raises(ZeroDivisionError):
        store_features(tmp_path / 'train.bin', (1 / 0 for _ in range(2)), 2,
                       torch.float32)
    assert [path.name for path in tmp_path.iterdir()] == ['train.lock']


def test_the_stamp_has_all_that_features_depend_on():
    def stamp(label=0, draws=0, seed=0, weight=0.0, mean=0, **backbone):
        model = SimpleNamespace(backbone=torch.nn.Linear(1, 1))
        for parameter in model.backbone.parameters():
            torch.nn.init.constant_(parameter, weight)
        loader = dict(dataset=dict(pipeline=[dict(type='ClipInit', cache_dir=str(seed))]))
        cfg = ConfigDict(val_dataloader=loader, train_dataloader=loader, model=dict(
            backbone=backbone, data_preprocessor=dict(mean=mean)))

        class Clips(list):
            get_data_info = list.__getitem__

        clips = Clips([dict(video_id='a', filename='', label=label)])
        return make_stamp(cfg, model, clips, draws, seed)

    assert stamp() == stamp(seed=1, pretrained='x')  # without draws, nothing is random
    changed = [stamp(), stamp(label=1), stamp(draws=1), stamp(draws=1, seed=1),
               stamp(weight=1.0), stamp(mean=1), stamp(depth=18)]
    assert len(set(changed)) == len(changed)


@pytest.mark.parametrize('parts, graph', [
    (['cls_head'], {'conv1': False, 'layer3': False, 'layer4': False}),
    (['cls_head', 'backbone.layer4'], {'conv1': False, 'layer3': False, 'layer4': True}),
    (['cls_head', 'backbone'], {'conv1': True, 'layer3': True, 'layer4': True})])
def test_frozen_stages_keep_nothing_for_gradients(parts, graph, options):
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
