"""Features in memory: while the head alone learns, the backbone runs once a clip.

Shapes: N clips, R rows of features of a clip (its frames for 2D recognizers, otherwise its
views), C channels.
"""

import copy
import time
from collections.abc import Sequence

import torch
from mmaction.registry import HOOKS
from mmengine.dist import all_gather_object, get_dist_info, is_main_process
from mmengine.hooks import Hook
from mmengine.runner.amp import autocast
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..datasets.randomness import seeded
from ..errors import HRI30Error
from ..utils.progress import refresh_seconds
from .fine_tuning import UnfreezeHook, unwrap
from .resolution import ProgressiveSizeHook

#: By the type of a head: its first layer, a pooling to one value a channel, which changes
#: nothing when the head applies it again; None where features are vectors already.
_POOLS = {'I3DHead': 'avg_pool', 'LSTMHead': 'avg_pool', 'SlowFastHead': 'avg_pool',
          'TSMHead': 'avg_pool', 'TSNHead': 'avg_pool', 'X3DHead': 'pool',
          'TimeSformerHead': None, 'UniFormerHead': None}


class _Draws(Dataset):
    """Each clip of a dataset several times: item i is draw i // N of clip i modulo N.

    A draw is a function of seed and i, whichever process makes it.
    """

    def __init__(self, dataset, indices: Sequence[int], seed: int) -> None:
        self.dataset = dataset
        self.indices = indices
        self.seed = seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict:
        draw, clip = divmod(self.indices[index], len(self.dataset))
        if hasattr(self.dataset, 'draw'):
            return self.dataset.draw(clip, self.seed, draw)
        with seeded(self.seed, draw, clip):
            return self.dataset[clip]


class CachedFeatures(Dataset):
    """Features of clips, in memory.

    Args:
        items (list[dict]): Draw by draw, of each clip ``inputs``, a tuple of tensors (R, C,
            1, ...) float32, and ``data_samples``.
        num_clips (int): N.
        metainfo (dict): Of the dataset.

    Attributes:
        draw (int): Which one is served.
    """

    def __init__(self, items: list[dict], num_clips: int, metainfo: dict) -> None:
        self.items = items
        self.num_clips = num_clips
        self.metainfo = metainfo
        self.draw = 0

    def __len__(self) -> int:
        return self.num_clips

    def __getitem__(self, index: int) -> dict:
        return self.items[self.draw * self.num_clips + index]

    @property
    def num_bytes(self) -> int:
        """Memory of the features."""
        return sum(tensor.nbytes for item in self.items for tensor in item['inputs'])


def collate_features(items: Sequence[dict]) -> dict:
    """Puts the features of clips one after the other, as a backbone gives them.

    Args:
        items (Sequence[dict]): Of :class:`CachedFeatures`.

    Returns:
        dict: ``inputs``, a tuple of tensors (N * R, C, 1, ...), and ``data_samples``, a
        list of N.
    """
    return dict(inputs=tuple(map(torch.cat, zip(*(item['inputs'] for item in items),
                                                strict=True))),
                data_samples=[item['data_samples'] for item in items])


@HOOKS.register_module()
class FeatureCacheHook(Hook):
    """Computes the features of each clip once for all epochs that train the head alone.

    In those epochs (all of ``strategy='frozen_backbone'``, the first ones of
    ``progressive`` and ``stagewise``) the backbone would give the same features again and
    again. Here each clip is decoded and described once, before the first such epoch; then
    the head is trained and validated from memory: order, batches, losses and checkpoints
    are those of the training without. From the epoch on in which something else learns,
    clips are read again.

    **This fixes the augmentation**: the head sees each training clip as validation does
    (``augmented_views=0``), or in so many draws of the training pipeline, one an epoch.

    A resumed run computes the features again.

    Args:
        augmented_views (int): Draws of the training pipeline of each clip; epoch ``e``
            uses draw ``e % augmented_views``. 0, the default: one view, not augmented.

    Raises:
        HRI30Error: no epoch trains the head alone, or the model, its head or another
            setting forbids it.
    """

    # Before the sampler is told its epoch, and before the time of an epoch counts.
    priority = 'HIGH'

    def __init__(self, augmented_views: int = 0) -> None:
        if type(augmented_views) is not int or augmented_views < 0:
            raise HRI30Error(
                f'cache_features: augmented_views={augmented_views!r}, expected a number '
                'of draws, or 0 for the view of the validation.')
        self.augmented_views = augmented_views
        self._real: tuple | None = None  # the loaders, while features are served
        self._cached: tuple | None = None
        self._keywords: dict[bool, dict] = {}
        self._is_tuple = False

    # ---- Hooks --------------------------------------------------------------------------

    def before_train(self, runner) -> None:
        """Refuses what cannot be cached, before anything is computed."""
        unfreeze = next((hook for hook in runner.hooks if isinstance(hook, UnfreezeHook)),
                        None)
        if unfreeze is None or not _head_alone(unfreeze, 0):
            raise HRI30Error(
                'cache_features: something before the head learns from the first epoch on, '
                "so features change.\nExpected strategy='frozen_backbone' (or progressive, "
                'stagewise: until the backbone learns), or cache_features=None.')
        if any(isinstance(hook, ProgressiveSizeHook) for hook in runner.hooks):
            raise HRI30Error('cache_features: features are of one clip size.\n'
                             'Expected progressive_size=None, or cache_features=None.')
        if not self.augmented_views and runner.cfg.get('test_clips', 1) != 1:
            raise HRI30Error(
                f'cache_features: test_clips={runner.cfg.test_clips} views of a clip, '
                'expected one to train on.\nSet test_clips=1 (testing may have more), or '
                'take augmented views.')
        _check_model(unwrap(runner.model))
        self._unfreeze = unfreeze

    def before_train_epoch(self, runner) -> None:
        """Serves features where the head alone learns, otherwise clips."""
        if not _head_alone(self._unfreeze, runner.epoch):
            self._serve_clips(runner)
            self._cached = None  # no epoch after it trains the head alone
            return
        if self._cached is None:
            self._cached = self._compute(runner)
        self._serve_features(runner)
        self._cached[0].dataset.draw = runner.epoch % max(1, self.augmented_views)

    def after_train(self, runner) -> None:
        """Leaves the model and the loops as they were."""
        self._serve_clips(runner)

    # ---- Serving ------------------------------------------------------------------------

    def _serve_features(self, runner) -> None:
        if self._real is not None:
            return
        model = unwrap(runner.model)
        loops = [runner.train_loop, runner.val_loop]
        self._real = tuple(loop and loop.dataloader for loop in loops)
        for loop, loader in zip(loops, self._cached, strict=True):
            if loop:
                loop.dataloader = loader
        preprocessor = model.data_preprocessor
        # On the instances: nothing of it is in a state dict.
        preprocessor.forward = lambda data, training=False: preprocessor.cast_data(data)
        model.extract_feat = self._extract_feat

    def _serve_clips(self, runner) -> None:
        if self._real is None:
            return
        model = unwrap(runner.model)
        for loop, loader in zip((runner.train_loop, runner.val_loop), self._real,
                                strict=True):
            if loop:
                loop.dataloader = loader
        del model.data_preprocessor.forward, model.extract_feat
        self._real = None

    def _extract_feat(self, inputs: tuple, stage: str = 'neck', data_samples=None,
                      test_mode: bool = False) -> tuple:
        """Stands in for the recognizer's: hands the features on."""
        return inputs if self._is_tuple else inputs[0], dict(self._keywords[test_mode])

    # ---- Computing ----------------------------------------------------------------------

    def _compute(self, runner) -> tuple[DataLoader, DataLoader | None]:
        started = time.monotonic()
        train, loops = runner.train_loop.dataloader, [runner.train_loop]
        dataset = train.dataset
        if not self.augmented_views:
            dataset = _plain(dataset, runner.val_loop)
        context = runner.optim_wrapper.optim_context(runner.model)
        cached = [self._describe(runner, train, dataset, context, training=True)]
        if runner.val_loop is not None:
            loops.append(runner.val_loop)
            val, fp16 = runner.val_loop.dataloader, getattr(runner.val_loop, 'fp16', False)
            cached.append(self._describe(runner, val, val.dataset, autocast(enabled=fp16),
                                         training=False))
        runner.logger.info(
            f'Features of {" and ".join(f"{len(one)} clips" for one in cached)}'
            f' ({"training, validation" if len(cached) > 1 else "training"}; '
            f'{max(1, self.augmented_views)} views a training clip) computed once in '
            f'{time.monotonic() - started:.1f} s; '
            f'{sum(one.num_bytes for one in cached) / 2**20:.1f} MiB')
        # The very samplers of the clips: the same order and batches.
        # And as those, they draw nothing from the generator that dropout draws from.
        loaders = [DataLoader(one, batch_sampler=loop.dataloader.batch_sampler,
                              collate_fn=collate_features, generator=torch.Generator())
                   for one, loop in zip(cached, loops, strict=True)]
        return loaders[0], loaders[1] if len(loaders) > 1 else None

    def _describe(self, runner, loader: DataLoader, dataset, context,
                  training: bool) -> CachedFeatures:
        """Runs the backbone over all clips; each process over its share."""
        model, (rank, processes) = unwrap(runner.model), get_dist_info()
        total = len(dataset) * (max(1, self.augmented_views) if training else 1)
        indices = range(total)[rank::processes]
        pipeline_trains = training and self.augmented_views > 0
        mode = model.training
        model.eval()
        # Training draws the same random numbers as if nothing had been computed here.
        with seeded(runner.seed), context, torch.no_grad():
            batches = DataLoader(
                _Draws(dataset, indices, runner.seed), batch_size=loader.batch_size,
                num_workers=loader.num_workers, collate_fn=loader.collate_fn,
                worker_init_fn=loader.worker_init_fn)
            items = []
            bar = tqdm(batches, 'Features of clips', unit='batch', leave=False,
                       mininterval=refresh_seconds(),
                       disable=not is_main_process())
            for batch in bar:
                items += self._describe_batch(model, batch, pipeline_trains, training)
        model.train(mode)
        merged = {}
        for one in all_gather_object(dict(zip(indices, items, strict=True))):
            merged.update(one)
        return CachedFeatures([merged[index] for index in range(total)], len(dataset),
                              getattr(dataset, 'metainfo', {}))

    def _describe_batch(self, model, batch: dict, pipeline_trains: bool,
                        training: bool) -> list[dict]:
        data = model.data_preprocessor(batch, pipeline_trains)
        samples = data['data_samples']
        features, keywords = model.extract_feat(
            data['inputs'], data_samples=samples, test_mode=not training)
        self._is_tuple = isinstance(features, tuple | list)
        self._keywords[not training] = keywords
        pool = _POOLS[type(model.cls_head).__name__]
        columns = []
        for tensor in features if self._is_tuple else [features]:
            pooled = getattr(model.cls_head, pool)(tensor) if pool else tensor
            if pooled[0].numel() != pooled.shape[1] or len(pooled) % len(samples):
                raise HRI30Error(f'cache_features: {type(model.backbone).__name__} gives '
                                 f'features of shape {tuple(tensor.shape)}, expected one '
                                 'vector a row.\nSet cache_features=None.')
            rows = len(pooled) // len(samples)
            columns.append(pooled.float().cpu().split(rows))
        # clone(): a view would keep the features of the whole batch.
        return [dict(inputs=tuple(column.clone() for column in clip),
                     data_samples=sample.cpu())
                for *clip, sample in zip(*columns, samples, strict=True)]


def _head_alone(unfreeze: UnfreezeHook, epoch: int) -> bool:
    return all(part.split('.')[0] == 'cls_head' for part in unfreeze.trained_parts(epoch))


def _check_model(model) -> None:
    """Refuses a model whose features are not what its head begins with.

    Raises:
        HRI30Error: a neck, fully convolutional testing, or a head that is not known.
    """
    head = type(model.cls_head).__name__
    reason = None
    if model.with_neck:
        reason = f'{type(model.neck).__name__} stands between backbone and head'
    elif (model.test_cfg or {}).get('fcn_test'):
        reason = 'fcn_test wants whole feature maps'
    elif head not in _POOLS or _POOLS[head] and getattr(
            model.cls_head, _POOLS[head], None) is None:
        reason = f'{head} does not begin with pooling that is known here'
    if reason:
        raise HRI30Error(f'cache_features: {reason}.\nExpected a head of '
                         f'{", ".join(_POOLS)} that pools; set cache_features=None.')


def _plain(dataset, val_loop):
    """Returns a dataset whose clips are seen as the validation sees its own."""
    if val_loop is None:
        raise HRI30Error('cache_features: there is no validation, whose view of a clip '
                         'would be used.\nTake augmented views, or cache_features=None.')
    plain = copy.copy(dataset)
    plain.pipeline = val_loop.dataloader.dataset.pipeline
    return plain
