"""The paper's three splits with one command, and the table of what they gave."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from ..config import PROJECT_ROOT, load_config, parse_options
from ..datasets.hri30 import load_labelled_clips
from ..datasets.paper import PARTIAL, UnavailableSplit, hold_out_test
from ..evaluation.intervals import LEVEL, format_units, group_interval
from ..evaluation.metrics import HRI30Metric
from ..evaluation.results import Results
from ..names import PAPER_TEST_GROUPS
from ..report import provenance
from ..report.leaderboard import read_rows
from ..utils.fileio import atomic_write_json, atomic_write_text, check_writable
from .common import describe_data
from .runs import Run, complete

_NO_MEAN = ('No mean: the test side of split 2 lies within that of split 1, and that '
            'within that of split 3, so the same clips would count up to three times.')


def reproduce(config: str, out: str, options: Sequence[str] = ()) -> dict:
    """Trains on the whole training side of each of the paper's splits and tests it.

    Nothing is chosen: the last epoch is tested. Complete splits are not repeated, and an
    interrupted one resumes. ``<out>/split<N>/test`` are result folders, and
    ``<out>/reproduction.md`` has the table for a page.

    Arguments are those of :func:`.sweep.sweep`.

    Returns:
        dict: Plain values for JSON: ``data``, ``config``, ``command``, ``commit`` and
        ``splits``: for each ``number``, ``clips``, ``note`` and, where labels are known,
        ``top1``, ``top5`` and ``interval``.
    """
    cfg = load_config(config, parse_options(list(options)))
    clips = load_labelled_clips(cfg.data_root, cfg.classes)
    out = check_writable(out)
    runs, splits = {}, []
    for number in PAPER_TEST_GROUPS:
        try:
            hold_out_test(clips, cfg.classes, type='paper', number=number)
        except UnavailableSplit as error:
            splits.append(dict(number=number, clips=0, note=str(error).split('\n')[0]))
            continue
        runs[Run(f'split {number}', config, out / f'split{number}', (
            *options, 'split.type=paper', f'split.number={number}', 'split.val_groups=0'),
            'test')] = number
    for run in complete(runs):
        splits.append(_summarize(runs[run], run.folder / 'test'))
        print(f'{run.name} is complete: {run.folder / "test" / "report.html"}', flush=True)
    words = ['.venv/bin/hri30', 'reproduce', config, '--out', str(out),
             *(['--cfg-options', *options] if options else [])]
    report = dict(
        data=describe_data(cfg).split(', paper split')[0], config=Path(config).stem,
        command=shlex.join(word.removeprefix(f'{PROJECT_ROOT}/') for word in words),
        commit=provenance.commit(),
        splits=sorted(splits, key=lambda split: split['number']))
    atomic_write_json(out / 'reproduction.json', report, indent=1)
    atomic_write_text(out / 'reproduction.md', format_reproduction(report) + '\n')
    return report


def _summarize(number: int, folder: Path) -> dict:
    results = Results.load(folder)
    row: dict = dict(number=number, clips=len(results.videos))
    if results.labels_N is None:
        return {**row, 'note': f'labels are hidden; the submission is in {folder}'}
    metrics = HRI30Metric.score(results)
    notes = [PARTIAL] if PARTIAL in results.data else []
    if results.failed:
        notes.append(f'{len(results.failed)} more clips could not be read')
    return {**row, 'top1': metrics['top1'], 'top5': metrics['top5'],
            'interval': group_interval(results.correct_N, results.groups_N)._asdict(),
            'note': '; '.join(notes)}


def format_reproduction(report: dict) -> str:
    """Formats the values of :func:`reproduce` as a block of Markdown."""
    paper, notes = read_rows()[0], []
    lines = [f'| split | test clips | top-1, % | {LEVEL:.0%} interval | top-5, % | '
             f'{paper["work"]}, {paper["start"]}, on HRI30 |', '| --- ' * 6 + '|']
    for row, top1, top5 in zip(report['splits'], paper['top1'], paper['top5'], strict=True):
        cells = ['', '', '']
        if 'top1' in row:
            low, high = row['interval']['low'], row['interval']['high']
            cells = [f'{100 * row["top1"]:.2f}', f'{100 * low:.2f} to {100 * high:.2f}, '
                     f'over {format_units(row["interval"])}', f'{100 * row["top5"]:.2f}']
        lines.append(f'| {row["number"]} | {row["clips"]:,} | {" | ".join(cells)} | '
                     f'{top1:.2f} / {top5:.2f} |')
        if row['note']:
            notes.append(f'Split {row["number"]}: {row["note"]}.')
    return '\n'.join([
        *lines, '', *notes, _NO_MEAN,
        f'Config `{report["config"]}`, last epoch, nothing chosen. Data: {report["data"]}. '
        f'Commit {report["commit"] or "not known"}.', '', '```bash', report['command'],
        '```'])
