"""Cross-validation over groups of recordings, and over random clips, which leaks."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from ..config import load_config, parse_options
from ..datasets.hri30 import load_labelled_clips, reading
from ..datasets.splits import group_folds, random_folds, write_list
from ..evaluation.compare import check_same_clips
from ..evaluation.intervals import format_units, group_interval
from ..evaluation.results import Results
from ..utils.fileio import atomic_write_json, check_writable
from ..utils.text import format_table
from .common import describe_data, write_result_folder
from .runs import Run, complete
from .sweep import mean_and_spread

#: Held-out clips neither choose a checkpoint nor stop the training.
_NOTHING_CHOSEN = ('early_stopping=None', 'save_best=None')


def crossval(config: str, folds: int | None, seeds: Sequence[int], out: str,
             options: Sequence[str] = (), random: bool = False) -> dict:
    """Trains on all folds but one and scores that one, for every fold and seed.

    The checkpoint of the last epoch is scored; clips of the held-out fold neither stop the
    training nor choose a checkpoint. Complete folds are not repeated.

    Args:
        folds (int, optional): Number of folds; None leaves one group out in each.
        out (str): Gets ``<protocol>/seed<S>/fold<F>/``, work folders with the list of
            held-out clips, and ``<protocol>/seed<S>/``, the result folder of all folds.
        random (bool): Whether to add a random split of the same clips, which leaks.
        config, seeds, options: See :func:`.sweep.sweep`; seeds are of folds too.

    Returns:
        dict: ``data``, ``folds``, ``seeds`` and ``protocols``. For the protocols ``groups``
        and ``random``: ``top1`` of each fold and seed, ``mean``, ``deviation``, and
        ``interval``, see
        :class:`~hri30_ext.evaluation.intervals.Interval`.
    """
    cfg = load_config(config, parse_options(list(options)))
    clips = load_labelled_clips(cfg.data_root, cfg.classes, **reading(cfg))
    out = check_writable(out)
    protocols = {'groups': group_folds, **({'random': random_folds} if random else {})}
    folds = len(group_folds(clips, None, 0)) if folds is None else folds
    runs: dict[Run, tuple] = {}
    for protocol, divide in protocols.items():
        for seed in seeds:
            for i, names in enumerate(divide(clips, folds, seed), 1):
                folder = out / protocol / f'seed{seed}' / f'fold{i}'
                # Its name is among the settings: another number of folds is another run.
                held_out = write_list(folder / f'held_out_of_{folds}.txt', names)
                runs[Run(f'{protocol}, seed {seed}, fold {i} of {folds}', config, folder, (
                    *options, *_NOTHING_CHOSEN, f'seed={seed}', 'split.type=file',
                    f'split.val_file={held_out}', 'split.train_file=None'))] = (
                        protocol, seed)
    results: dict[tuple, list[Results]] = {}
    for run in complete(runs):
        fold = Results.load(run.folder / 'val', need_labels=True)
        results.setdefault(runs[run], []).append(fold)
        print(f'{run.name}: top-1 {_accuracy(fold):.3f} of {len(fold.videos)} clips',
              flush=True)
    report = dict(data=describe_data(cfg), folds=folds, seeds=list(seeds), protocols={})
    for protocol in protocols:
        top1 = [_accuracy(fold) for seed in seeds for fold in results[protocol, seed]]
        whole = [_write_together(results[protocol, seed], out / protocol / f'seed{seed}',
                                 protocol) for seed in seeds]
        report['protocols'][protocol] = dict(
            top1=top1, mean=float(np.mean(top1)),
            deviation=float(np.std(top1, ddof=1)), interval=_interval(whole))
    atomic_write_json(out / 'crossval.json', report, indent=1)
    return report


def _accuracy(results: Results) -> float:
    return float(results.correct_N.mean())


def _write_together(parts: Sequence[Results], folder: Path, protocol: str) -> Results:
    """Writes the results of all folds, each clip once, as one result folder."""
    note = 'cross-validation by group' if protocol == 'groups' else 'random split (leaks)'
    data = f'{parts[0].data.removesuffix(", val")}, {note}'
    videos, scores_NK, labels_N, groups_N, filenames = (
        list(chain.from_iterable(getattr(part, name) for part in parts))
        for name in ('videos', 'scores_NK', 'labels_N', 'groups_N', 'filenames'))
    whole = Results(
        videos, scores_NK, parts[0].classes, labels_N, groups_N, filenames, data,
        {video: reason for part in parts for video, reason in part.failed.items()})
    write_result_folder(folder, whole)
    return whole


def _interval(results: Sequence[Results]) -> dict:
    """Returns the interval of the accuracy, a mean over results of the same clips."""
    results = check_same_clips(results)
    right_N = np.mean([one.correct_N for one in results], axis=0)
    return group_interval(right_N, results[0].groups_N)._asdict()


def format_crossval(report: dict) -> str:
    """Formats the report of :func:`crossval` as a table."""
    table = [['held out', 'folds x seeds', 'top-1 of a fold', '95 % interval', 'over']]
    titles = {'groups': 'whole groups', 'random': 'random clips (LEAKS)'}
    for name, scores in report['protocols'].items():
        table.append([titles[name], f'{report["folds"]} x {len(report["seeds"])}',
                      mean_and_spread(scores['top1'], 3),
                      '{low:.3f} to {high:.3f}'.format(**scores['interval']),
                      format_units(scores['interval'])])
    lines = [format_table(table)]
    if 'random' in report['protocols']:
        gap = (report['protocols']['random']['mean']
               - report['protocols']['groups']['mean'])
        lines.append(f'The random split reads {100 * gap:.1f} points higher: clips of one '
                     'group of recordings are on both of its sides.')
    return '\n'.join(lines) + f'\nData: {report["data"]}'
