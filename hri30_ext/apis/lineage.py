"""A checkpoint knows its split: no clip that a model was trained on scores it."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import CheckpointLoader

from ..checkpoints import META_KEY, Essentials, TrainedOn, read_essentials
from ..datasets.digests import digest_clips
from ..datasets.hri30 import list_split
from ..errors import HRI30Error, first_cases
from ..utils.text import printable
from .recognizer import find_config_of


def compare_clips(cfg: Config, splits: Mapping[str, Sequence[Mapping]]
                  ) -> tuple[TrainedOn | None, TrainedOn]:
    """Compares the clips of splits, by content, with what ``cfg.load_from`` was trained on.

    A clip that is in both parts of the checkpoint's own training is accepted: the check at
    the start of that training allowed it, see ``leak_check``.

    Args:
        cfg (Config): If its ``resume`` is true, clips may not have changed sides either:
            the best checkpoint so far was chosen with the validation clips.
        splits (Mapping): Samples by split: ``train``, ``val`` or ``test``.

    Returns:
        tuple: The record of the checkpoint; None without a checkpoint, and for one that has
        no record, such as pre-trained weights. And the record of a model that continues
        from the checkpoint with these splits.

    Raises:
        HRI30Error: clips of ``val`` or ``test`` that the model, or one that it was
            fine-tuned from, was trained on; names their groups.
    """
    digests = digest_clips((clip['filename'] for clips in splits.values()
                            for clip in clips), cfg.get('cache_dir'))
    before = read_record(CheckpointLoader.load_checkpoint(cfg.load_from, 'cpu'),
                         cfg.load_from) if cfg.get('load_from') else None
    train, val = (set(before.train), set(before.val)) if before else (set(), set())
    refused = dict(val=train - val, test=train - val,
                   train=val - train if cfg.get('resume') else set())
    for split, known in refused.items():
        clips = splits.get(split, ())
        wrong = [clip for clip in clips if digests.get(clip['filename']) in known]
        if wrong:
            groups = ', '.join(map(str, _groups(wrong)))
            raise HRI30Error(
                f'{cfg.load_from}: was {"validated" if split == "train" else "trained"} '
                f'with {len(wrong)} of the {len(clips)} {split} clips'
                f'{groups and f", of groups {groups}"}:\n'
                f'{first_cases(clip["filename"] for clip in wrong)}\n'
                'Expected the split of its training, which the config in its work '
                'folder has: tools/test.sh CHECKPOINT, or tools/train.sh --resume WORK_DIR,'
                ' both without CONFIG. For another split, train again, from weights that '
                'have not seen these clips.')
    now = {split: {digests.get(clip['filename']) for clip in splits.get(split, ())} - {None}
           for split in ('train', 'val')}
    return before, TrainedOn(train=sorted(train | now['train']), val=sorted(now['val']),
                             groups=_groups(splits.get('train', ())))


def _groups(clips: Sequence[Mapping]) -> list[int]:
    return sorted({clip['group'] for clip in clips} - {-1})


def compare_tested(cfg: Config, *splits: str) -> bool:
    """Compares splits of a config of :func:`.testing.prepare`; see :func:`compare_clips`.

    Returns:
        bool: Whether a calibration may be fitted on ``val``: it is the validation of the
        training, or nothing is known of the training.
    """
    before, now = compare_clips(cfg, {
        split: list_split(cfg.test_dataloader, subset=split) for split in splits})
    return before is None or before.val == now.val


def read_record(checkpoint: Mapping, source: str) -> TrainedOn | None:
    """Returns what a loaded checkpoint was trained on, or None if it has no such record.

    Raises an HRI30Error, which names its ``source``, if the record is damaged.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, dict) or META_KEY not in meta:
        return None
    try:
        return msgspec.convert(meta[META_KEY], Essentials).trained_on
    except msgspec.ValidationError as error:
        raise HRI30Error(f'{source}: the record of its training is damaged '
                         f'({printable(str(error))[:160]}).\nCopy it again; its weights '
                         'alone can be loaded without "meta".') from error


class RecordHook(Hook):
    """Writes what a model was trained on into its checkpoints.

    Args:
        record (TrainedOn): Of :func:`compare_clips`.
    """

    priority = 'LOWEST'  # after the checkpoint hook, which writes the essentials

    def __init__(self, record: TrainedOn) -> None:
        self._record = msgspec.to_builtins(record)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        if META_KEY in checkpoint['meta']:
            checkpoint['meta'][META_KEY]['trained_on'] = self._record


def find_config_beside(checkpoint: str | Path) -> str | None:
    """Finds the config in the folder of a checkpoint that has the name of its config.

    Raises:
        HRI30Error: the checkpoint cannot be read, or does not say which model it is of.
    """
    name = read_essentials(checkpoint).algorithm
    return next((str(file) for file in Path(checkpoint).expanduser().parent.glob('*.py')
                 if re.sub(r'[^\w.-]', '_', file.stem)[:200] == name), None)


def find_config(checkpoint: str, options: dict | None) -> tuple[str, dict | None]:
    """Finds the config of a checkpoint alone, in its folder or in ``configs/``, and the
    options for it. Errors are those of :func:`.recognizer.find_config_of`.
    """
    config = find_config_beside(checkpoint)
    return (config, options) if config else find_config_of(checkpoint, options)
