"""From results to ``report.html``."""

import base64
import hashlib
import json
import math
import re
from datetime import datetime
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from mmengine.config import Config
from torch import nn

from ..errors import HRI30Error
from ..evaluation.corruptions import ROBUSTNESS
from ..evaluation.early import EARLY
from ..evaluation.metrics import ClassScores, HRI30Metric
from ..evaluation.results import SCORES, Results
from ..utils.curves import is_learning_rate, read_curves
from ..utils.fileio import atomic_write_text
from . import provenance
from .charts import line_chart, reliability_chart
from .explain import explain_clips
from .frames import ShownClip, read_clip, to_data_uris
from .leaderboard import describe_place

#: The file that is written.
REPORT = 'report.html'

_HERE = Path(__file__).resolve().parent
_CLIPS = 6  # shown of each kind
_MATRIX_CLASSES = 60  # a larger matrix is hard to read and slow to draw
_DATE = '%Y-%m-%d %H:%M'
_LABELLED_SECTIONS = [(name.lower(), name) for name in (
    'Figures', 'Classes', 'Confusion', 'Breakdown', 'Calibration')]
_METRICS = (
    ('top1', 'Top-1 accuracy'), ('top5', 'Top-5 accuracy'),
    ('mean_class', 'Mean class accuracy'), ('macro_precision', 'Macro precision'),
    ('macro_recall', 'Macro recall'), ('macro_f1', 'Macro F1'), ('loss', 'Loss (nats)'))
_ERRORS = (
    ('direction', 'Direction only', 'the opposite or another way, the same tool'),
    ('tool', 'Tool only', 'the same action with another tool, or none'),
    ('direction_and_tool', 'Direction and tool', 'both'),
    ('other', 'Other', 'another action'))
_CERTAINTY = (('coverage', 'Holds the true class'), ('size', 'Classes in a set'),
              ('single', 'Set of one class'), ('unknown', 'Taken for unknown'))
_SPLIT_SETTINGS = {'group': ('val_groups', 'seed'), 'random': ('val_ratio', 'seed'),
                   'file': ('train_file', 'val_file'), 'paper': ('number', 'val_groups'),
                   'lists': ('number', 'folder', 'val_groups')}


def write_report(folder: str | Path, results: Results, analysis: dict | None = None, *,
                 cfg: Config | None = None, checkpoint: str | Path | None = None,
                 training_folder: str | Path | None = None,
                 model: nn.Module | None = None) -> Path:
    """Writes ``report.html``: one file, which needs no other and no network.

    Args:
        folder (str | Path): A result folder that exists.
        results (Results): Of its clips.
        analysis (dict, optional): Of :func:`~hri30_ext.evaluation.analysis.analyze`; needed
            for labelled clips.
        cfg (Config, optional): Of the test, resolved. Without it, neither split nor config
            are shown.
        checkpoint (str | Path, optional): What was tested.
        training_folder (str | Path, optional): Has ``training_curves.csv``; by default
            the folder of the checkpoint or the one above ``folder``.
        model (nn.Module, optional): The model of ``cfg``, to show where it looked at each
            clip that is shown; see :func:`~hri30_ext.report.explain.explain_clips`.

    Returns:
        Path: The file.

    Raises:
        HRI30Error: curves that cannot be read, or a folder that cannot be written.
    """
    folder = Path(folder)
    galleries = _choose_clips(results)
    context = dict(
        data=results.data, embedded='embedded data' in results.data,
        subset=_subset(results, cfg), count_clips=len(results.videos),
        labelled=results.labels_N is not None, failed=list(results.failed.items()),
        protocol=[*_describe_protocol(results, cfg),
                  ('Checkpoint', Path(checkpoint).name if checkpoint else 'not known'),
                  ('Tested', _date(folder / SCORES)),
                  ('Report written', datetime.now().strftime(_DATE))],
        leaks=_leaks(results, cfg),
        curves=_draw_curves(folder, checkpoint, training_folder),
        robustness=_picture(folder, ROBUSTNESS), early=_picture(folder, EARLY),
        config=_format_config(cfg), versions=provenance.versions(), galleries=galleries,
        explain_note=_add_pictures(galleries, results, cfg, model))
    context.update(_overview(results) if results.labels_N is None
                   else _labelled(results, analysis))
    context['sections'] = [
        *(_LABELLED_SECTIONS if context['labelled'] else [('predictions', 'Predictions')]),
        *((name, title) for name, title in (
            ('robustness', 'Robustness'), ('early', 'Early recognition'))
          if context[name]),
        ('training', 'Training'), *((one['id'], one['title']) for one in galleries),
        *([('failed', 'Not read')] if results.failed else []), ('made', 'Made with')]
    atomic_write_text(folder / REPORT, render(context))
    return folder / REPORT


def render(context: dict) -> str:
    """Fills the template; every text of the context is escaped."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(json=to_json, words=to_words)
    inline = {name: Markup((_HERE / f'report.{name}').read_text('utf-8'))  # nosec B704
              for name in ('css', 'js')}  # files of this package
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


def to_json(value) -> Markup:
    """Formats data for a ``<script type="application/json">``.

    >>> str(to_json('</script>'))
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(value, separators=(',', ':'))
    for character in '<>&':
        text = text.replace(character, f'\\u{ord(character):04x}')
    return Markup(text)  # nosec B704


def _date(path: Path) -> str:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime).strftime(_DATE)
    except OSError:
        return 'not known'


# ---- the top ---------------------------------------------------------------------------


def _subset(results: Results, cfg: Config | None) -> str:
    # Testing writes it behind the data; the config of a later call may name another.
    subset = results.data.rpartition(', ')[2]
    if subset in ('val', 'test'):
        return subset
    return str(cfg.test_dataloader.dataset.get('subset', '')) if cfg else ''


def _leaks(results: Results, cfg: Config | None) -> str:
    """Describes how the protocol leaks, empty if it does not."""
    if ((cfg or {}).get('split') or {}).get('type') != 'random':
        return ''
    if _subset(results, cfg) == 'test':
        return ('split.type is random: validation clips are near-copies of training clips, '
                'so the checkpoint was chosen by scores that leak. These test clips are '
                'others.')
    return ('split.type is random: it leaks. Clips of one group of recordings are '
            'near-copies, they stand on both sides of the split, and scores read 10-20 '
            'points too high.')


def _describe_protocol(results: Results, cfg: Config | None) -> list[tuple[str, str]]:
    labelled = results.labels_N is not None
    rows = [('Clips', f'{len(results.videos)}{"" if labelled else ", without labels"}')]
    if results.failed:
        rows.append(('Clips that could not be read', f'{len(results.failed)}'))
    present = len(np.unique(results.labels_N)) if labelled else len(results.classes)
    rows.append(('Classes', f'{len(results.classes)}' + (
        f', {present} of them among the clips' if present < len(results.classes) else '')))
    groups = np.unique(results.groups_N[results.groups_N >= 0])
    if len(groups):
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
            ('Subset', _subset(results, cfg) or 'not known'),
            *describe_place(results, cfg, _subset(results, cfg))]


def _format_config(cfg: Config | None) -> str:
    if cfg is None:
        return ''
    try:
        return cfg.pretty_text
    except Exception:  # yapf cannot format every value
        return json.dumps(cfg.to_dict(), indent=2, default=repr)


def _picture(folder: Path, name: str) -> str:
    """Returns the chart of an analysis as a URI; empty without one."""
    picture, scores = folder / name, folder / SCORES
    # An older one is of an earlier result.
    if not picture.is_file() or picture.stat().st_mtime < scores.stat().st_mtime:
        return ''
    return 'data:image/png;base64,' + base64.b64encode(picture.read_bytes()).decode()


# ---- labelled clips --------------------------------------------------------------------


def _labelled(results: Results, analysis: dict) -> dict:
    """Returns figures, tables and matrix of labelled clips."""
    metrics, intervals = HRI30Metric.score(results), analysis['intervals']
    resampled = (f'{100 * intervals["level"]:g} % intervals: '
                 + ('whole groups of recordings' if intervals['unit'] == 'groups'
                    else 'single clips')
                 + f' resampled {intervals["resamples"]} times.')
    if intervals['unit'] == 'clips':
        resampled += (' Clips of a group are alike, so the truth is less certain than '
                      'these say.')
    errors = analysis['errors']
    error_rows = [
        (Markup('{}<span class="meaning muted">{}</span>').format(name, meaning),
         errors[kind], errors[kind] / max(errors['wrong'], 1))
        for kind, name, meaning in _ERRORS]
    calibration = analysis['calibration']
    bins = [one for one in calibration['bins'] if one['clips']]
    suffixes = {'': 'As it is'}
    if calibration['temperature'] is not None:
        suffixes['_scaled'] = f'Temperature {calibration["temperature"]:.2f}'
    certainty = analysis['certainty']
    fitted = [(key, name) for key, name in _CERTAINTY if key in certainty]
    return dict(
        certainty=certainty,
        certainty_columns=[('Group', 'head'), *((name, 'figure') for _, name in fitted)],
        certainty_rows=[(name, *(part[key] for key, _ in fitted)) for name, part in (
            ('All clips', certainty),
            *((str(group['group']), group) for group in certainty['groups']))],
        headline=[(label, metrics[name], intervals.get(name)) for name, label in _METRICS],
        resampled=resampled, errors=errors, error_rows=error_rows,
        kinds=[tuple(row.values()) for row in analysis['kinds']],
        groups=[tuple(row.values()) for row in analysis['groups']],
        calibration=calibration, chart=reliability_chart(bins),
        calibration_columns=[
            ('', 'head'), *((name, 'figure') for name in suffixes.values())],
        calibration_rows=[
            (name, *(calibration[key + suffix] for suffix in suffixes))
            for key, name in (('ece', 'Expected calibration error'),
                              ('nll', 'Negative log-likelihood'))],
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


# ---- training --------------------------------------------------------------------------


def _draw_curves(folder: Path, checkpoint: str | Path | None,
                 training_folder: str | Path | None) -> dict:
    """Returns charts of the training, none if its curves are not found."""
    if training_folder is not None:
        places = [Path(training_folder).expanduser()]
    else:
        places = [Path(checkpoint).expanduser().resolve().parent] if checkpoint else []
        places.append(folder.resolve().parent)
    path = next((place / 'training_curves.csv' for place in places
                 if (place / 'training_curves.csv').is_file()), None)
    history = [point for point in read_curves(path) if 'epoch' in point] if path else []
    if not history:
        return dict(charts=[], summary='')

    def lines(**columns):
        found = {label: [(point['epoch'], point[name]) for point in history
                         if math.isfinite(point.get(name, math.nan))]
                 for label, name in columns.items()}
        return {label: points for label, points in found.items() if points}

    rates = {'all' if name == 'lr' else name.removesuffix('_lr'): name
             for point in history for name in point if is_learning_rate(name)}
    charts = [
        ('Loss', lines(Training='train_loss', Validation='val_loss'), None),
        ('Top-1 accuracy', lines(Training='train_top1', Validation='val_top1'), (0, 1)),
        ('Learning rate', lines(**rates), None)]
    summary = f'{history[-1]["epoch"]} epochs'
    if math.isfinite(history[-1].get('minutes', math.nan)):
        summary += f' in {history[-1]["minutes"]:.1f} minutes'
    return dict(summary=summary, charts=[
        line_chart(name, series, limits) for name, series, limits in charts if series])


# ---- clips -----------------------------------------------------------------------------


def _overview(results: Results) -> dict:
    """Summarizes the predictions of clips without labels."""
    counts_K = np.bincount(results.predicted_N, minlength=len(results.classes))
    confidences_N = results.scores_NK.max(axis=1)
    return dict(
        histogram=[(k + 1, results.classes[k], int(counts_K[k]),
                    float(counts_K[k] / counts_K.max())) for k in np.flatnonzero(counts_K)],
        confidence=dict(mean=float(confidences_N.mean()) if len(confidences_N) else 0.,
                        unsure=int((confidences_N < .5).sum())))


def _choose_clips(results: Results) -> list[dict]:
    """Returns the galleries: a title, what it shows, and cards of clips."""
    predicted_N, scores_NK = results.predicted_N, results.scores_NK
    confidences_N = scores_NK.max(axis=1)

    def gallery(name, title, indices, text, none):
        return dict(id=name, title=title, text=text, none=none,
                    cards=[_card(results, int(i)) for i in indices])

    if results.labels_N is None:
        order = np.argsort(confidences_N, kind='stable')[:_CLIPS]
        return [gallery('uncertain', 'Least certain clips', order,
                        'The highest probability is lowest here.', 'There are no clips.')]
    wrong = np.flatnonzero(predicted_N != results.labels_N)
    confident = wrong[np.argsort(-confidences_N[wrong], kind='stable')][:_CLIPS]
    true_N = scores_NK[np.arange(len(predicted_N)), results.labels_N]
    worst = np.argsort(true_N, kind='stable')[:_CLIPS]
    # A clip is shown once.
    again = np.isin(worst, confident)
    text = 'The true class has the lowest probability here.'
    if again.any():
        text += f' {again.sum()} of the {len(worst)} lowest are shown above.'
    return [gallery('confident', 'Most confident mistakes', confident,
                    'Wrong, with high confidence.', 'No clip was given a wrong class.'),
            gallery('worst', 'Lowest probability of the true class', worst[~again], text,
                    '' if again.any() else 'There are no clips.')]


def _card(results: Results, i: int) -> dict:
    scores_K = results.scores_NK[i]
    predicted = int(scores_K.argmax())
    label = None if results.labels_N is None else int(results.labels_N[i])
    top = np.argsort(-scores_K, kind='stable')[:5]
    return dict(
        index=i, video=results.videos[i], predicted=results.classes[predicted],
        predicted_label=predicted, confidence=float(scores_K[predicted]),
        true=None if label is None else results.classes[label],
        true_score=None if label is None else float(scores_K[label]),
        right=label == predicted, group=int(results.groups_N[i]),
        top=[dict(name=results.classes[k], score=float(scores_K[k]),
                  true=k == label) for k in top],
        frames=[], overlays=[], note='')


def _add_pictures(galleries: list[dict], results: Results, cfg: Config | None,
                  model: nn.Module | None) -> str:
    """Adds frames and overlays to the cards; returns why overlays are missing."""
    shown: list[tuple[dict, ShownClip]] = []
    for card in [card for gallery in galleries for card in gallery['cards']]:
        try:
            clip = read_clip(results.filenames[card['index']], cfg)
        except HRI30Error as error:
            card['note'] = 'Not shown: ' + str(error).splitlines()[0]
            continue
        card['frames'] = to_data_uris(clip.frames_THWC, clip.size)
        shown.append((card, clip))
    if cfg is None or model is None:
        return ''
    overlays, reason = explain_clips(model, [clip for _, clip in shown],
                                     [card['predicted_label'] for card, _ in shown])
    for (card, clip), frames_THWC in zip(shown, overlays, strict=True):
        if frames_THWC is not None:
            card['overlays'] = to_data_uris(frames_THWC, clip.size)
    return reason
