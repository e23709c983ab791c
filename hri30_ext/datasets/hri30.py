"""The HRI30 dataset: labels, groups and clips from file names."""

import contextlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from mmaction.datasets import VideoDataset
from mmaction.registry import DATASETS
from mmengine.registry import init_default_scope

from ..errors import HRI30Error, first_cases
from ..names import HRI30_CLASSES, canonical_name, parse_clip_name, split_part
from .annotation import Annotation, read_annotations
from .layouts import check_root, find_videos, read_layout
from .leave_out import LEAVE_OUT, read_leave_out
from .paper import hold_out_test, is_held_out_by_name
from .randomness import entropy, seeded
from .splits import split_clips
from .unreadable import (
    MOST_FAILED,
    MOST_HUNG,
    decoder_died,
    explain_unreadable,
    find_reason,
    is_of_one_clip,
    list_substitutes,
)

#: Folders of labelled clips and of test clips; a data folder has one of each.
TRAIN_FOLDERS, TEST_FOLDERS = ('train_set', 'train', 'videos'), ('test_set', 'test')


@DATASETS.register_module()
class HRI30Dataset(VideoDataset):
    """HRI30, or other clips: in class folders, or of a table or list.

    The folder, as released::

        data_root/
        ├── train_set/CID01_SID01_VID01.avi ...
        ├── test_set/testvideo001.avi ...                 any name, no label
        └── annotations/
            ├── train_set_labels.csv   optional, compared with the names
            ├── test_set_labels.csv    optional, to score the test clips
            └── leave_out.csv          optional, clips that are not used

    ``train/`` and ``test/``, ``train/<class id>/``, training clips in ``data_root``
    itself, and any video format are accepted too; and, where test clips are labelled as
    well, ``<Class>/v_<Class>_gGG_cCC.avi``, in ``data_root`` or in ``videos/``. Other
    layouts are those of :func:`~hri30_ext.datasets.layouts.read_layout`.

    Args:
        subset (str): ``train`` or ``val``, the two parts of the labelled clips, or
            ``test``: the clips of the test folder, or those that the split holds out.
        split (dict, optional): How the labelled clips are divided; arguments of
            :func:`~hri30_ext.datasets.splits.split_clips` and, with the types ``paper``
            and ``lists``, of :func:`~hri30_ext.datasets.paper.hold_out_test`.
        metainfo (dict, optional): ``dict(classes=[...])`` for other classes; class id ``i``
            in a name is ``classes[i - 1]``.
        annotation, group_pattern, columns: See
            :func:`~hri30_ext.datasets.layouts.read_layout`.
        repeats (int): Draws of a clip in each epoch (repeated augmentation, arXiv
            1901.09335): with more than one, a sample is a list of them, which
            :func:`~hri30_ext.engine.loading.stack_clips` puts into the batch. Each draws
            its own frames. Defaults to 1.

    Each sample has ``filename``, ``video_id`` (the file's name without its ending; test
    clips of one name in two folders keep the folder, as in ``a/clip1``), ``label``
    (0-based; -1 if unknown), ``group`` (SID or g; -1 for clips of the test folder) and
    ``clip`` (VID or c; likewise).

    After :meth:`set_epoch`, the randomness in a sample depends on seed, epoch, index and
    the number of the draw only: not on the order of the samples, nor on the process that
    makes them. Before it, transforms draw from the global generators.

    A clip that cannot be read does not end a run. In training, another clip replaces it, of
    the same class if possible, chosen by seed, epoch and index; the data sample's
    ``skipped`` lists video id, file and reason of what it replaces. In test mode the sample
    is blank, with the reason in the data sample's ``failed``.

    Raises:
        HRI30Error: a missing or empty folder; names or annotations that are wrong or
            contradict each other. For a sample: so many training clips in a row cannot be
            read that the cause is not the clips.
    """

    METAINFO = dict(classes=HRI30_CLASSES)

    def __init__(self, data_root: str, pipeline: list, subset: str = 'train',
                 split: dict | None = None, metainfo: dict | None = None,
                 test_mode: bool = False, annotation: str | None = None,
                 group_pattern: str | None = None, columns: list[str] | None = None,
                 repeats: int = 1, **kwargs) -> None:
        self.repeats = repeats
        self.subset = subset
        self.split = dict(split or {})
        self.reading = dict(annotation=annotation, group_pattern=group_pattern,
                            columns=columns)
        # Seed and epoch, and 1 once they are set: in shared memory, so that persistent
        # loading processes see a new epoch.
        self._position = torch.zeros(3, dtype=torch.int64).share_memory_()
        self._hung: dict[str, Exception] = {}  # files that took too long to decode
        super().__init__(ann_file='', pipeline=pipeline, data_root=data_root,
                         metainfo=metainfo, test_mode=test_mode, **kwargs)

    @property
    def classes(self) -> Sequence[str]:
        """Class names; the position is the label."""
        return self.metainfo['classes']

    def load_data_list(self) -> list[dict]:
        """Finds and checks the clips of this subset."""
        if self.subset == 'test':
            return load_test_clips(self.data_root, self.classes, self.split, **self.reading)
        clips = load_labelled_clips(self.data_root, self.classes, **self.reading)
        clips, _ = hold_out_test(clips, self.classes, read_leave_out(self.data_root),
                                 **self.split)
        train, val = split_clips(clips, **self.split)
        if self.subset == 'val' and not val:
            raise HRI30Error('split.val_groups=0: there are no validation clips.')
        return train if self.subset == 'train' else val

    def set_epoch(self, seed: int, epoch: int) -> None:
        """Sets the seed and the epoch, from 0, of the following samples."""
        self._position.copy_(torch.tensor([seed, epoch, 1]))

    def __getitem__(self, idx: int) -> dict | list[dict]:
        """Makes a sample, or a list of ``repeats``, with the current epoch's randomness."""
        seed, epoch, is_set = self._position.tolist()
        # The first draw is that of a training without repeats.
        samples = [self._make(idx, (seed, epoch, *repeat) if is_set else None)
                   for repeat in [(), *((i, ) for i in range(1, self.repeats))]]
        return samples if self.repeats > 1 else samples[0]

    def draw(self, idx: int, seed: int, epoch: int) -> dict:
        """Makes the sample of clip ``idx`` in any epoch, whatever is set."""
        return self._make(idx, (seed, epoch))

    # ---- Clips that cannot be read ------------------------------------------------------

    def _make(self, idx: int, position: tuple[int, ...] | None) -> dict:
        idx = self.get_data_info(idx)['sample_idx']  # not negative
        make = self._make_or_blank if self.test_mode else self._make_or_replace
        return make(idx, position)

    def _make_or_replace(self, idx: int, position: tuple[int, ...] | None) -> dict:
        skipped: list[tuple[str, str, str]] = []
        hung = 0
        for attempt, candidate in enumerate(self._candidates(idx, position)):
            sample, error = self._try(candidate, position and (*position, idx, attempt))
            if error is None:
                return _add_facts(sample, skipped=skipped) if skipped else sample
            info = self.get_data_info(candidate)
            skipped.append((info['video_id'], info['filename'],
                            find_reason(error, info['filename'])))
            hung += info['filename'] in self._hung
            if hung >= MOST_HUNG or len(skipped) >= MOST_FAILED:
                break
        raise explain_unreadable(skipped) from error

    def _candidates(self, idx: int, position: tuple[int, ...] | None) -> Iterator[int]:
        yield idx
        numbers = position or (int(np.random.randint(2**31)), )
        yield from list_substitutes(
            idx, len(self), lambda other: self.get_data_info(other)['label'],
            np.random.default_rng(entropy(*numbers, idx)))

    def _make_or_blank(self, idx: int, position: tuple[int, ...] | None) -> dict:
        sample, error = self._try(idx, position and (*position, idx, 0))
        if error is None:
            return sample
        info = self.get_data_info(idx)
        failed = find_reason(error, info['filename'])
        try:
            sample = self.pipeline({**info, 'failed': failed})
        except Exception:  # the pipeline fails without a clip too
            raise error from None
        return _add_facts(sample, failed=failed)

    def _try(self, idx: int, seeds: tuple | None) -> tuple[dict | None, Exception | None]:
        """Makes a sample, or returns the error of its clip."""
        filename = self.get_data_info(idx)['filename']
        if filename in self._hung:
            return None, self._hung[filename]
        try:
            with contextlib.nullcontext() if seeds is None else seeded(*seeds):
                sample = self.prepare_data(idx)
        except Exception as error:
            if not is_of_one_clip(error):
                raise
            if decoder_died(error, 'hung'):  # not again in every epoch
                self._hung[filename] = error
            return None, error
        if sample is None:
            return None, HRI30Error('the pipeline made no sample of it')
        return sample, None


def _add_facts(sample: dict, **facts) -> dict:
    """Adds facts to a sample, in its data sample if the pipeline packed one."""
    if 'data_samples' in sample:
        sample['data_samples'].set_metainfo(facts)
    else:
        sample.update(facts)
    return sample


# ---- Finding the clips ------------------------------------------------------------------


def subfolder(root: Path, names: Sequence[str]) -> Path | None:
    """Returns the subfolder with one of the names, or None if there is none."""
    found = [root / name for name in names if (root / name).is_dir()]
    if len(found) > 1:
        raise HRI30Error(f'{root}: found both {found[0].name}/ and {found[1].name}/.\n'
                         'Expected one of them; remove or rename the other.')
    return found[0] if found else None


def class_folders(root: Path) -> list[Path]:
    """Lists the folders of classes, with clips in UCF-101's form, in the root itself."""
    return [folder for folder in sorted(root.iterdir()) if folder.is_dir()
            and folder.name not in TRAIN_FOLDERS + TEST_FOLDERS
            and any(file.name.startswith('v_') for file in find_videos(folder, False))]


def find_labelled_videos(root: str | Path) -> list[Path]:
    """Lists the videos that have their label in their name, or should have."""
    root = check_root(root)
    folder = subfolder(root, TRAIN_FOLDERS)
    files = find_videos(folder or root, recursive=folder is not None)
    return sorted([*files, *(file for folder in class_folders(root)
                             for file in find_videos(folder, False))])


def _refuse_repeated(clips: list[dict], key: Callable) -> None:
    first: dict = {}
    repeated = [f'{first[key(clip)]} and {clip["filename"]}' for clip in clips
                if first.setdefault(key(clip), clip['filename']) != clip['filename']]
    if repeated:
        raise HRI30Error(f'{len(repeated)} clips exist twice:\n{first_cases(repeated)}\n'
                         'Expected one file per clip; remove the others.')


def reading(cfg: Mapping) -> dict:
    """Returns the settings of a config that say how its clips are read."""
    return {name: cfg.get(name) for name in ('annotation', 'group_pattern', 'columns')}


def load_labelled_clips(root: str | Path, classes: Sequence[str],
                        leave_out: bool = True, **reading) -> list[dict]:
    """Finds the labelled clips and checks names, folders and annotation.

    Args:
        leave_out (bool): Whether to leave out those that ``annotations/leave_out.csv``
            lists.
        **reading: ``annotation``, ``group_pattern`` and ``columns`` of
            :func:`~hri30_ext.datasets.layouts.read_layout`.

    Returns:
        list[dict]: Samples as in :class:`HRI30Dataset`, sorted by class, group
        and clip; and, where names say the labels, ``paper_group``, the number of the group
        in the paper's splits.

    Raises:
        HRI30Error: see :class:`HRI30Dataset`.
    """
    root = check_root(root)
    left_out = read_leave_out(root)
    if layout := read_layout(root, classes=classes, **reading):
        found = [clip for clip in layout.clips if clip['subset'] != 'test']
        expected = f'clips that are not of split test in {layout.annotation}'
    else:
        found = [dict(filename=str(file)) for file in find_labelled_videos(root)]
        expected = ('CIDxx_SIDxx_VIDxx.avi in train_set/ or train/, or '
                    '<Class>/v_<Class>_gxx_cxx.avi; docs/your_data.md is for other data')
    # The list may name a part or its whole recording.
    kept = [clip for clip in found if not leave_out or not left_out.keys() & {
        Path(name).relative_to(root).as_posix()
        for name in (clip['filename'], split_part(clip['filename'])[0])}]
    if not kept:
        raise HRI30Error(f'{root}: no training clips.\n' + (
            f'{root / LEAVE_OUT} leaves all {len(found)} out.' if found else
            f'Expected {expected}.'))
    if len(kept) < len(found):  # Python shows a repeated warning once
        warnings.warn(f'{root / LEAVE_OUT}: {len(found) - len(kept)} clips are left out of '
                      'training and validation', stacklevel=2)
    if layout:
        return kept
    classes = [canonical_name(name) for name in classes]
    clips = _parse_names(root, [Path(clip['filename']) for clip in kept], classes)
    order = itemgetter('label', 'group', 'clip')
    _refuse_repeated(clips, order)
    # Names are compared without case, as they are read.
    _match_annotation(root / 'annotations' / 'train_set_labels.csv', clips, classes,
                      left_out, str.upper)
    return sorted(clips, key=order)


def _parse_names(root: Path, files: Sequence[Path], classes: Sequence[str]) -> list[dict]:
    """Returns a sample for each file, or raises an error about wrong names and folders."""
    folder = subfolder(root, TRAIN_FOLDERS)
    clips, wrong, forms = [], [], {}
    for file in files:
        try:
            name = parse_clip_name(file.stem, classes)
        except HRI30Error as error:
            wrong.append(str(error))
            continue
        parent, of_class = canonical_name(file.parent.name), classes[name.class_id - 1]
        if file.parent not in (root, folder) and (
                (name.ucf or parent in classes) and parent != of_class
                or parent.isdecimal() and int(parent) != name.class_id):
            wrong.append(f'{file.relative_to(root)}: is in the folder of class {parent}')
        forms[name.ucf] = file
        clips.append(dict(filename=str(file), video_id=file.stem,
                          label=name.class_id - 1, group=name.group, clip=name.clip,
                          paper_group=name.paper_group))
    if len(forms) > 1:
        raise HRI30Error(f'{root}: found clips of both layouts, such as {forms[False]} and '
                         f'{forms[True]}.\nExpected one; move the other out of here.')
    if wrong:
        raise HRI30Error(f'{folder or root}: {len(wrong)} of {len(files)} names are wrong:'
                         f'\n{first_cases(wrong)}\nRename them, or set classes.')
    return clips


def has_training_clips(root: str | Path, classes: Sequence[str], **reading) -> bool:
    """Returns whether there are clips beside those of the test."""
    if layout := read_layout(root, classes=classes, **reading):
        return any(clip['subset'] != 'test' for clip in layout.clips)
    return bool(find_labelled_videos(root))


def find_test_folder(root: str | Path) -> Path | None:
    """Returns the folder of test clips, or None if there is none."""
    return subfolder(check_root(root), TEST_FOLDERS)


class NoTestClips(HRI30Error):
    """There are no test clips, and no split that holds some out."""


def has_test_clips(root: str | Path, classes: Sequence[str], split: Mapping, **reading
                   ) -> bool:
    """Returns whether there are test clips; arguments of :func:`load_test_clips`."""
    with contextlib.suppress(NoTestClips):
        return bool(load_test_clips(root, classes, split, **reading))
    return False


def load_test_clips(root: str | Path, classes: Sequence[str], split: Mapping | None = None,
                    **reading) -> list[dict]:
    """Finds the test clips, with labels if they are known, sorted by name.

    These are the labelled clips that ``split`` holds out, or those of the test folder. None
    is left out: the list only excuses rows of clips that do not exist. Args and raised
    errors are those of :func:`load_labelled_clips`.
    """
    if is_held_out_by_name(split or {}):
        labelled = load_labelled_clips(root, classes, False, **reading)
        if held_out := hold_out_test(labelled, classes, read_leave_out(root), **split)[1]:
            return held_out
    if layout := read_layout(root, classes=classes, **reading):
        found = [clip for clip in layout.clips if clip['subset'] == 'test']
        if not found:
            raise NoTestClips(f'{root}: no test clips.\nExpected some of split test in '
                             f'{layout.annotation}, or a folder test/.')
        return sorted(found, key=itemgetter('video_id'))
    folder = find_test_folder(root)
    files = find_videos(folder) if folder else []
    if not files:
        raise NoTestClips(f'{root}: no test clips.\nExpected videos of any name in '
                         'test_set/ or test/.')
    times = Counter(file.stem for file in files)
    clips = [dict(filename=str(file), label=-1, group=-1, clip=-1, video_id=(
                  file.stem if times[file.stem] == 1
                  else file.relative_to(folder).with_suffix('').as_posix()))
             for file in files]
    _refuse_repeated(clips, itemgetter('video_id'))
    root = Path(root).expanduser()
    rows = _match_annotation(root / 'annotations' / 'test_set_labels.csv', clips,
                             [canonical_name(name) for name in classes],
                             read_leave_out(root))
    for clip in clips if rows else ():
        clip['label'] = rows[clip['video_id']].class_id - 1
    return sorted(clips, key=itemgetter('video_id'))


def _match_annotation(path: Path, clips: list[dict], classes: Sequence[str],
                      left_out: dict[str, str], key: Callable[[str], str] = str
                      ) -> dict[str, Annotation]:
    """Compares an annotation with the clips; neither wins silently.

    Clips have the label -1 if their name has none; the file need not exist; ``left_out``
    are paths of clips that may be missing. Returns rows by ``key`` of their video ids.
    """
    if not path.is_file():
        return {}
    rows = {key(row.video_id): row for row in read_annotations(path, classes)}
    names = {key(clip['video_id']): clip for clip in clips}
    excused = {key(name) for path in map(PurePosixPath, left_out)
               for name in (path.stem, str(PurePosixPath(*path.parts[1:-1], path.stem)))}
    wrong = [f'{name}: the name says class {names[name]["label"] + 1}, the file says '
             f'{rows[name].class_id}' for name in sorted(rows.keys() & names.keys())
             if names[name]['label'] not in (-1, rows[name].class_id - 1)]
    wrong += [f'{rows[name].video_id}: annotated, and no such clip'
              for name in sorted(rows.keys() - names.keys() - excused)]
    wrong += [f'{names[name]["video_id"]}: a clip without annotation'
              for name in sorted(names.keys() - rows.keys())]
    if wrong:
        raise HRI30Error(f'{path}: {len(wrong)} disagreements with the clips:\n'
                         f'{first_cases(wrong, limit=5)}\nCorrect or delete the file.')
    return rows


def list_clips(dataset) -> list[dict]:
    """Lists the samples of a dataset without decoding them."""
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def list_split(loader: Mapping, **changes) -> list[dict]:
    """Lists the samples of the dataset of a loader, with changes such as ``subset``."""
    init_default_scope('mmaction')
    return list_clips(DATASETS.build({**loader['dataset'], 'pipeline': [], **changes}))
