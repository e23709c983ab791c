"""From a checkpoint to a folder that runs without torch and MMAction2.

Shapes: N clips, V views of a clip, T frames of a view, H height, W width, K classes.
"""

import contextlib
import importlib.metadata
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from tqdm import tqdm

from .. import modules  # noqa: F401  (first: it fixes what the others import)
from ..datasets.hri30 import list_split
from ..errors import HRI30Error
from ..evaluation.calibration import load_certainty
from ..utils.fileio import atomic_write_json, sha256_of
from ..utils.text import format_table
from ..video.decode import call, read_clip
from ..video.preprocessing import Preprocessing
from ..video.sandbox import IsolatedProcess
from .runtime.backends import CLIP_STAGE, FRAME_STAGE, WHOLE, Backend, import_package
from .runtime.exported import FORMATS, INFO_NAME, SUFFIXES, ModelInfo, load
from .torch_backend import TorchBackend

#: float32: the largest difference of a class probability, of any clip.
MAX_DIFFERENCE = 1e-4

#: Other precisions: the largest shift of the scores, the mean over clips of half the sum of
#: absolute differences, in [0, 1]: the share of the probability that has moved. It catches
#: what the number of correct clips cannot: few clips, or a model that is often wrong.
MAX_SHIFT = {'fp16': 0.01, 'bf16': 0.05, 'int8': 0.1}



def export(cfg: Config, checkpoint: str | Path, format: str, precision: str,
           out: str | Path, data: str, calibration_clips: int = 128) -> ModelInfo:
    """Exports a checkpoint, and keeps it only if it agrees with the trained model.

    Args:
        cfg (Config): The config, prepared for testing.
        checkpoint (str | Path): Its weights.
        format (str): ``onnx`` or ``openvino``.
        precision (str): Of this format, in
            :data:`~hri30_ext.deploy.runtime.exported.FORMATS`.
        out (str | Path): The folder; an exported model is replaced as a whole.
        data (str): Names the data, for the record.
        calibration_clips (int): For int8: number of training clips, at most, on which the
            ranges of values are calibrated.

    Raises:
        HRI30Error: an invalid argument, or scores that differ too much from those of the
            trained model. Nothing is written then, and an existing folder stays.
    """
    if precision not in FORMATS.get(format, ()):
        pairs = '; '.join(f'{name}: {", ".join(known)}' for name, known in FORMATS.items())
        raise HRI30Error(f'--format {format} --precision {precision}: not supported.\n'
                         f'Expected one of {pairs}.')
    if cfg.get('test_flip'):
        raise HRI30Error('test_flip=True: an exported model does not see the mirrored '
                         'clip.\nSet test_flip=False.')
    out = _check_target(out)
    preprocessing = Preprocessing.from_config(cfg)
    model = TorchBackend(cfg, checkpoint, get_device())
    info = ModelInfo(
        classes=tuple(cfg.classes), preprocessing=preprocessing, format=format,
        precision=precision, files={part: part + SUFFIXES[format] for part in model.parts},
        hints=dict(FORMATS[format][precision]),
        window_seconds=measure_window_seconds(cfg, preprocessing),
        **load_certainty(checkpoint), source=dict(
            config=Path(cfg.filename).name, data=data,
            checkpoint_sha256=sha256_of(Path(checkpoint).expanduser())),
        versions={name: importlib.metadata.version(name)
                  for name in ('hri30_ext', 'torch', 'mmaction2', format)})
    calibration = (_read_calibration_clips(cfg, preprocessing, calibration_clips)
                   if precision == 'int8' else None)
    with _built_beside(out) as folder:
        _write_graphs(model, info, folder, calibration)
        atomic_write_json(folder / INFO_NAME, msgspec.to_builtins(info))
        parity = dict(data=f'{data}, val', **_measure_parity(
            model, load(folder)[1], preprocessing,
            list_split(cfg.test_dataloader, subset='val')))
        info = msgspec.structs.replace(info, parity=parity)
        print(format_parity(info), file=sys.stderr)
        _check_parity(info)
        atomic_write_json(folder / INFO_NAME, msgspec.to_builtins(info))
        atomic_write_json(folder / 'parity.json', parity)
    return info


def _read_calibration_clips(cfg: Config, preprocessing: Preprocessing, most: int
                            ) -> list[np.ndarray]:
    """Reads one view, (1, T, H, W, 3), of some training clips."""
    clips = list_split(cfg.test_dataloader, subset='train')
    # Evenly over the sorted list: of all classes and groups.
    chosen = np.unique(np.linspace(0, len(clips) - 1, min(most, len(clips))).round())
    views = [views_VTHWC[:1] for _, views_VTHWC in _read(tqdm(
        [clips[int(i)] for i in chosen], desc='calibration clips'), preprocessing)]
    if not views:
        raise HRI30Error('no training clip can be read to calibrate int8 on.\nExpected '
                         'the training clips; see data_root and split in the config.')
    return views


def _read(clips: Iterable[Mapping], preprocessing: Preprocessing
          ) -> Iterator[tuple[Mapping, np.ndarray]]:
    """Yields clips and their views; names those that cannot be read, and goes on."""
    for clip in clips:
        try:
            views_VTHWC = read_clip(clip['filename'], preprocessing)
        except HRI30Error as error:
            print(f'warning: left out: {error}', file=sys.stderr)
        else:
            yield clip, views_VTHWC


def _check_target(out: str | Path) -> Path:
    out = Path(out).expanduser().resolve()
    if out.exists() and not (out / INFO_NAME).is_file() and (
            not out.is_dir() or any(out.iterdir())):
        raise HRI30Error(f'{out}: is or holds other files, and an export replaces its '
                         'folder.\nName a new folder with --out, or an exported model.')
    return out


def measure_window_seconds(cfg: Config, preprocessing: Preprocessing) -> float | None:
    """Measures the median length of the training clips, from the headers of the files.

    Returns:
        float | None: Seconds, at least the span of the sampled frames; None with a warning
        if there are no training clips.
    """
    try:
        clips = list_split(cfg.test_dataloader, subset='train')
    except HRI30Error as error:
        print(f'warning: the length of training clips is not known: {error}\nStreams will '
              'need --window-seconds.', file=sys.stderr)
        return None
    lengths = []
    with IsolatedProcess() as process:
        for clip in tqdm(clips, desc='lengths of training clips', leave=False):
            file = os.path.abspath(clip['filename'])
            with contextlib.suppress(HRI30Error):  # a broken clip; training reports it
                lengths.append(call(process, file, 'read_seconds', file)[0])
    lengths = [*filter(None, lengths)]
    if not lengths:
        return None
    return round(max(float(np.median(lengths)), preprocessing.span_seconds), 4)


# ---- Graphs -----------------------------------------------------------------------------


def _write_graphs(model: TorchBackend, info: ModelInfo, folder: Path,
                  calibration: Sequence[np.ndarray] | None) -> None:
    """Converts all parts of a model, through ONNX, which OpenVINO reads itself."""
    width, height = info.preprocessing.size
    noise_N1THWC = np.random.default_rng(0).integers(
        0, 256, (2, 1, info.preprocessing.num_frames, height, width, 3), np.uint8)
    # From a view of a clip to inputs of a part. Features are computed when they are needed:
    # those of all clips are ten times as large as the clips.
    feeds = {WHOLE: lambda clip_1THWC: clip_1THWC,
             FRAME_STAGE: lambda clip_1THWC: clip_1THWC[0],
             CLIP_STAGE: lambda clip_1THWC: model.frame_features(clip_1THWC[0])[None]}
    convert = _to_openvino if info.format == 'openvino' else _finish_onnx
    with torch.no_grad(), warnings.catch_warnings():
        # Tracing warns of every shape that it reads. The batch is not among them: the
        # comparison uses several batch sizes.
        warnings.simplefilter('ignore')
        for part, module in tqdm(model.parts.items(), desc='graphs'):
            path = folder / f'{part}.onnx'
            _trace(module, np.concatenate([*map(feeds[part], noise_N1THWC)]), path)
            convert(path, info.precision, calibration, feeds[part])


def _trace(module: torch.nn.Module, example: np.ndarray, path: Path) -> None:
    """Writes a module as an ONNX graph for any batch; ``example`` are two inputs or more.
    """
    example = torch.from_numpy(example)
    module.cpu()(example)  # what a model computes once, and keeps, is not traced
    # The exporter that traces: the other one needs onnxscript, and fixes the batch size
    # where mmaction2 reshapes by it.
    try:
        torch.onnx.export(
            module, (example, ), str(path), dynamo=False, opset_version=17,
            input_names=['inputs'], output_names=['outputs'],
            dynamic_axes={'inputs': {0: 'batch'}, 'outputs': {0: 'batch'}})
    except torch.onnx.errors.OnnxExporterError as error:
        recognizer = getattr(module, 'recognizer', module)
        names = ', '.join(type(part).__name__ for part in recognizer.children())
        raise HRI30Error(f'a model of {names} cannot be exported: '
                         f'{str(error).splitlines()[0][:300]}.\nUse its checkpoint.'
                         ) from error


def _finish_onnx(path: Path, precision: str, clips: Sequence[np.ndarray] | None,
                 feed: Callable) -> None:
    if precision == 'int8':
        onnx = import_package('onnx')
        onnx.save(_quantize(onnx.load(path), clips, lambda clip: {'inputs': feed(clip)}),
                  path)


def _to_openvino(path: Path, precision: str, clips: Sequence[np.ndarray] | None,
                 feed: Callable) -> None:
    openvino = import_package('openvino')
    converted = openvino.Core().read_model(path)
    if precision == 'int8':
        converted = _quantize(converted, clips, feed)
    try:
        openvino.save_model(converted, path.with_suffix('.xml'),
                            compress_to_fp16=precision == 'fp16')
    except RuntimeError as error:  # it only says "iostream error"
        raise OSError('the disk may be full') from error
    path.unlink()


def _quantize(model, clips: Sequence[np.ndarray], feed: Callable):
    """Quantizes to int8 by the ranges of values in clips, which ``feed`` makes inputs."""
    os.environ.setdefault('NNCF_CI', '1')  # read on import: no telemetry
    nncf = import_package('nncf')
    nncf.set_log_level(logging.ERROR)
    dataset = nncf.Dataset(clips, feed)
    # Its progress bars do not belong to the output.
    with contextlib.redirect_stdout(sys.stderr):
        return nncf.quantize(model, dataset, subset_size=len(clips))


# ---- Parity -----------------------------------------------------------------------------


def _measure_parity(reference: TorchBackend, exported: Backend,
                    preprocessing: Preprocessing, clips: Sequence[Mapping]) -> dict:
    """Compares scores on the clips of a split, read as users read them.

    Returns figures of the whole model, and of the two stages if there are any, against the
    trained model in float32.
    """
    models = {'reference': reference, 'whole': exported}
    if exported.splittable:
        models['stages'] = lambda clips_NTHWC: exported.clip_scores(
            np.stack([exported.frame_features(clip) for clip in clips_NTHWC]))
    rows, labels = {name: [] for name in models}, []
    for clip, views_VTHWC in _read(tqdm(clips, desc='comparing on validation clips'),
                                   preprocessing):
        # Batches of other sizes than the traced one, as nothing may depend on them.
        batch = np.concatenate([views_VTHWC] * (1 + 2 * (len(labels) % 2)))
        labels.append(int(clip['label']))
        for name, model in models.items():
            rows[name].append(model(views_VTHWC if name == 'reference' else batch).mean(0))
    if not labels:
        raise HRI30Error('no validation clips to compare the exported model on.\nExpected '
                         'labelled clips; see split in the config.')
    labels_N, scores = np.array(labels), {name: np.array(rows[name]) for name in models}
    reference_NK = scores.pop('reference')
    return dict(clips=len(labels), **{name: compare(reference_NK, scores_NK, labels_N)
                                      for name, scores_NK in scores.items()})


def compare(reference_NK: np.ndarray, scores_NK: np.ndarray, labels_N: np.ndarray) -> dict:
    """Compares scores with those of a reference.

    Args:
        reference_NK (np.ndarray): Class probabilities of the trained model, (N, K).
        scores_NK (np.ndarray): Of the exported one.
        labels_N (np.ndarray): True labels in [0, K).

    Returns:
        dict: ``max_difference`` of a probability; ``shift``, the mean over clips of half
        the sum of absolute differences; ``right`` and ``right_reference``, numbers of
        clips. The first two are None if scores are no probabilities.

    >>> compare(np.array([[.5, .5], [.1, .9]]), np.array([[.4, .6], [.1, .9]]),
    ...         np.array([0, 1]))['right']
    1
    """
    sums_N = scores_NK.sum(axis=1)
    # 16 bits have 2 to 3 decimal digits.
    sound = bool(np.isfinite(scores_NK).all() and (scores_NK >= 0).all()
                 and (np.abs(sums_N - 1) < 0.02).all())
    difference_NK = np.abs(scores_NK.astype(float) - reference_NK)
    return dict(
        max_difference=float(difference_NK.max()) if sound else None,
        shift=float(difference_NK.sum(axis=1).mean() / 2) if sound else None,
        right=int((scores_NK.argmax(axis=1) == labels_N).sum()) if sound else 0,
        right_reference=int((reference_NK.argmax(axis=1) == labels_N).sum()))


def why_no_parity(figures: Mapping, clips: int, precision: str) -> str | None:
    """Returns the reason to refuse an exported model of a precision, if there is one:
    ``figures`` are of :func:`compare` on so many clips.
    """
    difference, shift = figures['max_difference'], figures['shift']
    lost, allowed = figures['right_reference'] - figures['right'], max(1, clips // 100)
    if difference is None:
        return 'its scores are no probabilities'
    if precision == 'fp32':
        return None if difference <= MAX_DIFFERENCE else (
            f'a probability differs by {difference:.2g}, allowed: {MAX_DIFFERENCE:g}')
    if lost > allowed:
        return f'{lost} of {clips} clips are lost, allowed: {allowed}'
    if shift > MAX_SHIFT[precision]:
        return f'probabilities move by {shift:.3f}, allowed: {MAX_SHIFT[precision]:g}'
    return None


def _check_parity(info: ModelInfo) -> None:
    for part in ('whole', 'stages'):
        if part in info.parity and (reason := why_no_parity(
                info.parity[part], info.parity['clips'], info.precision)):
            raise HRI30Error(
                f'{info.format} {info.precision}: differs from the trained model ({part}): '
                f'{reason}.\nNothing was written. Use another precision or format.')


def format_parity(info: ModelInfo) -> str:
    """Formats the comparison with the trained model as text."""
    parity, table = info.parity, [['', 'right', 'trained', 'max. difference', 'shift']]
    for part in ('whole', 'stages'):
        if row := parity.get(part):
            table.append([part, str(row['right']), str(row['right_reference']), *(
                'no scores' if row[name] is None else f'{row[name]:.2g}'
                for name in ('max_difference', 'shift'))])
    return (f'{info.format} {info.precision} against the trained model in float32, on '
            f'{parity["clips"]} clips: {parity["data"]}\n{format_table(table)}')


# ---- Writing ----------------------------------------------------------------------------


@contextlib.contextmanager
def _built_beside(out: Path) -> Iterator[Path]:
    """Yields a folder that becomes ``out``, unless an error is raised."""
    existing = next(parent for parent in out.parents if parent.exists())
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix='.export-') as temporary:
            folder = Path(temporary) / out.name
            folder.mkdir()  # as public as the umask says; the one around it is private
            yield folder
            out.parent.mkdir(parents=True, exist_ok=True)
            if out.exists():
                os.replace(out, Path(temporary) / 'before')
            os.replace(folder, out)
    except OSError as error:
        raise HRI30Error(f'{out}: cannot be written ({error.strerror or error}).\nChoose '
                         'another folder with --out.') from error
