"""Late fusion: one result folder from those of several models.

Shapes: N clips, K classes, M models.
"""

import json
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

import numpy as np
from scipy.optimize import minimize

from ..errors import HRI30Error, first_cases
from ..report import write_report
from ..utils.fileio import atomic_write_text, check_writable
from .analysis import write_analysis
from .calibration import normalise
from .compare import check_same_clips, merge_groups
from .metrics import HRI30Metric
from .results import Results
from .writers import SUBMISSION, write_results

_EPS = np.finfo(np.float64).eps


def fuse(results: Sequence[Results], weights_M: Sequence[float]) -> Results:
    """Averages the probabilities of several models.

    Args:
        results (Sequence[Results]): Of the same clips, classes and labels.
        weights_M (Sequence[float]): One a model; their sum is 1.

    Returns:
        Results: With groups and file names where any of them has them.

    Raises:
        HRI30Error: other clips, classes or labels; see :func:`check_same_clips`.
    """
    results = check_same_clips(results)
    fused_NK = sum(weight * normalise(one.scores_NK)
                   for weight, one in zip(weights_M, results, strict=True))
    first = results[0]

    def merge(one: Results, other: Results) -> Results:
        filenames = [a or b
                     for a, b in zip(one.filenames, other.filenames, strict=True)]
        return Results(one.videos, fused_NK, one.classes, one.labels_N,
                       merge_groups(one, other), filenames, one.data, one.failed,
                       source='the ensemble')

    return reduce(merge, results[1:], merge(first, first))


def fit_weights(results: Sequence[Results]) -> np.ndarray:
    """Finds the weights with the lowest negative log-likelihood of the average.

    Args:
        results (Sequence[Results]): Of the same labelled validation clips.

    Returns:
        np.ndarray: Positive weights with the sum 1, (M, ).

    Raises:
        HRI30Error: no labels, or other clips, classes or labels.
    """
    results = check_same_clips(results)
    labels_N = results[0].labels_N
    if labels_N is None or not len(labels_N):
        raise HRI30Error(f'{results[0].source}: no labelled clips.\nExpected results of '
                         'the validation.')
    rows_N = np.arange(len(labels_N))
    # Of the average, the likelihood needs the true class alone.
    true_NM = np.stack([np.maximum(normalise(one.scores_NK)[rows_N, labels_N], _EPS)
                        for one in results], axis=1)

    def softmax(logits_M):
        weights_M = np.exp(logits_M - logits_M.max())
        return weights_M / weights_M.sum()

    def loss(logits_M):
        weights_M = softmax(logits_M)
        mean_N = true_NM @ weights_M
        slope_M = -(true_NM / mean_N[:, None]).mean(axis=0)
        return -np.log(mean_N).mean(), weights_M * (slope_M - weights_M @ slope_M)

    # Bounded: a model that adds nothing would have its logit run to minus infinity.
    count = len(results)
    found = minimize(loss, np.zeros(count), jac=True, method='L-BFGS-B',
                     bounds=[(-10, 10)] * count, options=dict(ftol=1e-12, gtol=1e-8))
    return softmax(found.x)


def _folder(path: str | Path) -> Path:
    path = Path(path).expanduser().resolve()
    return path.parent if path.suffix == '.npz' else path


def _refuse_test_clips(results: Results, folder: Path, scored: Results) -> None:
    """Raises HRI30Error where weights would be chosen by clips of a test."""
    both = sorted(set(results.videos) & set(scored.videos))
    reason = ''
    if folder.name.lower() == 'test':
        reason = 'its name says that it is of test clips'
    elif (folder / SUBMISSION).is_file():
        reason = f'its {SUBMISSION} says that it is of test clips'
    elif both:
        reason = (f'{len(both)} of its clips are among those that are scored:\n'
                  f'{first_cases(both)}')
    elif (results.groups_N < 0).all():
        reason = 'no group of recordings is known of its clips, as for test clips'
    if reason:
        raise HRI30Error(f'{folder}: weights cannot be fitted on it: {reason}\n'
                         'Expected validation results of the same models, written by this '
                         'version of tools/test.sh --split val; or use --weights equal.')


def ensemble(folders: Sequence[str | Path], out: str | Path, weights: str = 'equal',
             fit_on: Sequence[str | Path] = ()) -> dict:
    """Writes the result folder of an ensemble.

    It holds what that of one model holds, and ``weights.json``; ``analysis.json`` where
    labels are known, and the submission where a folder has one.

    Args:
        folders (Sequence[str | Path]): M result folders of the same clips.
        out (str | Path): The new folder.
        weights (str): ``equal``, or ``fitted`` on validation clips.
        fit_on (Sequence[str | Path]): For ``fitted``, the M validation folders of the same
            models, in the same order.

    Returns:
        dict: ``weights``, what ``weights.json`` holds; ``metrics``, empty without labels;
        ``clips``, their number; ``data``, what they are; ``failed``, how many more could
        not be read for one of the models, so that there is no submission.

    Raises:
        HRI30Error: other clips, classes or labels, a folder twice, or weights to fit on
            the clips of a test.
    """
    folders, fit_folders = list(map(_folder, folders)), list(map(_folder, fit_on))
    if len(folders) < 2:
        raise HRI30Error(f'{len(folders)} result folder: expected two or more to average.')
    for group in (folders, fit_folders):
        twice = sorted({str(folder) for folder in group if group.count(folder) > 1})
        if twice:
            raise HRI30Error(f'folders that are named twice:\n{first_cases(twice)}\n'
                             'Expected each model once.')
    if weights not in ('equal', 'fitted'):
        raise HRI30Error(f'weights {weights!r}: expected equal or fitted.')
    if weights == 'fitted' and len(fit_folders) != len(folders):
        raise HRI30Error(f'--fit-on: {len(fit_folders)} folders for {len(folders)} '
                         'models.\nExpected the validation folder of each model, in the '
                         'same order.')
    if weights == 'equal' and fit_folders:
        raise HRI30Error('--fit-on: equal weights are not fitted.\nAdd --weights fitted, '
                         'or leave --fit-on out.')
    out = Path(out).expanduser().resolve()
    if out in folders + fit_folders:
        raise HRI30Error(f'{out}: is one of the folders that are read.\nChoose another '
                         'with --out.')
    results = check_same_clips([Results.load(folder) for folder in folders])
    weights_M, fit = np.full(len(folders), 1 / len(folders)), None
    if weights == 'fitted':
        validation = [Results.load(folder, need_labels=True) for folder in fit_folders]
        for one, folder in zip(validation, fit_folders, strict=True):
            _refuse_test_clips(one, folder, results[0])
        validation = check_same_clips(validation)
        if validation[0].classes != results[0].classes:
            raise HRI30Error(f'{validation[0].source} and {results[0].source}: other '
                             'classes.\nExpected validation results of the same models.')
        before = _loss(validation, weights_M)
        weights_M = fit_weights(validation)
        fit = dict(folders=list(map(str, fit_folders)), clips=len(validation[0].videos),
                   nll_equal=before, nll_fitted=_loss(validation, weights_M))
    check_writable(out)
    fused = fuse(results, weights_M)
    labelled = fused.labels_N is not None and len(fused.videos) > 0

    def metrics_of(one: Results) -> dict:
        return HRI30Metric.score(one) if labelled else {}

    metrics = metrics_of(fused)
    write_results(out, fused, metrics, submission=any(
        (folder / SUBMISSION).is_file() for folder in folders))
    if labelled:
        write_analysis(out, fused)
    write_report(out)
    content = dict(
        how=weights,
        models=[dict(folder=str(folder), weight=float(weight),
                     top1=metrics_of(one).get('top1'))
                for folder, weight, one in zip(folders, weights_M, results, strict=True)],
        fit=fit)
    atomic_write_text(out / 'weights.json',
                      json.dumps(content, indent=2, allow_nan=False) + '\n')
    return dict(weights=content, metrics=metrics, clips=len(fused.videos), data=fused.data,
                failed=len(fused.failed))


def _loss(results: Sequence[Results], weights_M: np.ndarray) -> float:
    fused = fuse(results, weights_M)
    return HRI30Metric.calculate(fused.scores_NK, fused.labels_N)['loss']


def format_ensemble(summary: dict, out: str | Path) -> str:
    """Lays the summary of :func:`ensemble` out for reading."""
    weights, metrics = summary['weights'], summary['metrics']
    lines = [f'Data: {summary["data"] or "not known"}, {summary["clips"]} clips']
    if summary['failed']:
        lines.append(f'{summary["failed"]} clips more could not be read for one of the '
                     'models: they are marked in predictions.csv, and there is no '
                     'submission')
    if weights['fit']:
        fit = weights['fit']
        lines.append(f'Weights fitted on {fit["clips"]} validation clips: loss '
                     f'{fit["nll_equal"]:.4f} with equal weights, {fit["nll_fitted"]:.4f} '
                     'with these')
    lines.append('weight  top-1   model')
    for model in weights['models']:
        top1 = '   -  ' if model['top1'] is None else f'{model["top1"]:.4f}'
        lines.append(f'{model["weight"]:.4f}  {top1}  {model["folder"]}')
    line = '  '.join(f'{name} {value:.4f}' for name, value in metrics.items()
                     if not name.startswith('num_'))
    lines.append(f'ensemble: {line or "labels not known"}')
    lines += [f'  {file}' for file in sorted(Path(out).expanduser().glob('*.*'))]
    return '\n'.join(lines)
