"""Cached features: while only the head learns, the backbone runs once for each clip.

Shapes: N clips, R rows of features of a clip (its frames in 2D recognizers, otherwise its
views), C channels.
"""

import copy
import math
import time
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmaction.registry import HOOKS
from mmengine.dist import all_gather_object, get_dist_info, is_main_process
from mmengine.hooks import Hook
from mmengine.runner.amp import autocast
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..datasets.randomness import seeded
from ..errors import HRI30Error
from ..hardware import unwrap
from ..models.encoders import FrozenEncoder
from ..utils.progress import refresh_seconds
from .fine_tuning import UnfreezeHook
from .tokens import CachedFeatures, CachedTokens, make_key

#: By the type of a head: its first layer, a pooling to one value per channel, which has no
#: effect when the head applies it again; None where features are vectors already.
_POOLS = {'I3DHead': 'avg_pool', 'LSTMHead': 'avg_pool', 'SlowFastHead': 'avg_pool',
          'TSMHead': 'avg_pool', 'TSNHead': 'avg_pool', 'X3DHead': 'pool',
          'TimeSformerHead': None, 'UniFormerHead': None}


class _Draws(Dataset):
    """Several draws of each clip: index i is draw i // N of clip i modulo N.

    A draw depends on seed and i only, not on the process that makes it.
    """

    def __init__(self, dataset, indices: Sequence[int], seed: int) -> None:
        self.dataset, self.indices, self.seed = dataset, indices, seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict:
        draw, clip = divmod(self.indices[index], len(self.dataset))
        return self.dataset.draw(clip, self.seed, draw)


def collate_features(items: Sequence[dict]) -> dict:
    """Concatenates N items of :class:`CachedFeatures`, as a backbone returns features.

    Returns:
        dict: ``inputs``, a tuple of tensors (N * R, C, 1, ...), and ``data_samples``, a
        list of N.
    """
    return dict(inputs=tuple(map(torch.cat, zip(*(item['inputs'] for item in items),
                                                strict=True))),
                data_samples=[item['data_samples'] for item in items])


@HOOKS.register_module()
class FeatureCacheHook(Hook):
    """Computes the features of each clip once for all epochs that train only the head.

    These are all of ``strategy='frozen_backbone'``, and the first of ``progressive`` and
    ``stagewise``. Each clip is decoded once, before the first of them; then the head is
    trained and validated from memory, with the order, batches, losses and checkpoints of a
    training without the cache. Once another part learns, clips are read again.

    **This fixes the augmentation**: the head sees each training clip as validation does
    (``augmented_views=0``), or in that many draws of the training pipeline, one per epoch.
    A resumed run computes the features again.

    The tokens of a :class:`~hri30_ext.models.encoders.FrozenEncoder` are kept on the disk,
    as bfloat16, and serve later trainings of any seed with the same backbone, weights,
    size, frames, grid, clips and augmentation; others are refused.

    Args:
        augmented_views (int): Draws of the training pipeline for each clip; epoch ``e``
            uses draw ``e % augmented_views``. 0: one view without augmentation.
        folder (str, optional): For tokens; by default ``features`` in the work folder.

    Raises:
        HRI30Error: no epoch trains only the head, or the model, its head or another setting
            does not allow it.
    """

    # Before the sampler gets its epoch, and before the time of an epoch counts.
    priority = 'HIGH'

    def __init__(self, augmented_views: int = 0, folder: str | None = None) -> None:
        if type(augmented_views) is not int or augmented_views < 0:
            raise HRI30Error(
                f'cache_features: augmented_views={augmented_views!r}, expected a number '
                'of draws, or 0 for the view of the validation.')
        self.augmented_views = augmented_views
        self.folder = folder
        self._frozen = False  # the backbone, from the start
        self._cached: list[DataLoader] = []  # training and validation
        self._real: list[DataLoader] = []  # while features are served
        self._keywords: dict[bool, dict] = {}
        self._is_tuple = False

    def before_train(self, runner) -> None:
        self._unfreeze = next(
            (hook for hook in runner.hooks if isinstance(hook, UnfreezeHook)), None)
        backbone = unwrap(runner.model).backbone
        self._frozen = not any(one.requires_grad for one in backbone.parameters())
        if isinstance(backbone, FrozenEncoder) and not self._frozen:
            raise HRI30Error('cache_features: adapters learn within the backbone, so that '
                             'tokens change.\nSet adapter=None, or cache_features=None.')
        if not self._trains_only_head(0):
            raise HRI30Error(
                'cache_features: more than the head learns from the first epoch on, so '
                "features change.\nExpected strategy='frozen_backbone' (or progressive, "
                'stagewise: until the backbone learns), or cache_features=None.')
        if not self.augmented_views and runner.val_loop is None:
            raise HRI30Error('cache_features: there is no validation, whose view of a clip '
                             "would be used.\nSet cache_features to 'augmented' or None.")
        if not self.augmented_views and runner.cfg.get('test_clips', 1) != 1:
            raise HRI30Error(
                f'cache_features: test_clips={runner.cfg.test_clips} views of a clip, '
                'expected one to train on.\nSet test_clips=1 (testing may have more), or '
                "cache_features='augmented'.")
        if not isinstance(backbone, FrozenEncoder):
            _check_model(unwrap(runner.model))

    def before_train_epoch(self, runner) -> None:
        if not self._trains_only_head(runner.epoch):
            self.after_train(runner)
            self._cached = []  # no later epoch needs them
            return
        if not self._cached:
            self._cached = self._compute(runner)
        if not self._real:
            self._serve_features(runner)
        self._cached[0].dataset.draw = runner.epoch % max(1, self.augmented_views)

    def after_train(self, runner) -> None:
        for loop, loader in zip(_loops(runner), self._real):
            loop.dataloader = loader
        if self._real:
            model = unwrap(runner.model)
            del model.data_preprocessor.forward, model.extract_feat
            self._real = []

    def _trains_only_head(self, epoch: int) -> bool:
        return self._frozen or self._unfreeze is not None and all(
            part.split('.')[0] == 'cls_head'
            for part in self._unfreeze.trained_parts(epoch))

    # ---- Serving ------------------------------------------------------------------------

    def _serve_features(self, runner) -> None:
        model = unwrap(runner.model)
        self._real = [loop.dataloader for loop in _loops(runner)]
        for loop, loader in zip(_loops(runner), self._cached, strict=True):
            loop.dataloader = loader
        # On the instances: a backbone of another class would change the state dict.
        preprocessor = model.data_preprocessor
        preprocessor.forward = lambda data, training=False: preprocessor.cast_data(data)
        model.extract_feat = self._extract_feat

    def _extract_feat(self, inputs: tuple, stage: str = 'neck', data_samples=None,
                      test_mode: bool = False) -> tuple:
        """Replaces that of the recognizer: returns the features."""
        return inputs if self._is_tuple else inputs[0], dict(self._keywords[test_mode])

    # ---- Computing ----------------------------------------------------------------------

    def _compute(self, runner) -> list[DataLoader]:
        started = time.monotonic()
        cached: list[CachedFeatures] = []
        for loop in _loops(runner):
            training = loop is runner.train_loop
            dataset = loop.dataloader.dataset
            if training and not self.augmented_views:
                dataset = copy.copy(dataset)
                dataset.pipeline = runner.val_loop.dataloader.dataset.pipeline
            if training:
                self.training_views = loop.dataloader, dataset  # for other passes
            context = (runner.optim_wrapper.optim_context(runner.model) if training
                       else autocast(enabled=getattr(loop, 'fp16', False)))
            with context:
                cached.append(self._describe(runner, loop.dataloader, dataset, training))
        is_stored = all(one.was_stored for one in cached)
        runner.logger.info(
            f'Features of {" and ".join(f"{len(one)} clips" for one in cached)}'
            f' ({"training, validation" if len(cached) > 1 else "training"}; '
            f'{max(1, self.augmented_views)} views of a training clip) '
            f'{"read from the disk" if is_stored else "computed once"} in '
            f'{time.monotonic() - started:.1f} s; '
            f'{sum(one.num_bytes for one in cached) / 2**20:.1f} MiB')
        # With the same samplers, order and batches are the same. Like the real loaders,
        # they do not draw from the generator that dropout draws from.
        return [DataLoader(one, batch_sampler=loop.dataloader.batch_sampler,
                           collate_fn=collate_features, generator=torch.Generator())
                for one, loop in zip(cached, _loops(runner), strict=True)]

    def map_views(self, runner, loader: DataLoader, dataset, training: bool, seed: int,
                  function: Callable | None = None) -> list:
        """Returns features, or what a function gives of batches, for each draw and clip."""
        own = dict(self._views(runner, loader, dataset, training, seed, function))
        merged = ChainMap(*all_gather_object(own))
        return [merged[index] for index in range(self._count(dataset, training))]

    def _describe(self, runner, loader: DataLoader, dataset,
                  training: bool) -> CachedFeatures:
        """Runs the backbone on all clips, or reads the tokens of an earlier training."""
        encoder = unwrap(runner.model).backbone
        if not isinstance(encoder, FrozenEncoder):
            return CachedFeatures(
                self.map_views(runner, loader, dataset, training, runner.seed),
                len(dataset), dataset.metainfo)
        augmented = training and self.augmented_views
        pipeline = runner.cfg[
            'train_dataloader' if augmented else 'val_dataloader'].dataset.pipeline
        path = Path(self.folder or Path(runner.work_dir) / 'features') / (
            f'{"train" if training else "val"}.bf16')
        cached = CachedTokens(
            path, make_key(encoder, dataset, pipeline, self.augmented_views * training),
            len(dataset), dataset.metainfo)
        self._keywords = {False: dict(loss_aux={}), True: {}}
        if not cached.was_stored:
            total = self._count(dataset, training)
            shape = (1 if training else runner.cfg.get('test_clips', 1), encoder.num_steps,
                     1 + encoder.grid[0] * encoder.grid[1], encoder.embed_dims)
            runner.logger.info(f'Tokens of {total} views: '
                               f'{2 * total * math.prod(shape) / 1e9:.2f} GB in {path}')
            # One seed for all trainings, so that they can share the draws.
            with encoder.folded():
                cached.write(total, shape,
                             self._views(runner, loader, dataset, training, 0))
        return cached

    def _count(self, dataset, training: bool) -> int:
        return len(dataset) * (max(1, self.augmented_views) if training else 1)

    def _views(self, runner, loader: DataLoader, dataset, training: bool, seed: int,
               function: Callable | None = None) -> Iterator[tuple[int, Any]]:
        """Yields number and features, or what a function gives, of this process's draws."""
        rank, processes = get_dist_info()
        indices = range(rank, self._count(dataset, training), processes)
        numbers = iter(indices)
        model = unwrap(runner.model)
        mode = model.training
        model.eval()
        # The training draws the same random numbers as without the cache.
        with seeded(runner.seed), torch.no_grad():
            batches = DataLoader(
                _Draws(dataset, indices, seed), batch_size=loader.batch_size,
                num_workers=loader.num_workers, collate_fn=loader.collate_fn,
                worker_init_fn=loader.worker_init_fn)
            for batch in tqdm(batches, 'Features of clips', unit='batch', leave=False,
                              mininterval=refresh_seconds(), disable=not is_main_process()):
                items = (function(batch) if function
                         else self._describe_batch(model, batch, training))
                for item in items:
                    yield next(numbers), item
        model.train(mode)

    def _describe_batch(self, model, batch: dict, training: bool) -> list[dict]:
        data = model.data_preprocessor(batch, training and self.augmented_views > 0)
        samples = data['data_samples']
        features, self._keywords[not training] = model.extract_feat(
            data['inputs'], data_samples=samples, test_mode=not training)
        self._is_tuple = isinstance(features, tuple | list)
        pool = _POOLS.get(type(model.cls_head).__name__)  # None for tokens
        columns = []
        for tensor in features if self._is_tuple else [features]:
            pooled = getattr(model.cls_head, pool)(tensor) if pool else tensor
            is_vector = pooled[0].numel() == pooled.shape[1] or isinstance(
                model.backbone, FrozenEncoder)
            if not is_vector or len(pooled) % len(samples):
                raise HRI30Error(f'cache_features: {type(model.backbone).__name__} returns '
                                 f'features of shape {tuple(tensor.shape)}, expected one '
                                 'vector per row.\nSet cache_features=None.')
            columns.append(pooled.float().cpu().split(len(pooled) // len(samples)))
        # clone(): a view would keep the features of the whole batch.
        return [dict(inputs=tuple(column.clone() for column in clip),
                     data_samples=sample.cpu())
                for *clip, sample in zip(*columns, samples, strict=True)]


def _loops(runner) -> list:
    return [loop for loop in (runner.train_loop, runner.val_loop) if loop is not None]


def _check_model(model) -> None:
    """Refuses a model whose head does not start with the backbone's pooled features."""
    head = type(model.cls_head).__name__
    reason = None
    if model.with_neck:
        reason = f'{type(model.neck).__name__} is between backbone and head'
    elif (model.test_cfg or {}).get('fcn_test'):
        reason = 'fcn_test needs whole feature maps'
    elif head not in _POOLS or _POOLS[head] and getattr(
            model.cls_head, _POOLS[head], None) is None:
        reason = f'{head} does not begin with pooling that is known here'
    if reason:
        raise HRI30Error(f'cache_features: {reason}.\nExpected a head of '
                         f'{", ".join(_POOLS)} that pools; set cache_features=None.')
