"""Testing a checkpoint: metrics where labels are known, predictions everywhere."""

import copy
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process

from ..config import load_config
from ..datasets.hri30 import find_test_folder
from ..engine import HRI30Runner
from ..errors import HRI30Error
from ..utils.fileio import check_writable
from .common import (
    check_environment,
    describe_data,
    describe_device,
    drop_pretrained,
    explain_out_of_memory,
)

SPLITS = ('val', 'test', 'all')


def test(config: str, checkpoint: str, split: str = 'all', out: str | None = None,
         options: dict | None = None, launcher: str = 'none') -> dict[str, dict]:
    """Tests a checkpoint and writes a result folder for each split.

    Args:
        config (str): Path of the config.
        checkpoint (str): Its weights.
        split (str): ``val``, ``test``, or ``all``: both, where there are test
            clips.
        out (str, optional): Gets ``val/`` and ``test/``; by default the
            folder of the checkpoint.
        options (dict, optional): As parsed from ``--cfg-options``.
        launcher (str): As in mmengine.

    Returns:
        dict[str, dict]: Metrics of each split.

    Raises:
        HRI30Error: a mistake of the user's.
    """
    cfg = load_config(config, options)
    path = Path(checkpoint).expanduser()
    if not path.is_file():
        raise HRI30Error(f'{checkpoint}: no such checkpoint.\nExpected a .pth file, as '
                         'tools/train.sh names it when it ends.')
    out = check_writable(out or path.resolve().parent)
    cfg.launcher = launcher
    cfg.load_from, cfg.resume = str(path.resolve()), False
    drop_pretrained(cfg)
    # Nothing is trained: no loop, no optimizer, no hooks for them.
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler',
                'val_dataloader', 'val_cfg', 'val_evaluator'):
        cfg[key] = None
    check_environment(cfg)
    splits = ['val', 'test'] if split == 'all' else [split]
    if split == 'all' and find_test_folder(cfg.data_root) is None:
        splits = ['val']
    metrics = {name: _test_split(copy.deepcopy(cfg), name, out / name)
               for name in splits}
    if is_main_process():
        _report(cfg, metrics, out)
    return metrics


def _test_split(cfg: Config, split: str, out: Path) -> dict:
    cfg.work_dir = str(out / 'logs')
    cfg.test_dataloader.dataset.subset = split
    evaluators = cfg.test_evaluator
    for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:
        if evaluator['type'] == 'HRI30Metric':
            evaluator.update(out_dir=str(out), submission=split == 'test',
                             data=f'{describe_data(cfg)}, {split}')
    # Averaged weights are what the checkpoint has; and mmengine's early stopping asserts
    # that there is a training loop.
    cfg.custom_hooks = [hook for hook in cfg.get('custom_hooks', [])
                        if hook['type'] not in ('EarlyStoppingHook', 'EMAHook')]
    cfg.experiment_name = f'{Path(cfg.filename).stem}-{split}'
    runner = HRI30Runner.from_cfg(cfg)
    runner.logger.info(f'Testing {split} on {describe_data(cfg)} '
                       f'with {describe_device()}')
    with explain_out_of_memory(cfg, 'test_dataloader'):
        return runner.test()


def _report(cfg: Config, metrics: dict[str, dict], out: Path) -> None:
    print(f'\nData: {describe_data(cfg)}')
    for split, values in metrics.items():
        line = '  '.join(f'{name} {value:.4f}' for name, value in values.items()
                         if name != 'num_videos')
        print(f'{split}: {values["num_videos"]} clips  {line or "labels not known"}')
        for file in sorted((out / split).glob('*.*')):
            print(f'  {file}')
