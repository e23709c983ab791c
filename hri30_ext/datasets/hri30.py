"""The HRI30 dataset: labels, groups and clips from file names."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from mmaction.datasets import VideoDataset
from mmaction.registry import DATASETS

from ..errors import HRI30Error, first_cases
from ..names import HRI30_CLASSES, VIDEO_SUFFIXES, canonical_name, parse_clip_name
from .annotation import read_annotations
from .leave_out import LEAVE_OUT, read_leave_out
from .randomness import entropy, seeded
from .splits import split_clips
from .unreadable import (
    FIRST,
    LATER,
    is_of_one_clip,
    nothing_can_be_read,
    reason_of,
    substitutes,
    took_too_long,
)

SUBSETS = ('train', 'val', 'test')


@DATASETS.register_module()
class HRI30Dataset(VideoDataset):
    """HRI30, or other clips that are named in its way.

    The tree on disk, as released::

        data_root/
        ├── train_set/CID01_SID01_VID01.avi ...
        ├── test_set/testvideo001.avi ...                 any name, no label
        └── annotations/
            ├── train_set_labels.csv   optional, checked against the names
            ├── test_set_labels.csv    optional, to score the test clips
            └── leave_out.csv          optional, see hri30_ext/datasets/leave_out.py

    ``train/`` and ``test/``, ``train/<class id>/``, and training clips that
    lie in ``data_root`` itself are read as well. Any ending of a video will do.

    Args:
        data_root (str): The folder above.
        pipeline (list): Transforms.
        subset (str): ``train`` or ``val``, two sides of the labelled clips, or
            ``test``, the clips of the test folder.
        split (dict, optional): How the labelled clips are divided; arguments
            of :func:`~hri30_ext.datasets.splits.split_clips`.
        metainfo (dict, optional): ``dict(classes=[...])`` for another class
            list; class id ``i`` in a name is ``classes[i - 1]``.
        test_mode (bool): As in mmengine.

    Each sample has ``filename``, ``video_id`` (the file's name without its
    ending), ``label`` (0-based; -1 where unknown), ``group`` (SID; -1 for test
    clips) and ``clip`` (VID; likewise).

    Once :meth:`set_epoch` has been called, what is random in a sample is a function of
    seed, epoch and index alone: neither the order in which samples are made, nor the
    process that makes them, nor how many there are, changes it. Before, transforms draw
    from the generators as they find them.

    A clip that cannot be read, for whatever reason that is the clip's own, ends nothing. In
    training another one takes its place, of the same class where there is one, chosen by
    seed, epoch and index; the data sample's ``skipped`` lists video id, file and reason of
    what it stands for. In test mode the clip itself comes blank, with the reason as the
    data sample's ``failed``.

    Raises:
        HRI30Error: a missing or empty folder, names or annotations that are
            wrong or contradict each other. When a sample is made: so many training
            clips in a row cannot be read that it is not their fault.
    """

    METAINFO = dict(classes=HRI30_CLASSES)

    def __init__(self, data_root: str, pipeline: list, subset: str = 'train',
                 split: dict | None = None, metainfo: dict | None = None,
                 test_mode: bool = False, **kwargs) -> None:
        if subset not in SUBSETS:
            raise HRI30Error(f'subset={subset!r}: expected one of {", ".join(SUBSETS)}.')
        self.subset = subset
        self.split = dict(split or {})
        # Seed and epoch, where they are known (1): in shared memory, so that loading
        # processes that live on see an epoch begin.
        self._position = torch.zeros(3, dtype=torch.int64).share_memory_()
        self._hung: dict[int, Exception] = {}  # clips on which decoding took too long
        self._has_read = False  # any clip
        super().__init__(ann_file='', pipeline=pipeline, data_root=data_root,
                         metainfo=metainfo, test_mode=test_mode, **kwargs)

    @property
    def classes(self) -> Sequence[str]:
        """Class names; the position is the label."""
        return self.metainfo['classes']

    def load_data_list(self) -> list[dict]:
        """Finds the clips of this subset and checks them."""
        if self.subset == 'test':
            return load_test_clips(self.data_root, self.classes)
        clips = load_labelled_clips(self.data_root, self.classes)
        root = Path(self.data_root).expanduser()
        left_out = [path for path in read_leave_out(root) if (root / path).is_file()
                    and not path.startswith(('test_set/', 'test/'))]
        if left_out:
            warnings.warn(  # shown once, not for every dataset
                f'{root / LEAVE_OUT}: {len(left_out)} clips are left out of training and '
                'validation (tools/data/check.py --undo deletes the list).', stacklevel=2)
        train, val = split_clips(clips, **self.split)
        return train if self.subset == 'train' else val

    def set_epoch(self, seed: int, epoch: int) -> None:
        """Says for which epoch samples are made from now on.

        Args:
            seed (int): Of the run.
            epoch (int): From 0.
        """
        self._position.copy_(torch.tensor([seed, epoch, 1]))

    def __getitem__(self, idx: int) -> dict:
        """Makes a sample, with the randomness of the current epoch."""
        seed, epoch, known = self._position.tolist()
        return self._make(idx, (seed, epoch) if known else None)

    def draw(self, idx: int, seed: int, epoch: int) -> dict:
        """Makes the sample that an epoch has, whichever epoch it is.

        Args:
            idx (int): Position of the clip.
            seed (int): Of the run.
            epoch (int): From 0.

        Returns:
            dict: As the pipeline packs it.
        """
        return self._make(idx, (seed, epoch))

    # ---- Clips that cannot be read ------------------------------------------------------

    def _make(self, idx: int, position: tuple[int, int] | None) -> dict:
        idx = self.get_data_info(idx)['sample_idx']  # not negative
        return (self._make_blank_if_broken if self.test_mode
                else self._make_another_if_broken)(idx, position)

    def _make_another_if_broken(self, idx: int, position: tuple[int, int] | None) -> dict:
        skipped: list[tuple[str, str, str]] = []
        hung = 0
        for attempt, candidate in enumerate(self._candidates(idx, position)):
            randomness = (contextlib.nullcontext() if position is None
                          else seeded(*position, idx, attempt))
            with randomness:
                sample, error = self._try(candidate)
            if error is None:
                self._has_read = True
                return _noted(sample, skipped=skipped) if skipped else sample
            info = self.get_data_info(candidate)
            skipped.append((info['video_id'], info['filename'],
                            reason_of(error, info['filename'])))
            hung += candidate in self._hung
            if hung >= FIRST or len(skipped) >= (LATER if self._has_read else FIRST):
                break
        raise nothing_can_be_read(skipped) from error

    def _candidates(self, idx: int, position: tuple[int, int] | None) -> Iterator[int]:
        yield idx
        drawn = position or (int(np.random.randint(2**31)), )
        yield from substitutes(
            idx, len(self), lambda other: self.get_data_info(other)['label'],
            np.random.default_rng(entropy(*drawn, idx)))

    def _make_blank_if_broken(self, idx: int, position: tuple[int, int] | None) -> dict:
        with contextlib.nullcontext() if position is None else seeded(*position, idx, 0):
            sample, error = self._try(idx)
        if error is None:
            return sample
        info = self.get_data_info(idx)
        failed = reason_of(error, info['filename'])
        try:
            sample = self.pipeline({**info, 'failed': failed})
        except Exception:  # with no clip at all: it is not the clip
            raise error from None
        return _noted(sample, failed=failed)

    def _try(self, idx: int) -> tuple[dict | None, Exception | None]:
        """Makes a sample of one clip, or returns what is wrong with the clip."""
        if idx in self._hung:
            return None, self._hung[idx]
        try:
            sample = self.prepare_data(idx)
        except Exception as error:
            if not is_of_one_clip(error):
                raise
            if took_too_long(error):
                # Not again in every epoch.
                self._hung[idx] = error
            return None, error
        if sample is None:
            return None, HRI30Error('the pipeline made no sample of it')
        return sample, None

    # ---- Subsets ------------------------------------------------------------------------

    def get_subset_(self, indices: Sequence[int] | int) -> None:
        """Keeps only a part of the clips, as in mmengine."""
        super().get_subset_(indices)
        self._hung = {}

    def _copy_without_annotation(self, memo: dict | None = None) -> 'HRI30Dataset':
        """Copies for a subset, which has an epoch of its own."""
        other = super()._copy_without_annotation({} if memo is None else memo)
        other._position.share_memory_()
        other._hung = {}
        return other


def _noted(sample: dict, **facts) -> dict:
    """Notes facts in a sample, where the pipeline packed it in its data sample."""
    if 'data_samples' in sample:
        sample['data_samples'].set_metainfo(facts)
    else:
        sample.update(facts)
    return sample


def subfolder(root: Path, names: Sequence[str]) -> Path | None:
    found = [root / name for name in names if (root / name).is_dir()]
    if len(found) > 1:
        raise HRI30Error(f'{root}: found both {found[0].name}/ and {found[1].name}/.\n'
                         'Expected one of them; remove or rename the other.')
    return found[0] if found else None


def find_videos(folder: Path, recursive: bool = True) -> list[Path]:
    files = folder.rglob('*') if recursive else folder.glob('*')
    return sorted(file for file in files
                  if file.suffix.lower() in VIDEO_SUFFIXES
                  and not file.name.startswith('.') and file.is_file())


def _check_root(root: str | Path) -> Path:
    root = Path(root).expanduser()
    if not root.is_dir():
        raise HRI30Error(
            f'{root}: no such data folder.\nExpected train_set/, test_set/ and '
            'annotations/ in it (see data/README.md). Set it with '
            '--cfg-options data_root=PATH or HRI30_ROOT=PATH.')
    return root


def _unique(clips: list[dict], key) -> None:
    first: dict = {}
    twice = [f'{first[key(clip)]} and {clip["filename"]}' for clip in clips
             if first.setdefault(key(clip), clip['filename']) != clip['filename']]
    if twice:
        raise HRI30Error(f'{len(twice)} clips are there twice:\n{first_cases(twice)}\n'
                         'Expected one file a clip; remove the others.')


def load_labelled_clips(root: str | Path, classes: Sequence[str]) -> list[dict]:
    """Finds the labelled clips and checks names, folders and annotation.

    Args:
        root (str | Path): The data folder.
        classes (Sequence[str]): Class names, in the order of the ids.

    Returns:
        list[dict]: Samples as in :class:`HRI30Dataset`, sorted by class, group
        and clip.

    Raises:
        HRI30Error: see :class:`HRI30Dataset`.
    """
    root = _check_root(root)
    classes = [canonical_name(name) for name in classes]
    folder = subfolder(root, ('train_set', 'train'))
    left_out = read_leave_out(root)
    found = find_videos(folder or root, recursive=folder is not None)
    files = [file for file in found if str(file.relative_to(root)) not in left_out]
    if not files:
        listed = f' ({LEAVE_OUT} leaves {len(found)} out)' if found else ''
        raise HRI30Error(
            f'{folder or root}: no training clips{listed}.\nExpected CIDxx_SIDxx_VIDxx.avi '
            'in train_set/, train/, train/<class id>/ or the folder itself.')
    clips, wrong = [], []
    for file in files:
        try:
            name = parse_clip_name(file.stem, len(classes))
        except HRI30Error as error:
            wrong.append(f'{file.relative_to(root)}: {str(error).split(": ", 1)[1]}')
            continue
        parent = file.parent.name
        if folder and file.parent != folder and parent.isdigit() and (
                int(parent) != name.class_id):
            wrong.append(f'{file.relative_to(root)}: lies in the folder of class '
                         f'{int(parent)}')
        clips.append(dict(filename=str(file), video_id=file.stem,
                          label=name.class_id - 1, group=name.group, clip=name.clip))
    if wrong:
        raise HRI30Error(
            f'{folder or root}: {len(wrong)} of {len(files)} names are wrong:\n'
            f'{first_cases(wrong)}\nExpected CID (class id 1 to {len(classes)}), SID '
            'and VID. For other data, set classes to its class names.')
    _unique(clips, lambda clip: (clip['label'], clip['group'], clip['clip']))
    annotation_file = root / 'annotations' / 'train_set_labels.csv'
    if annotation_file.is_file():
        _check_annotation(annotation_file, clips, classes, left_out)
    return sorted(clips, key=lambda clip: (clip['label'], clip['group'], clip['clip']))


def _check_annotation(path: Path, clips: list[dict], classes: Sequence[str],
                      left_out: Iterable[str]) -> None:
    """Compares the annotation with the names; rows of clips that are left out are fine."""
    # Names are read in any case, so they are compared in one.
    rows = {row.video_id.upper(): row for row in read_annotations(path, classes)}
    names = {clip['video_id'].upper(): clip for clip in clips}
    contradictions = [
        f'{rows[key].video_id}: the name says class {names[key]["label"] + 1} '
        f'({classes[names[key]["label"]]}), the file says {rows[key].class_id} '
        f'({rows[key].class_name})'
        for key in sorted(rows.keys() & names.keys())
        if rows[key].class_id != names[key]['label'] + 1]
    missing = [f'{rows[key].video_id}: annotated, and no such clip'
               for key in sorted(rows.keys() - names.keys() - {
                   PurePosixPath(path).stem.upper() for path in left_out})]
    surplus = [f'{names[key]["video_id"]}: a clip without annotation'
               for key in sorted(names.keys() - rows.keys())]
    wrong = contradictions + missing + surplus
    if wrong:
        raise HRI30Error(
            f'{path}: {len(wrong)} disagreements with the clips '
            f'({len(contradictions)} labels, {len(missing)} missing clips, '
            f'{len(surplus)} surplus clips):\n{first_cases(wrong, limit=5)}\n'
            'Complete the clips or mend the file; without the file, the names alone '
            'are read.')


def find_test_folder(root: str | Path) -> Path | None:
    """Returns the folder of test clips, or None where there is none."""
    return subfolder(_check_root(root), ('test_set', 'test'))


def load_test_clips(root: str | Path, classes: Sequence[str]) -> list[dict]:
    """Finds the test clips, with labels where an annotation file gives them.

    Args and raised errors are those of :func:`load_labelled_clips`.

    Returns:
        list[dict]: Samples as in :class:`HRI30Dataset`, sorted by name.
    """
    folder = find_test_folder(root)
    files = find_videos(folder) if folder else []
    if not files:
        raise HRI30Error(f'{root}: no test clips.\nExpected videos of any name in '
                         'test_set/ or test/.')
    clips = [dict(filename=str(file), video_id=file.stem, label=-1, group=-1, clip=-1)
             for file in files]
    _unique(clips, lambda clip: clip['video_id'])
    path = Path(root) / 'annotations' / 'test_set_labels.csv'
    if path.is_file():
        classes = [canonical_name(name) for name in classes]
        labels = {row.video_id: row.class_id - 1
                  for row in read_annotations(path, classes)}
        names = {clip['video_id'] for clip in clips}
        excused = {PurePosixPath(path).stem for path in read_leave_out(root)}
        wrong = ([f'{name}: annotated, and no such clip'
                  for name in sorted(labels.keys() - names - excused)]
                 + [f'{name}: a clip without annotation'
                    for name in sorted(names - labels.keys())])
        if wrong:
            raise HRI30Error(f'{path}: {len(wrong)} disagreements with the clips:\n'
                             f'{first_cases(wrong)}\nComplete or remove the file.')
        for clip in clips:
            clip['label'] = labels[clip['video_id']]
    return sorted(clips, key=lambda clip: clip['video_id'])


def list_clips(dataset) -> list[dict]:
    """Lists the samples of a dataset, none of them decoded."""
    return [dataset.get_data_info(index) for index in range(len(dataset))]
