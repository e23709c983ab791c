"""MMAction2's own config, and everything that is changed in it to run on these clips.

The config is ``slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb.py`` of the installed
mmaction2, run by mmengine's own ``Runner``. The changes:

- the data: ``data_prefix`` and ``ann_file`` name the same clips in the same order as ours;
- ``cls_head.num_classes`` follows the data;
- ``backbone.pretrained``: no download; both sides start from the same kind of weights;
- ``batch_size`` of training: that of ours; ``num_workers``: its 8, but no more than there
  are cores, which would slow it down;
- ``work_dir``, and ``load_from`` if a row says so.

Both sides import ``hri30_ext.modules``: mmaction2 1.2.0 cannot be imported without its
fixes. :func:`demo_config` makes the smaller variant for the demo's model.
"""

import copy
from pathlib import Path

from mmaction.registry import DATASETS
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import init_default_scope

from hri30_ext.datasets.hri30 import list_clips
from hri30_ext.utils.parallel import available_cores

STOCK = 'mmaction::recognition/slowonly/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb.py'

#: Everything that :func:`stock_config` may change, by dotted key.
CHANGED = (
    'model.backbone.pretrained', 'model.cls_head.num_classes', 'work_dir', 'load_from',
    *(f'{loader}_dataloader.{key}' for loader in ('train', 'val', 'test')
      for key in ('batch_size', 'num_workers', 'persistent_workers', 'dataset.ann_file',
                  'dataset.data_prefix.video', 'dataset.indices')))

#: Settings of an optimizer that change its speed and not its steps: only ours has them.
_FAST = ('fused', 'foreach', 'capturable')


def write_list(path: Path, dataset: dict) -> Path:
    """Lists the clips of a dataset of this project in mmaction2's format.

    Args:
        path (Path): The list; a line is ``train_set/CID01_SID01_VID01.avi 0``.
        dataset (dict): Config of an ``HRI30Dataset``.
    """
    init_default_scope('mmaction')
    built = DATASETS.build(dict(dataset, pipeline=[]))
    root = Path(dataset['data_root']).expanduser()
    path.write_text(''.join(
        f'{Path(clip["filename"]).relative_to(root).as_posix()} {clip["label"]}\n'
        for clip in list_clips(built)), encoding='utf-8')
    return path


def stock_config(ours: Config, work_dir: str, subset: str = 'val') -> Config:
    """Makes MMAction2's config run on the clips of one of this project's.

    Args:
        ours (Config): Gives data, classes and batch size of training.
        work_dir (str): Folder of the lists of clips and of what the runner writes.
        subset (str): Split that is tested.

    Returns:
        Config: Changed in :data:`CHANGED` only.
    """
    cfg = get_config(STOCK)
    cfg.model.backbone.pretrained = None
    cfg.model.cls_head.num_classes = ours.model.cls_head.num_classes
    cfg.work_dir = work_dir
    datasets = dict(
        train=ours.train_dataloader.dataset, val=ours.val_dataloader.dataset,
        test=dict(ours.test_dataloader.dataset, subset=subset))
    for name, dataset in datasets.items():
        loader = cfg[f'{name}_dataloader']
        loader.num_workers = min(loader.num_workers, available_cores())
        loader.persistent_workers = loader.num_workers > 0
        loader.dataset.ann_file = str(write_list(Path(work_dir) / f'{name}.txt', dataset))
        loader.dataset.data_prefix = dict(video=str(dataset['data_root']))
    cfg.train_dataloader.batch_size = ours.train_dataloader.batch_size
    return cfg


def same_view(cfg: Config, ours: Config) -> Config:
    """Gives the stock test one view with the frames and the geometry of ours.

    It uses mmaction2's own transforms, so that only the way of computing is compared.
    """
    cfg.test_dataloader.dataset.pipeline = [
        dict(type='DecordInit', io_backend='disk'),
        dict(type='UniformSample', clip_len=ours.num_frames, num_clips=1, test_mode=True),
        dict(type='DecordDecode'),
        dict(type='Resize', scale=tuple(ours.input_size), keep_ratio=False),
        dict(type='FormatShape', input_format='NCTHW'),
        dict(type='PackActionInputs')]
    return cfg


def demo_config(ours: Config, work_dir: str) -> Config:
    """Makes a config that trains the demo's model with the stock loop and pipelines.

    From ours: model (with the stock data preprocessor), frames and input size, batch size,
    optimizer, learning rates, clipping, epochs, seed, and a validation after each epoch.
    From stock: everything else, in particular its hooks, fp32, sampling (8 frames, every
    8th) and pipeline steps, in the proportion of 256 to 224. Its ``flip`` keeps the label,
    which is wrong for left and right.
    """
    cfg = stock_config(ours, work_dir)
    width, height = ours.input_size
    short = ours.get('decode_size') or round(height * 256 / 224)
    model = copy.deepcopy(ours.model)
    model.data_preprocessor = cfg.model.data_preprocessor
    cfg.model = model
    sizes = dict(
        train={'RandomResizedCrop': None, 'Resize': (width, height)},
        val={'CenterCrop': (width, height)}, test={'ThreeCrop': (width, short)})
    for name, size in sizes.items():
        steps = cfg[f'{name}_dataloader'].dataset.pipeline
        for step in steps:
            if step.type == 'SampleFrames':
                step.clip_len = ours.num_frames
            elif step.type == 'Resize':
                step.scale = (-1, short) if step.scale[0] == -1 else size['Resize']
            elif size.get(step.type):
                step.crop_size = size[step.type]
    wrapper = ours.optim_wrapper
    cfg.optim_wrapper = dict(
        type='OptimWrapper', clip_grad=wrapper.get('clip_grad'),
        optimizer={key: value for key, value in wrapper.optimizer.items()
                   if key not in _FAST})
    cfg.param_scheduler = ours.param_scheduler
    cfg.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=ours.train_cfg.max_epochs,
                         val_interval=1)
    cfg.randomness = dict(seed=ours.randomness.seed)
    return cfg
