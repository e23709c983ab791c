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
        dict: The content of ``weights.json``: ``how``; ``models`` with ``folder``,
        ``weight`` and ``top1``; ``fit``, on what weights were fitted, or None; ``metrics``,
        empty without labels; ``clips``, their number; ``data``, what they are; ``failed``,
        how many more could not be read for a model, so that there is no submission.

    Raises:
        HRI30Error: other clips, classes or labels, or weights to fit on the clips of a
            test.
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
    summary = dict(
        how=weights, fit=fit, metrics=metrics if 'top1' in metrics else {},
        clips=len(fused.videos), data=fused.data, failed=len(fused.failed),
        models=[dict(folder=str(folder), weight=float(weight),
                     top1=HRI30Metric.score(one).get('top1'))
                for folder, weight, one in zip(folders, weights_M, results, strict=True)])
    atomic_write_json(out / 'weights.json', summary)
    return summary


def _folder(path: str | Path) -> Path:
    path = Path(path).expanduser().resolve()
    return path.parent if path.suffix == '.npz' else path


def _check_request(folders: list[Path], fit_folders: list[Path], weights: str,
                   out: Path) -> None:
    expected = len(folders) if weights == 'fitted' else 0
    if len(folders) < 2:
        raise HRI30Error(f'{len(folders)} result folder: expected two or more to average.')
    if len(fit_folders) != expected:
        raise HRI30Error(f'--fit-on: {len(fit_folders)} folders.\nExpected the validation '
                         'folder of each model, in the same order, with --weights fitted, '
                         'and none with --weights equal.')
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
    both = sorted(set(results.videos) & set(scored.videos))
    is_test = folder.name.lower() == 'test' or (folder / SUBMISSION).is_file()
    if both or is_test or (results.groups_N < 0).all():
        raise HRI30Error(
            f'{folder}: weights cannot be fitted on ' + (
                f'clips that are scored:\n{first_cases(both)}' if both else 'test clips.')
            + '\nExpected validation results of the same models, of tools/test.sh --split '
            'val; or use --weights equal.')


def format_ensemble(summary: dict, out: str | Path) -> str:
    """Formats the summary of :func:`ensemble` as text."""
    fit = summary['fit']
    lines = [f'Data: {summary["data"]}, {summary["clips"]} clips']
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
         one['folder']] for one in summary['models'])]))
    return '\n'.join([*lines, f'ensemble: {format_metrics(summary["metrics"])}', *(
        f'  {file}' for file in sorted(Path(out).expanduser().glob('*.*')))])
