"""Training a config."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from .. import modules  # noqa: F401  (first: it mends what the others import)
from ..config import PROJECT_ROOT, load_config, unresolved
from ..datasets.paper import trains_on_all
from ..deploy.torch_backend import drop_pretrained
from ..doctor.leaks import check_leaks, load_splits
from ..engine import EpochLineHook, HRI30Runner, SkippedVideosHook, distributed
from ..engine.data_parallel import scale_learning_rate, use_processes
from ..engine.recovery import find_newest, list_saved, lock_folder, refuse_to_overwrite
from ..errors import HRI30Error
from ..models import take_features
from ..names import command
from ..utils.fileio import DiskFull, atomic_path, check_writable, disk_full, ran_out_of_disk
from .common import check_environment, describe_data, explain_out_of_memory
from .lineage import RecordHook, compare_clips, find_config_beside
from .overview import describe_training


@distributed.explain_lost_peer()
def train(config: str | None = None, work_dir: str | None = None,
          resume: str | bool = False, options: dict | None = None,
          launcher: str = 'none', overwrite: bool = False, hooks: Sequence[Hook] = ()
          ) -> Path | None:
    """Trains a config.

    Args:
        config (str, optional): Path of the config. Left out, ``resume`` names a work folder
            or a checkpoint in it, whose config it is.
        work_dir (str, optional): Folder of checkpoints and logs; by default that of
            ``resume`` without ``config``, else ``work_dirs/<name of the config>`` in the
            clone.
        resume (str | bool): A checkpoint to resume from, or True for the last one in
            ``work_dir``, or a work folder, for the last one there. A checkpoint of another
            folder needs a ``work_dir`` without checkpoints.
        options (dict, optional): As parsed from ``--cfg-options``.
        launcher (str): ``pytorch`` if this is one of several processes.
        overwrite (bool): Whether to delete the checkpoints of an earlier training in
            ``work_dir`` when this one starts over.
        hooks (Sequence[Hook]): Beside those of the config.

    Returns:
        Path | None: The best checkpoint, or the last if none is best; in the main process.

    Raises:
        HRI30Error: a mistake of the user's, checkpoints in ``work_dir`` without ``resume``
            or ``overwrite``, another training that uses it, or validation or test clips
            that the model was trained on before.
    """
    config, work_dir, resume = find_settings(config, work_dir, resume)
    cfg = load_config(config, options)
    if 'peer_timeout' not in cfg:  # such as one of mmaction2
        raise HRI30Error(f'{cfg.filename}: lacks the settings of this project.\nExpected '
                         'configs/_base_/recipe.py among its bases.')
    check_environment(cfg)
    cfg.launcher = launcher
    distributed.start(launcher, cfg.peer_timeout)
    use_processes(cfg)
    work_dir = Path(work_dir or PROJECT_ROOT / 'work_dirs' / Path(config).stem)
    cfg.work_dir = str(work_dir.expanduser().resolve())
    distributed.on_main(check_writable, cfg.work_dir)
    with distributed.on_main(lock_folder, cfg.work_dir) or contextlib.nullcontext():
        # A checkpoint of another folder starts a new training in this one.
        if _is_elsewhere(resume, cfg.work_dir) or not resume and not overwrite:
            distributed.on_main(refuse_to_overwrite, cfg.work_dir)
        return _train(cfg, resume, hooks)


def _train(cfg: Config, resume: str | bool, hooks: Sequence[Hook]) -> Path | None:
    source, changed = unresolved(cfg), cfg.changed
    damaged = _set_resume(cfg, resume)
    splits = distributed.on_main(load_splits, cfg)
    # Before the work folder's config is replaced.
    _, record = distributed.on_main(compare_clips, cfg, splits) or (None, None)
    if cfg.get('load_from'):
        drop_pretrained(cfg)
    if trains_on_all(cfg.get('split', {})):
        cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    else:
        keep_validation_clips(cfg)
    if cfg.get('cache_features'):
        take_features(cfg.model)
    scaling = scale_learning_rate(cfg)
    runner = HRI30Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    distributed.on_main(_save_config, source, cfg)
    for sentence in damaged:
        runner.logger.warning(f'{sentence}. Resuming from {cfg.load_from}')
    lines = EpochLineHook()
    if is_main_process():
        runner.register_hook(RecordHook(record))
        overview = describe_training(cfg, runner, {
            name: splits[name] for name in ('train', 'val') if name in splits}, changed)
        print(overview, flush=True)  # too long for the console of the log
        runner.logger.info(f'\n{overview}')
        runner.register_hook(lines)
    if scaling:
        runner.logger.info(scaling)
    distributed.on_main(check_leaks, splits, cfg, runner.logger.info, runner.logger.warning)
    if not cfg.resume:
        runner.register_hook(_DeleteEarlier())
    with explain_full_disk(cfg.work_dir), explain_out_of_memory(cfg, 'train_dataloader'):
        runner.train()
    if not is_main_process():
        return None
    return _print_summary(runner, cfg, is_new=lines.clips > 0)


class _DeleteEarlier(Hook):
    """Deletes what an earlier training saved: its best could be taken for the new one.

    The weights to start from are loaded by then; a wrong name of them costs nothing.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner) -> None:
        start = Path(runner.cfg.load_from or '').expanduser().resolve()
        distributed.on_main(lambda: [path.unlink() for path in list_saved(runner.work_dir)
                                     if path.resolve() != start])


@contextlib.contextmanager
def explain_full_disk(work_dir: str) -> Iterator[None]:
    """Turns a full disk, for whichever file of the work folder, into an HRI30Error that
    says how to resume.
    """
    try:
        yield
    except Exception as error:
        if not ran_out_of_disk(error):
            raise
        # The writers of logs and scalars name no file.
        text = str(error if isinstance(error, DiskFull) else disk_full(work_dir))
        raise HRI30Error(f'{text}\nFree some space, or move the work folder to another '
                         'disk; then use the same command with --resume, which finds the '
                         'last whole checkpoint.') from error


def keep_validation_clips(cfg: Config) -> None:
    """Lets the clip cache store the validation clips: their pipeline is that of a test,
    which reads each clip once and stores none.
    """
    for step in cfg.val_dataloader.dataset.pipeline:
        if step['type'] == 'ClipInit':
            step['keep'] = True


def find_settings(config: str | None, work_dir: str | None, resume: str | bool
                   ) -> tuple[str, str | None, str | bool]:
    """Completes the arguments of :func:`train` from the work folder that is resumed."""
    path = Path(resume if isinstance(resume, str) else '').expanduser()
    if isinstance(resume, str) and path.is_dir() and path.resolve() == Path(
            work_dir or resume).expanduser().resolve():
        work_dir, resume = resume, True
    if config is not None:
        return config, work_dir, resume
    if not resume or resume is True and work_dir is None:
        raise HRI30Error('No config.\nExpected CONFIG, or --resume WORK_DIR to continue a '
                         'training with the config in its work folder.')
    checkpoint = find_newest(work_dir)[0] if resume is True else path
    config = find_config_beside(checkpoint)
    if config is None:
        raise HRI30Error(f'{checkpoint.parent}: the config of {checkpoint.name} is not '
                         'there.\nName it: CONFIG --resume WORK_DIR.')
    return config, work_dir or str(checkpoint.parent), resume


def _is_elsewhere(resume: str | bool, work_dir: str) -> bool:
    return isinstance(resume, str) and (
        Path(resume).expanduser().resolve().parent != Path(work_dir))


def _set_resume(cfg: Config, resume: str | bool) -> list[str]:
    """Translates ``--resume`` for mmengine, which takes it from two fields.

    Returns a sentence for each newer checkpoint that is damaged.
    """
    cfg.resume, damaged = bool(resume), []
    if resume is True:
        resume, damaged = find_newest(cfg.work_dir)
    if resume:
        cfg.load_from = str(Path(resume).expanduser().resolve())
    return damaged


def _save_config(source: Config, cfg: Config) -> None:
    """Saves the config beside the checkpoints, with its options and its references.

    In mmengine's own dump, which is resolved, ``--cfg-options`` would change no loader.
    """
    with atomic_path(Path(cfg.work_dir) / Path(cfg.filename).name) as temporary:
        source.dump(temporary)


def _print_summary(runner, cfg: Config, is_new: bool) -> Path:
    info = runner.message_hub.runtime_info
    checkpoint = Path(info.get('best_ckpt') or info.get('last_ckpt') or cfg.load_from)
    score = (f' (validation {cfg.default_hooks.checkpoint.save_best} '
             f'{info["best_score"]:.4f})' if 'best_score' in info else '')
    print(f'\nBest checkpoint{score}: {checkpoint}\n'
          f'Curves: {Path(cfg.work_dir) / "training_curves.png"}\n'
          f'Data: {describe_data(cfg)}\n'
          'Test it, and predict the test clips, with:\n'
          f'  {command("test.sh", checkpoint)}')
    if not is_new and runner.epoch >= runner.max_epochs:
        print(f'This training was complete already: {runner.epoch} of {runner.max_epochs} '
              'epochs. For more, add --cfg-options max_epochs=N.')
    for hook in runner.hooks:
        if isinstance(hook, SkippedVideosHook) and hook.summary(runner):
            print(hook.summary(runner))
    return checkpoint
