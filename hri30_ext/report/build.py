"""From a result folder to ``report.html``."""

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
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from ..errors import HRI30Error
from ..evaluation.results import SCORES, Results
from ..utils.curves import is_learning_rate, read_curves
from ..utils.fileio import atomic_write_text
from ..utils.reading import read_json
from . import provenance
from .charts import line_chart, reliability_chart
from .explain import explain_clips
from .frames import read_frames, to_data_uris

#: The file that is written.
REPORT = 'report.html'

_HERE = Path(__file__).resolve().parent
_CLIPS = 6  # shown of each kind
_MATRIX_CLASSES = 60  # a larger matrix is neither read nor quick to draw
_METRICS = (
    ('top1', 'Top-1 accuracy'), ('top5', 'Top-5 accuracy'),
    ('mean_class', 'Mean class accuracy'), ('macro_precision', 'Macro precision'),
    ('macro_recall', 'Macro recall'), ('macro_f1', 'Macro F1'), ('loss', 'Loss (nats)'))
_SPLIT_SETTINGS = {'group': ('val_groups', 'seed'), 'random': ('val_ratio', 'seed'),
                   'file': ('train_file', 'val_file')}


def write_report(folder: str | Path, *, cfg: Config | None = None,
                 checkpoint: str | Path | None = None,
                 training_folder: str | Path | None = None, explain: bool = True) -> Path:
    """Writes ``report.html``: one file, which needs no other and no network.

    Args:
        folder (str | Path): A result folder: ``scores.npz``; for labelled clips
            ``metrics.json``, and ``analysis.json`` where there is one. A part that is
            missing is left out, and the report says so.
        cfg (Config, optional): Of the test, resolved. Without it, the protocol and the
            config are not shown.
        checkpoint (str | Path, optional): What was tested.
        training_folder (str | Path, optional): Has ``training_curves.csv``; by default
            the folder of the checkpoint or of ``folder``, whichever has it.
        explain (bool): Whether to show where the model looked, which takes a forward
            and a backward pass for each clip that is shown, and needs ``cfg`` and
            ``checkpoint``.

    Returns:
        Path: The file.

    Raises:
        HRI30Error: no result folder, or a file of it that is another.
    """
    folder = Path(folder).expanduser()
    results = Results.load(folder)
    folder = folder if folder.is_dir() else folder.parent
    analysis = _read_json(folder / 'analysis.json')
    context = dict(
        data=results.data, embedded='embedded data' in results.data,
        subset=_subset(results, cfg),
        count=len(results.videos), labelled=results.labels_N is not None,
        failed=list(results.failed.items()),
        tested=_date(folder / SCORES), written=datetime.now().strftime('%Y-%m-%d %H:%M'),
        checkpoint=Path(checkpoint).name if checkpoint else '',
        protocol=_describe_protocol(results, cfg), leaks=_leaks(results, cfg),
        curves=_draw_curves(folder, checkpoint, training_folder),
        config=_format_config(cfg), versions=provenance.versions(),
        commit=provenance.commit())
    if results.labels_N is None:
        context.update(_overview(results))
    else:
        context.update(
            headline=_headline(_metrics(folder, results), analysis),
            resampled=_describe_intervals(analysis), **_per_class(results),
            **_breakdowns(analysis), calibration=_calibration(analysis))
    galleries = _choose_clips(results)
    context['galleries'] = galleries
    context['explain_note'] = _add_pictures(
        galleries, results, cfg, checkpoint if explain else None)
    atomic_write_text(folder / REPORT, render(context))
    return folder / REPORT


def render(context: dict) -> str:
    """Fills the template.

    Every text of the context is escaped; what is markup already is made by
    :mod:`.charts`, which escapes as well.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(json=to_json, words=to_words)
    inline = {name: (_HERE / f'report.{name}').read_text(encoding='utf-8')
              for name in ('css', 'js')}
    hashes = {name: 'sha256-' + base64.b64encode(
        hashlib.sha256(text.encode()).digest()).decode() for name, text in inline.items()}
    # Nothing is loaded, and nothing runs but these two texts.
    policy = (f"default-src 'none'; img-src data:; style-src '{hashes['css']}'; "
              f"script-src '{hashes['js']}'; base-uri 'none'; form-action 'none'")
    text = environment.get_template('report.html.j2').render(
        **context, policy=policy, css=Markup(inline['css']), js=Markup(inline['js']))
    # A file name that is not UTF-8 has lone surrogates, which no file can hold.
    return text.encode('utf-8', 'backslashreplace').decode('utf-8')


def to_words(name: str) -> Markup:
    """Lets a name such as WalkingWithDrill break between its words, and be copied whole.

    >>> str(to_words('Pick<Up'))
    'Pick&lt;<wbr>Up'
    """
    return Markup('<wbr>').join(map(escape, re.split(r'(?<=[^A-Z\s])(?=[A-Z])', name)))


def to_json(value) -> Markup:
    """Formats data for a ``<script type="application/json">``.

    >>> str(to_json('</script>'))
    '"\\\\u003c/script\\\\u003e"'
    """
    text = json.dumps(value, separators=(',', ':'))
    for character in '<>&':
        text = text.replace(character, f'\\u{ord(character):04x}')
    return Markup(text)


def _date(path: Path) -> str:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime).strftime('%Y-%m-%d %H:%M')
    except OSError:
        return 'not known'


def _read_json(path: Path) -> dict:
    """Returns the table of a JSON file, empty where there is no file."""
    if not path.is_file():
        return {}
    return read_json(path, 'what tools/test.sh wrote; test again to write it anew, or move '
                     'it aside')


def _number(value) -> float | None:
    """Returns a finite number, or None for anything else."""
    if isinstance(value, int | float) and not isinstance(value, bool) and (
            math.isfinite(value)):
        return float(value)
    return None


def _table(value) -> dict:
    return value if isinstance(value, dict) else {}


def _tables(value) -> list[dict]:
    items = value if isinstance(value, list) else []
    return [one for one in items if isinstance(one, dict)]


def _whole(value) -> int:
    return int(_number(value) or 0)


# ---- the top ---------------------------------------------------------------------------


def _subset(results: Results, cfg: Config | None) -> str:
    # Testing writes it behind the data; the config of a later call may say another.
    subset = results.data.rpartition(', ')[2]
    if subset in ('val', 'test'):
        return subset
    loader = _table((cfg or {}).get('test_dataloader'))
    return str(_table(loader.get('dataset')).get('subset', ''))


def _leaks(results: Results, cfg: Config | None) -> str:
    """Says which part of the protocol leaks, empty where none does."""
    if _table((cfg or {}).get('split')).get('type') != 'random':
        return ''
    if _subset(results, cfg) == 'test':
        return ('split.type is random: validation clips are near-copies of training clips, '
                'so the checkpoint was chosen by scores that leak. These test clips are '
                'others.')
    return ('split.type is random: it leaks. Clips of one group of recordings are '
            'near-copies, they stand on both sides of the split, and scores read 10-20 '
            'points too high.')


def _describe_protocol(results: Results, cfg: Config | None) -> list[tuple[str, str]]:
    groups = np.unique(results.groups_N[results.groups_N >= 0])
    rows = [('Clips', f'{len(results.videos)}' + (
        '' if results.labels_N is not None else ', without labels'))]
    if results.failed:
        rows.append(('Clips that could not be read', f'{len(results.failed)}'))
    classes = f'{len(results.classes)}'
    if results.labels_N is not None:
        present = len(np.unique(results.labels_N))
        if present < len(results.classes):
            classes += f', {present} of them among the clips'
    rows.append(('Classes', classes))
    shown = ', '.join(map(str, groups[:20])) + (', ...' if len(groups) > 20 else '')
    rows.append(('Groups', f'{len(groups)} ({shown})' if len(groups) else 'not known'))
    split = _table((cfg or {}).get('split'))
    if not split:
        return [*rows, ('Split', 'not known: the report was written without a config')]
    kind = str(split.get('type', 'not known'))
    names = _SPLIT_SETTINGS.get(kind, [name for name in split if name != 'type'])
    settings = [f'{name}={split[name]}' for name in names if split.get(name) is not None]
    return [*rows, ('Split', ', '.join([kind, *settings])),
            ('Subset', _subset(results, cfg) or 'not known')]


def _format_config(cfg: Config | None) -> str:
    if cfg is None:
        return ''
    try:
        return cfg.pretty_text
    except Exception:  # yapf cannot format every value
        return json.dumps(cfg.to_dict(), indent=2, default=repr)


def _metrics(folder: Path, results: Results) -> dict:
    metrics = _read_json(folder / 'metrics.json')
    if not metrics and results.videos:
        from ..evaluation.metrics import HRI30Metric
        metrics = HRI30Metric.calculate(results.scores_NK, results.labels_N)
    return metrics


def _headline(metrics: dict, analysis: dict) -> list[dict]:
    intervals = _table(analysis.get('intervals'))
    rows = []
    for name, label in _METRICS:
        value = _number(metrics.get(name))
        if value is None:
            continue
        ends = intervals.get(name)
        ends = [_number(end) for end in ends] if isinstance(ends, list) else []
        if len(ends) != 2 or None in ends:
            ends = None
        rows.append(dict(name=label, value=value, interval=ends))
    return rows


def _describe_intervals(analysis: dict) -> str:
    intervals = _table(analysis.get('intervals'))
    level = _number(intervals.get('level'))
    if level is None:
        return ''
    text = f'{100 * level:g} % intervals: '
    resamples = _whole(intervals.get('resamples'))
    times = f' {resamples} times' if resamples else ''
    if intervals.get('unit') == 'groups':
        return f'{text}whole groups of recordings resampled{times}.'
    return (f'{text}single clips resampled{times}. Clips of a group are alike, so the '
            'truth is less certain than these say.')


# ---- classes ---------------------------------------------------------------------------


def _per_class(results: Results) -> dict:
    """Returns the rows of the table of classes, and the confusion matrix."""
    num_classes = len(results.classes)
    matrix_KK = confusion_matrix(results.labels_N, results.predicted_N,
                                 labels=range(num_classes))
    columns = precision_recall_fscore_support(
        results.labels_N, results.predicted_N, labels=range(num_classes), zero_division=0)
    wrong_KK = matrix_KK - np.diag(np.diag(matrix_KK))
    rows = []
    for k, (precision, recall, f1, clips) in enumerate(zip(*columns, strict=True)):
        most = int(wrong_KK[k].argmax())
        count = int(wrong_KK[k, most])
        rows.append(dict(
            id=k + 1, name=results.classes[k], precision=float(precision),
            recall=float(recall), f1=float(f1), clips=int(clips),
            confusion=results.classes[most] if count else '', count=count))
    kept = np.arange(num_classes)
    if num_classes > _MATRIX_CLASSES:
        errors_K = wrong_KK.sum(axis=0) + wrong_KK.sum(axis=1)
        kept = np.sort(np.argsort(-errors_K, kind='stable')[:_MATRIX_CLASSES])
    totals_K = matrix_KK.sum(axis=1)
    matrix = dict(
        classes=[dict(id=int(k) + 1, name=results.classes[k]) for k in kept],
        left_out=num_classes - len(kept),
        rows=[[dict(count=int(matrix_KK[i, j]), share=share,
                    # 0 for none; 1 to 10 is the colour.
                    shade=math.ceil(10 * share - 1e-9))
               for j in kept for share in [float(matrix_KK[i, j] / max(totals_K[i], 1))]]
              for i in kept])
    # What the script needs to describe a cell and to filter.
    data = dict(names=[one['name'] for one in matrix['classes']],
                ids=[one['id'] for one in matrix['classes']],
                counts=matrix_KK[np.ix_(kept, kept)].tolist(),
                totals=totals_K[kept].tolist(), largest=int(matrix_KK.max(initial=0)))
    return dict(classes=rows, matrix=matrix, matrix_data=data)


def _breakdowns(analysis: dict) -> dict:
    errors = _table(analysis.get('errors'))
    parts = [('Direction only', 'the opposite or another way, the same tool', 'direction'),
             ('Tool only', 'the same action with another tool, or none', 'tool'),
             ('Direction and tool', 'both', 'direction_and_tool'),
             ('Other', 'another action', 'other')]
    wrong = _whole(errors.get('wrong'))
    clips = _whole(errors.get('clips'))
    rows = [dict(name=name, meaning=meaning, clips=_whole(errors.get(key)),
                 share=min(_whole(errors.get(key)) / wrong, 1.) if wrong > 0 else 0.)
            for name, meaning, key in parts if _number(errors.get(key)) is not None]
    kinds = [dict(name=str(one.get('name', '')), classes=_whole(one.get('classes')),
                  clips=_whole(one.get('clips')), top1=_number(one.get('top1')),
                  mean_class=_number(one.get('mean_class')))
             for one in _tables(analysis.get('kinds'))]
    groups = [dict(group=str(one.get('group', '')), clips=_whole(one.get('clips')),
                   top1=_number(one.get('top1')))
              for one in _tables(analysis.get('groups'))]
    return dict(errors=dict(clips=clips, wrong=wrong, rows=rows), kinds=kinds,
                groups=groups)


def _calibration(analysis: dict) -> dict:
    found = _table(analysis.get('calibration'))
    bins = []
    for one in _tables(found.get('bins')):
        entry = {name: _number(one.get(name))
                 for name in ('low', 'high', 'confidence', 'accuracy')}
        entry['clips'] = _whole(one.get('clips'))
        if entry['clips'] > 0 and None not in entry.values():
            bins.append(entry)
    names = ('ece', 'nll', 'temperature', 'ece_scaled', 'nll_scaled')
    return dict({name: _number(found.get(name)) for name in names}, bins=bins,
                chart=reliability_chart(bins) if bins else '')


# ---- training --------------------------------------------------------------------------


def _draw_curves(folder: Path, checkpoint: str | Path | None,
                 training_folder: str | Path | None) -> dict:
    """Returns charts of the training, none where its curves are not found."""
    if training_folder is not None:
        places = [Path(training_folder).expanduser()]
    else:
        places = [folder.resolve().parent]
        if checkpoint is not None:
            places.insert(0, Path(checkpoint).expanduser().resolve().parent)
    path = next((place / 'training_curves.csv' for place in places
                 if (place / 'training_curves.csv').is_file()), None)
    if path is None:
        return dict(charts=[], summary='')
    history = [point for point in read_curves(path) if 'epoch' in point]

    def line(column):
        return [(point['epoch'], point[column]) for point in history
                if math.isfinite(point.get(column, math.nan))]

    charts = []
    for name, label, limits in (('loss', 'Loss', None), ('top1', 'Top-1 accuracy', (0, 1))):
        series = [(side, line(f'{column}_{name}')) for side, column in
                  (('Training', 'train'), ('Validation', 'val'))]
        charts.append((label, series, limits))
    rates = dict.fromkeys(name for point in history for name in point
                          if is_learning_rate(name))
    charts.append(('Learning rate', [('all' if name == 'lr' else name.removesuffix('_lr'),
                                      line(name)) for name in rates], None))
    drawn = []
    for label, series, limits in charts:
        series = [(name, points) for name, points in series if points]
        if series:
            drawn.append(dict(name=label, legend=[name for name, _ in series],
                              svg=line_chart(label, series, 'Epoch', limits)))
    last = history[-1] if history else {}
    summary = f'{last["epoch"]} epochs' if last else ''
    if last and math.isfinite(last.get('minutes', math.nan)):
        summary += f' in {last["minutes"]:.1f} minutes'
    return dict(charts=drawn, summary=summary)


# ---- clips -----------------------------------------------------------------------------


def _overview(results: Results) -> dict:
    """What can be said of clips without labels."""
    counts_K = np.bincount(results.predicted_N, minlength=len(results.classes))
    most = max(int(counts_K.max(initial=0)), 1)
    confidences_N = results.scores_NK.max(axis=1)
    return dict(
        histogram=[dict(id=k + 1, name=name, clips=int(counts_K[k]),
                        share=float(counts_K[k] / most))
                   for k, name in enumerate(results.classes)],
        confidence=dict(mean=float(confidences_N.mean()) if len(confidences_N) else 0.,
                        unsure=int((confidences_N < .5).sum())))


def _choose_clips(results: Results) -> list[dict]:
    """Returns the galleries: a title, what it shows, and cards of clips."""
    predicted_N, scores_NK = results.predicted_N, results.scores_NK
    confidences_N = scores_NK.max(axis=1)

    def cards(indices):
        return [_card(results, int(i)) for i in indices]

    if results.labels_N is None:
        order = np.argsort(confidences_N, kind='stable')[:_CLIPS]
        return [dict(id='uncertain', title='Least certain clips', cards=cards(order),
                     text='Where the highest probability is lowest.',
                     none='There are no clips.')]
    wrong = np.flatnonzero(predicted_N != results.labels_N)
    confident = wrong[np.argsort(-confidences_N[wrong], kind='stable')][:_CLIPS]
    true_N = scores_NK[np.arange(len(predicted_N)), results.labels_N]
    worst = np.argsort(true_N, kind='stable')[:_CLIPS]
    # A clip is shown once.
    again = np.isin(worst, confident)
    text = 'Where the true class has the lowest probability.'
    if again.any():
        text += (f' {again.sum()} of the {len(worst)} lowest '
                 f'{"stands" if again.sum() == 1 else "stand"} above already.')
    return [
        dict(id='confident', title='Most confident mistakes', cards=cards(confident),
             text='Wrong, and sure of it.', none='No clip was given a wrong class.'),
        dict(id='worst', title='Lowest probability of the true class',
             cards=cards(worst[~again]), text=text,
             none='' if again.any() else 'There are no clips.')]


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
                  checkpoint: str | Path | None) -> str:
    """Adds frames and overlays to the cards; returns why overlays are missing."""
    cards = [card for gallery in galleries for card in gallery['cards']]
    shapes = {}
    for card in cards:
        filename = results.filenames[card['index']]
        if not filename:
            card['note'] = 'Not shown: where the clip lies was not recorded.'
            continue
        try:
            frames_THWC = read_frames(filename, cfg)
        except HRI30Error as error:
            card['note'] = 'Not shown: ' + str(error).splitlines()[0]
            continue
        card['frames'] = to_data_uris(frames_THWC)
        shapes[card['index']] = frames_THWC.shape[1:3]
    if cfg is None or checkpoint is None:
        return ''
    readable = [card for card in cards if card['index'] in shapes]
    try:
        overlays, reason = explain_clips(
            cfg, checkpoint,
            [str(Path(results.filenames[card['index']]).resolve()) for card in readable],
            [card['predicted_label'] for card in readable])
    except HRI30Error as error:
        # The report is of results that are there; a checkpoint may have gone since.
        return f'Where the model looked is not shown: {str(error).splitlines()[0]}'
    for card, frames_THWC in zip(readable, overlays, strict=True):
        if frames_THWC is not None:
            card['overlays'] = to_data_uris(
                frames_THWC, _shown_shape(frames_THWC, shapes[card['index']], cfg))
    return reason


def _shown_shape(frames_THWC: np.ndarray, clip_HW: tuple[int, int],
                 cfg: Config) -> tuple[int, int]:
    """Returns the height and width to show overlays at.

    A whole frame that was squeezed to the input size is shown in the clip's own aspect
    ratio, as the frame above it is; a crop keeps its own.
    """
    if not any('Crop' in step['type'] for step in cfg.test_pipeline):
        return clip_HW
    height, width = frames_THWC.shape[1:3]
    return clip_HW[0], max(1, round(clip_HW[0] * width / height))
