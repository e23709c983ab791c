"""Features first: a frozen backbone encodes each view of a clip once, and the head is then
trained on stored features as on any data set.
"""

import contextlib
import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from mmaction.registry import HOOKS
from mmengine.device import get_device
from mmengine.dist import barrier, get_dist_info, is_main_process
from mmengine.hooks import Hook
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..datasets.hri30 import list_clips
from ..datasets.randomness import seeded
from ..errors import HRI30Error
from ..hardware import autocast_dtype, unwrap
from ..models.encoders import FrozenEncoder
from ..models.inference import openvino_inference
from ..utils.progress import refresh_seconds
from .feature_files import StoredFeatures, collate_features, store_features

#: By the type of a head: its first layer, a pooling to one value per channel, which has no
#: effect when the head applies it again; None where it begins with something else.
_POOLS = {'I3DHead': 'avg_pool', 'LSTMHead': 'avg_pool', 'SlowFastHead': 'avg_pool',
          'TSMHead': 'avg_pool', 'TSNHead': 'avg_pool', 'X3DHead': 'pool',
          'TimeSformerHead': None, 'UniFormerHead': None, 'ProbeHead': None}

#: Entries of steps of a pipeline, and of backbones, that do not change features.
_IRRELEVANT = ('cache', 'cache_dir', 'keep', 'pretrained', 'init_cfg', 'revision')

#: Clips that are worth the seconds that OpenVINO takes to convert a model.
_MANY = 100


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


@HOOKS.register_module()
class FeatureCacheHook(Hook):
    """Trains the head on features that the frozen backbone computes before the first epoch.

    Training and validation then read the features, with the order, batches, losses and
    complete checkpoints of a training on clips. The model is built by
    :func:`~hri30_ext.models.features.take_features`.

    **This fixes the augmentation**: the head sees each training clip as validation does
    (``augmented_views=0``), or in that many draws of the training pipeline, one per epoch.

    Features are stored in files that are named after all that they depend on: backbone,
    weights, pipeline, clips and the number of processes. A resumed training finds them, and
    so do others that name the same folder. The tokens of a
    :class:`~hri30_ext.models.encoders.FrozenEncoder` are stored as bfloat16, and their
    draws are the same for every seed of a training; pooled features of other backbones are
    float32.

    Args:
        augmented_views (int): Draws of the training pipeline for each clip; epoch ``e``
            uses draw ``e % augmented_views``. 0: one view without augmentation.
        folder (str, optional): By default ``features`` in the work folder.
        schedule (dict, optional): The :class:`.UnfreezeHook` of the strategy.

    Raises:
        HRI30Error: more than the head learns, or the model, its head or another setting
            does not allow it.
    """

    # After hooks that read the clips of the training.
    priority = 'LOWEST'

    def __init__(self, augmented_views: int = 0, folder: str | None = None,
                 schedule: dict | None = None) -> None:
        if type(augmented_views) is not int or augmented_views < 0:
            raise HRI30Error(
                f'cache_features: augmented_views={augmented_views!r}, expected a number '
                'of draws, or 0 for the view of the validation.')
        self.augmented_views, self.folder = augmented_views, folder
        self.learning = [part for step in (schedule or {}).get('schedule', ())
                         for part in step['parts']]

    def before_train(self, runner) -> None:
        self._check(runner)
        loops = [loop for loop in (runner.train_loop, runner.val_loop) if loop is not None]
        clips = sum(len(loop.dataloader.dataset) for loop in loops)
        with (openvino_inference(unwrap(runner.model).backbone) if clips >= _MANY
              else contextlib.nullcontext()):
            loaders = [self._extract(runner, loop) for loop in loops]
        for loop, loader in zip(loops, loaders, strict=True):
            loop.dataloader = loader

    def _check(self, runner) -> None:
        model, reason = unwrap(runner.model), None
        learning = self.learning or [
            name for name, parameter in model.backbone.named_parameters(prefix='backbone')
            if parameter.requires_grad]
        pool = _POOLS.get(type(model.cls_head).__name__, 'unknown')
        if any(part.split('.')[0] != 'cls_head' for part in learning):
            reason = ('more than the head learns, so that features change.\nExpected '
                      "strategy='frozen_backbone', or a frozen model without adapter")
        elif not self.augmented_views and (
                runner.val_loop is None or runner.cfg.get('test_clips', 1) != 1
                or runner.cfg.get('test_crops', 1) != 1):
            reason = ('training clips would be seen as those of the validation, in one '
                      'view.\nExpected validation clips, test_clips=1 and test_crops=1, or '
                      "cache_features='augmented'")
        elif runner.cfg.get('repeats', 1) != 1 or model.data_preprocessor.blending:
            reason = ('clips are neither repeated nor mixed after they are encoded.\n'
                      'Expected repeats=1 and mixing=None')
        elif model.with_neck or (model.test_cfg or {}).get('fcn_test') or (
                pool and getattr(model.cls_head, pool, None) is None):
            reason = ('pooled features are stored, and the model needs others.\nExpected '
                      f'a head of {", ".join(_POOLS)} that pools, no neck and no fcn_test')
        if reason:
            raise HRI30Error(f'cache_features: {reason}; or set cache_features=None.')

    def _extract(self, runner, loop) -> DataLoader:
        """Returns a loader of the features of a loop's clips, in its order."""
        model, loader = unwrap(runner.model), loop.dataloader
        is_training = loop is runner.train_loop
        draws, dataset = self.augmented_views * is_training, loader.dataset
        if is_training and not draws:
            dataset = copy.copy(dataset)
            dataset.pipeline = runner.val_loop.dataloader.dataset.pipeline
        # One seed for all trainings with tokens, so that they can share the draws.
        is_encoder = isinstance(model.backbone, FrozenEncoder)
        seed, stored = (0, torch.bfloat16) if is_encoder else (runner.seed, torch.float32)
        stamp = make_stamp(runner.cfg, model, dataset, draws, seed)
        folder = Path(self.folder or Path(runner.work_dir) / 'features')
        rank, processes = get_dist_info()
        name = f'{"train" if is_training else "val"}-{stamp}'
        paths = [folder / f'{name}-{i + 1}of{processes}.bin' for i in range(processes)]
        views, dtype = max(1, draws), autocast_dtype(runner.cfg)
        draw = _Draws(dataset, range(rank, views * len(dataset), processes), seed)
        with (seeded(runner.seed), torch.no_grad(),
              torch.autocast(get_device(), dtype, enabled=bool(dtype))):
            store_features(paths[rank], encode(model, draw, loader, draws > 0), len(draw),
                           stored)
        barrier()
        runner.logger.info(f'Reads features of {len(dataset)} clips, {views} views of each')
        # With the same sampler, order and batches are the same. Like the loader of clips,
        # it does not draw from the generator that dropout draws from.
        return DataLoader(StoredFeatures(paths, stored, dataset.metainfo, views),
                          batch_sampler=loader.batch_sampler, collate_fn=collate_features,
                          generator=torch.Generator())


def make_stamp(cfg, model, dataset, draws: int, seed: int) -> str:
    """Returns a digest of all that features depend on."""
    weights = hashlib.sha256()
    for tensor in model.backbone.state_dict().values():
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    pipeline = cfg['train_dataloader' if draws else 'val_dataloader'].dataset.pipeline
    parts = [{name: value for name, value in part.items() if name not in _IRRELEVANT}
             for part in (cfg.model.backbone, cfg.model.data_preprocessor, *pipeline)]
    clips = [[clip['video_id'], clip['label'], Path(clip['filename']).stat().st_size
              if Path(clip['filename']).is_file() else 0] for clip in list_clips(dataset)]
    content = json.dumps([weights.hexdigest(), parts, clips, draws, draws and seed,
                          str(autocast_dtype(cfg))], default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def encode(model, clips: Dataset, loader: DataLoader, is_augmented: bool = False
           ) -> Iterator[tuple]:
    """Encodes clips with the backbone of a recognizer, and pools as its head does.

    Args:
        model (nn.Module): The recognizer.
        clips (Dataset): As a data set of clips.
        loader (DataLoader): One with the batch size and the workers to use.
        is_augmented (bool): Whether the data preprocessor is that of a training.

    Yields:
        tuple: Of each clip a list of features (R, ...), float32 on the CPU, and its data
        sample. R are its frames in 2D recognizers, otherwise its views.
    """
    batches = DataLoader(clips, batch_size=loader.batch_size, collate_fn=loader.collate_fn,
                         num_workers=loader.num_workers,
                         worker_init_fn=loader.worker_init_fn)
    pool = _POOLS[type(model.cls_head).__name__]
    mode = model.training
    model.eval()
    for batch in tqdm(batches, 'Features of clips', unit='batch', leave=False,
                      mininterval=refresh_seconds(), disable=not is_main_process()):
        data = model.data_preprocessor(batch, is_augmented)
        samples = data['data_samples']
        features, _ = model.extract_feat(data['inputs'], test_mode=True)
        features = features if isinstance(features, tuple | list) else [features]
        if pool:
            features = [getattr(model.cls_head, pool)(tensor) for tensor in features]
        columns = [tensor.float().cpu().unflatten(0, (len(samples), -1))
                   for tensor in features]
        for *clip, sample in zip(*columns, samples, strict=True):
            yield clip, sample
    model.train(mode)
