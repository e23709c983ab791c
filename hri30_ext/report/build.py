"""From results to ``report.html``."""

import base64
import hashlib
import re
from datetime import datetime
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from mmengine.config import Config
from torch import nn

from ..errors import HRI30Error
from ..evaluation.metrics import ClassScores, HRI30Metric
from ..evaluation.results import SCORES, Results
from ..utils.fileio import atomic_write_text
from . import provenance
from .charts import reliability_chart
from .explain import explain_clip
from .frames import read_clip, to_data_uris
from .leaderboard import describe_place

#: The file that is written.
REPORT = 'report.html'

_HERE = Path(__file__).resolve().parent
_CLIPS = 6  # shown of each kind
_MATRIX_CLASSES = 60  # a larger matrix is hard to read and slow to draw
_DATE = '%Y-%m-%d %H:%M'
_ERRORS = (
    ('direction', 'Direction only', 'the opposite or another way, the same tool'),
    ('tool', 'Tool only', 'the same action with another tool, or none'),
    ('direction_and_tool', 'Direction and tool', 'both'),
    ('other', 'Other', 'another action'))
_CERTAINTY = dict(coverage='Holds the true class', size='Classes in a set',
                  single='Set of one class', unknown='Taken for unknown')
_SPLIT_SETTINGS = {'group': ('val_groups', 'seed'), 'random': ('val_ratio', 'seed'),
                   'file': ('train_file', 'val_file'), 'paper': ('number', 'val_groups'),
                   'lists': ('number', 'folder', 'val_groups')}


def write_report(folder: str | Path, results: Results, analysis: dict | None = None, *,
                 cfg: Config | None = None, checkpoint: str | Path | None = None,
                 model: nn.Module | None = None) -> Path:
    """Writes ``report.html``: one file, which needs no other and no network.

    Args:
        folder (str | Path): A result folder that exists, with its ``scores.npz``.
        results (Results): Of its clips.
        analysis (dict, optional): Of :func:`~hri30_ext.evaluation.analysis.analyze`; needed
            for labelled clips.
        cfg (Config, optional): Of the test, resolved. Without it, neither split nor config
            are shown.
        checkpoint (str | Path, optional): What was tested. Its folder, or without one that
            above ``folder``, may have ``training_curves.png``.
        model (nn.Module, optional): The model of ``cfg``, to show where it looked at each
            clip that is shown; see :func:`~hri30_ext.report.explain.explain_clip`.

    Returns:
        Path: The file.

    Raises:
        HRI30Error: a folder that cannot be written.
    """
    folder = Path(folder)
    labelled, galleries = results.labels_N is not None, _choose_clips(results)
    # Testing writes it behind the data.
    subset = next((name for name in ('val', 'test') if results.data.endswith(f', {name}')),
                  '')
    scores = folder / SCORES  # the tool reads a file of another name too
    tested = (scores if scores.is_file() else folder).stat().st_mtime
    training = (Path(checkpoint).expanduser() if checkpoint else folder.resolve()).parent
    text = _render(
        results=results, labelled=labelled, subset=subset, galleries=galleries,
        split=(cfg or {}).get('split') or {},
        robustness=_picture(folder / 'robustness.png', tested),
        early=_picture(folder / 'early.png', tested),
        training=_picture(training / 'training_curves.png'),
        protocol=[*_describe_protocol(results, cfg, subset),
                  ('Checkpoint', Path(checkpoint).name if checkpoint else 'not known'),
                  ('Tested', f'{datetime.fromtimestamp(tested):{_DATE}}'),
                  ('Report written', f'{datetime.now():{_DATE}}')],
        config=cfg.pretty_text if cfg else '', versions=provenance.versions(),
        explain_note=_add_pictures(galleries, results, cfg, model),
        **(_labelled(results, analysis) if labelled else _overview(results)))
    atomic_write_text(folder / REPORT, text)
    return folder / REPORT


def _render(**context) -> str:
    """Fills the template; every text of the context is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True)
    environment.filters['words'] = to_words
    inline = {name: (_HERE / f'report.{name}').read_text('utf-8') for name in ('css', 'js')}
    hashes = {name: 'sha256-' + base64.b64encode(
        hashlib.sha256(text.encode()).digest()).decode() for name, text in inline.items()}
    # Nothing is loaded, and nothing runs but these two texts.
    policy = (f"default-src 'none'; img-src data:; style-src '{hashes['css']}'; "
              f"script-src '{hashes['js']}'; base-uri 'none'; form-action 'none'")
    text = environment.get_template('report.html.j2').render(
        **context, policy=policy, **inline)
    # A file name that is not UTF-8 has lone surrogates, which no file can hold.
    return text.encode('utf-8', 'backslashreplace').decode('utf-8')


def to_words(name: str) -> Markup:
    """Lets a name such as WalkingWithDrill break between its words, and be copied whole.

    >>> str(to_words('Pick<Up'))
    'Pick&lt;<wbr>Up'
    """
    if isinstance(name, Markup):
        return name
    return Markup('<wbr>').join(map(escape, re.split(r'(?<=[^A-Z\s])(?=[A-Z])', name)))


def _picture(path: Path, tested: float = 0) -> str:
    """Returns a chart as a URI; empty without one, or with one that is older than the time
    of the test."""
    if not path.is_file() or path.stat().st_mtime < tested:
        return ''
    return 'data:image/png;base64,' + base64.b64encode(path.read_bytes()).decode()


def _describe_protocol(results: Results, cfg: Config | None, subset: str
                       ) -> list[tuple[str, str]]:
    labelled = results.labels_N is not None
    rows = [('Clips', f'{len(results.videos)}{"" if labelled else ", without labels"}')]
    present = len(np.unique(results.labels_N)) if labelled else len(results.classes)
    rows.append(('Classes', f'{len(results.classes)}' + (
        f', {present} of them among the clips' if present < len(results.classes) else '')))
    if groups := results.known_groups:
        shown = ', '.join(map(str, groups[:20])) + (', ...' if len(groups) > 20 else '')
        rows.append(('Groups', f'{len(groups)} ({shown})'))
    if not labelled:
        return rows
    split = (cfg or {}).get('split')
    if not split:
        return [*rows, ('Split', 'not known: the report was written without a config')]
    kind = str(split.get('type', 'not known'))
    settings = [f'{name}={split[name]}' for name in _SPLIT_SETTINGS.get(kind, ())
                if split.get(name) is not None]
    return [*rows, ('Split', ', '.join([kind, *settings])),
            ('Subset', subset or 'not known'), *describe_place(results, cfg, subset)]


# ---- labelled clips --------------------------------------------------------------------


def _labelled(results: Results, analysis: dict) -> dict:
    """Returns figures, tables and matrix of labelled clips."""
    errors, certainty = analysis['errors'], analysis['certainty']
    error_rows = [
        (Markup('{}<span class="meaning muted">{}</span>').format(name, meaning),
         errors[kind], errors[kind] / max(errors['wrong'], 1))
        for kind, name, meaning in _ERRORS]
    bins = [one for one in analysis['calibration']['bins'] if one['clips']]
    fitted = [key for key in _CERTAINTY if key in certainty]
    return dict(
        analysis, metrics=HRI30Metric.score(results), error_rows=error_rows,
        certainty_columns=[('Group', 'head'),
                           *((_CERTAINTY[key], 'figure') for key in fitted)],
        certainty_rows=[(name, *(part[key] for key in fitted)) for name, part in (
            ('All clips', certainty),
            *((str(group['group']), group) for group in certainty['groups']))],
        chart=reliability_chart(bins),
        bin_rows=[(f'{one["low"]:.2f} to {one["high"]:.2f}', one['confidence'],
                   one['accuracy'], one['clips']) for one in bins], **_per_class(results))


def _per_class(results: Results) -> dict:
    """Returns the rows of the table of classes, and the confusion matrix."""
    scores = ClassScores.of(results)
    wrong_KK = scores.matrix_KK - np.diag(np.diag(scores.matrix_KK))
    rows = []
    for k, (name, most) in enumerate(zip(results.classes, wrong_KK.argmax(axis=1))):
        count = int(wrong_KK[k, most])
        confusion = Markup('{} ({})').format(to_words(results.classes[most]), count)
        rows.append((k + 1, name, *(float(values_K[k]) for values_K in scores[:3]),
                     int(scores.clips_K[k]), confusion if count else '\u2013'))
    errors_K = wrong_KK.sum(axis=0) + wrong_KK.sum(axis=1)
    kept = np.sort(np.argsort(-errors_K, kind='stable')[:_MATRIX_CLASSES])
    # The page draws the cells; the script describes and filters them.
    matrix = dict(names=[results.classes[k] for k in kept], ids=(kept + 1).tolist(),
                  counts=scores.matrix_KK[np.ix_(kept, kept)].tolist(),
                  totals=scores.clips_K[kept].tolist())
    return dict(classes=rows, matrix=matrix, left_out=len(rows) - len(kept))


# ---- clips -----------------------------------------------------------------------------


def _overview(results: Results) -> dict:
    """Summarizes the predictions of clips without labels."""
    counts_K = np.bincount(results.predicted_N, minlength=len(results.classes))
    confidences_N = results.scores_NK.max(axis=1)
    return dict(
        histogram=[(k + 1, results.classes[k], int(counts_K[k]),
                    float(counts_K[k] / counts_K.max())) for k in np.flatnonzero(counts_K)],
        mean_confidence=float(confidences_N.mean()) if len(confidences_N) else 0.,
        unsure=int((confidences_N < .5).sum()))


def _choose_clips(results: Results) -> list[dict]:
    """Returns the galleries: a title, what it shows, and cards of clips."""
    predicted_N, scores_NK = results.predicted_N, results.scores_NK
    confidences_N = scores_NK.max(axis=1)

    def gallery(name, title, indices, text):
        return dict(id=name, title=title, text=text, cards=[
            dict(index=int(i), top=np.argsort(-scores_NK[i], kind='stable')[:5].tolist(),
                 frames=[], overlays=[], note='') for i in indices])

    if results.labels_N is None:
        order = np.argsort(confidences_N, kind='stable')[:_CLIPS]
        return [gallery('uncertain', 'Least certain clips', order,
                        'The highest probability is lowest here.')]
    wrong = np.flatnonzero(predicted_N != results.labels_N)
    confident = wrong[np.argsort(-confidences_N[wrong], kind='stable')][:_CLIPS]
    true_N = scores_NK[np.arange(len(predicted_N)), results.labels_N]
    # A clip is shown once.
    others = np.setdiff1d(np.arange(len(predicted_N)), confident)
    worst = others[np.argsort(true_N[others], kind='stable')][:_CLIPS]
    return [gallery('confident', 'Most confident mistakes', confident,
                    'Wrong, with high confidence.'),
            gallery('worst', 'Lowest probability of the true class', worst,
                    'The true class has the lowest probability, of clips not shown above.')]


def _add_pictures(galleries: list[dict], results: Results, cfg: Config | None,
                  model: nn.Module | None) -> str:
    """Adds frames and overlays to the cards; returns why overlays are missing."""
    reason = ''
    for card in [card for gallery in galleries for card in gallery['cards']]:
        try:
            clip = read_clip(results.filenames[card['index']], cfg)
        except HRI30Error as error:
            card['note'] = 'Not shown: ' + str(error).splitlines()[0]
            continue
        card['frames'] = to_data_uris(clip.frames_THWC, clip.size)
        if cfg is not None and model is not None and not reason:
            frames_THWC, reason = explain_clip(model, clip, card['top'][0])
            if frames_THWC is not None:
                card['overlays'] = to_data_uris(frames_THWC, clip.size)
    return reason
