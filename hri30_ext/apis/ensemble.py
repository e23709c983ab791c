"""One result folder from those of several models."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import modules  # noqa: F401  (first: it mends what the others import)
from ..errors import HRI30Error, first_cases
from ..evaluation.compare import check_same_clips
from ..evaluation.ensemble import fit_weights, fuse
from ..evaluation.metrics import HRI30Metric
from ..evaluation.results import Results
from ..evaluation.writers import SUBMISSION
from ..utils.fileio import atomic_write_json, check_writable
from ..utils.text import format_table
from .common import format_metrics, write_result_folder


def ensemble(folders: Sequence[str | Path], out: str | Path, weights: str = 'equal',
             fit_on: Sequence[str | Path] = ()) -> dict:
    """Writes the result folder of an ensemble: what that of one model holds, and
    ``weights.json``.

    Args:
        folders (Sequence[str | Path]): M result folders of the same clips.
        out (str | Path): The new folder; gets a submission where a folder has one.
        weights (str): ``equal``, or ``fitted`` on validation clips.
        fit_on (Sequence[str | Path]): For ``fitted``, the M validation folders of the same
            models, in the same order.

    Returns:
        dict: ``weights``, the content of ``weights.json``; ``metrics``, empty without
        labels; ``clips``, their number; ``data``, what they are; ``failed``, how many more
        could not be read for one of the models, so that there is no submission.

    Raises:
        HRI30Error: other clips, classes or labels, a folder twice, or weights to fit on
            the clips of a test.
    """
    folders, fit_folders = list(map(_folder, folders)), list(map(_folder, fit_on))
    out = Path(out).expanduser().resolve()
    _check_request(folders, fit_folders, weights, out)
    results = check_same_clips([Results.load(folder) for folder in folders])
    weights_M, fit = np.full(len(folders), 1 / len(folders)), None
    if weights == 'fitted':
        weights_M, fit = _fit(fit_folders, results[0])
    check_writable(out)
    fused = fuse(results, weights_M)
    metrics = write_result_folder(out, fused, submission=any(
        (folder / SUBMISSION).is_file() for folder in folders))
    content = dict(
        how=weights,
        models=[dict(folder=str(folder), weight=float(weight),
                     top1=HRI30Metric.score(one).get('top1'))
                for folder, weight, one in zip(folders, weights_M, results, strict=True)],
        fit=fit)
    atomic_write_json(out / 'weights.json', content)
    return dict(weights=content, metrics=metrics if 'top1' in metrics else {},
                clips=len(fused.videos), data=fused.data, failed=len(fused.failed))


def _folder(path: str | Path) -> Path:
    path = Path(path).expanduser().resolve()
    return path.parent if path.suffix == '.npz' else path


def _check_request(folders: list[Path], fit_folders: list[Path], weights: str,
                   out: Path) -> None:
    if len(folders) < 2:
        raise HRI30Error(f'{len(folders)} result folder: expected two or more to average.')
    for group in (folders, fit_folders):
        twice = sorted({str(folder) for folder in group if group.count(folder) > 1})
        if twice:
            raise HRI30Error(f'folders that are named twice:\n{first_cases(twice)}\n'
                             'Expected each model once.')
    if weights not in ('equal', 'fitted'):
        raise HRI30Error(f'weights={weights!r}: expected equal or fitted.')
    if weights == 'fitted' and len(fit_folders) != len(folders):
        raise HRI30Error(f'--fit-on: {len(fit_folders)} folders for {len(folders)} '
                         'models.\nExpected the validation folder of each model, in the '
                         'same order.')
    if weights == 'equal' and fit_folders:
        raise HRI30Error('--fit-on: equal weights are not fitted.\nAdd --weights fitted, '
                         'or leave --fit-on out.')
    if out in folders + fit_folders:
        raise HRI30Error(f'{out}: is one of the folders that are read.\nChoose another '
                         'with --out.')


def _fit(folders: Sequence[Path], scored: Results) -> tuple[np.ndarray, dict]:
    validation = [Results.load(folder, need_labels=True) for folder in folders]
    for one, folder in zip(validation, folders, strict=True):
        _refuse_test_clips(one, folder, scored)
    validation = check_same_clips(validation)
    if validation[0].classes != scored.classes:
        raise HRI30Error(f'{validation[0].source} and {scored.source}: other classes.\n'
                         'Expected validation results of the same models.')
    weights_M = fit_weights(validation)
    equal_M = np.full(len(folders), 1 / len(folders))
    return weights_M, dict(
        folders=list(map(str, folders)), clips=len(validation[0].videos),
        nll_equal=HRI30Metric.score(fuse(validation, equal_M))['loss'],
        nll_fitted=HRI30Metric.score(fuse(validation, weights_M))['loss'])


def _refuse_test_clips(results: Results, folder: Path, scored: Results) -> None:
    """Raises HRI30Error where test clips would choose the weights."""
    if folder.name.lower() == 'test':
        reason = 'its name says that it is of test clips'
    elif (folder / SUBMISSION).is_file():
        reason = f'its {SUBMISSION} says that it is of test clips'
    elif both := sorted(set(results.videos) & set(scored.videos)):
        reason = (f'{len(both)} of its clips are among those that are scored:\n'
                  f'{first_cases(both)}')
    elif (results.groups_N < 0).all():
        reason = 'no group of recordings is known of its clips, as for test clips'
    else:
        return
    raise HRI30Error(f'{folder}: weights cannot be fitted on it: {reason}\n'
                     'Expected validation results of the same models, written by this '
                     'version of tools/test.sh --split val; or use --weights equal.')


def format_ensemble(summary: dict, out: str | Path) -> str:
    """Formats the summary of :func:`ensemble` as text."""
    weights, metrics = summary['weights'], summary['metrics']
    fit = weights['fit']
    lines = [f'Data: {summary["data"] or "not known"}, {summary["clips"]} clips']
    if summary['failed']:
        lines.append(f'{summary["failed"]} more clips could not be read for one of the '
                     'models: they are marked in predictions.csv, and there is no '
                     'submission')
    if fit:
        lines.append(f'Weights fitted on {fit["clips"]} validation clips: loss '
                     f'{fit["nll_equal"]:.4f} with equal weights, {fit["nll_fitted"]:.4f} '
                     'with these')
    lines.append(format_table([['weight', 'top-1', 'model'], *(
        [f'{one["weight"]:.4f}', '-' if one['top1'] is None else f'{one["top1"]:.4f}',
         one['folder']] for one in weights['models'])]))
    return '\n'.join([*lines, f'ensemble: {format_metrics(metrics)}', *(
        f'  {file}' for file in sorted(Path(out).expanduser().glob('*.*')))])
