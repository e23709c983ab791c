"""A new class from a few clips: one more row of a trained classifier.

Shapes: N clips, K classes, C channels of what the classifier's linear layer takes.
"""

import contextlib
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, softmax
from torch import nn
from tqdm import tqdm

from ..checkpoints import META_KEY, Essentials, load_from_local, save_safetensors
from ..config import load_config, unresolved
from ..datasets.digests import digest_clips
from ..datasets.hri30 import list_split
from ..errors import HRI30Error, first_cases
from ..names import canonical_name
from ..utils.fileio import atomic_path, check_writable, sha256_of
from ..video.preprocessing import Preprocessing
from .lineage import compare_clips, find_config, read_record
from .predicting import find_clips
from .recognizer import Recognizer

#: How far the accuracy of the old classes may fall, of 1.
MAX_FALL = 0.02
#: The entry of a checkpoint with the features of each taught class, (N, C).
TAUGHT = 'taught'


def teach(model: Sequence[str], name: str, clips: Sequence[str], out: str,
          force: bool = False, options: dict | None = None) -> tuple[str, str]:
    """Adds a class to a trained model, and prints what that costs the others.

    The rows of the old classes stay as they are, and so do the ratios of their scores. The
    new row is a logistic regression of the new clips against the training clips, within the
    softmax of all classes.

    Args:
        model (Sequence[str]): A checkpoint, or a config and its checkpoint.
        name (str): The new class.
        clips (Sequence[str]): Files, folders and patterns; two clips at least.
        out (str): A new folder; gets ``taught.pth`` and its config.
        force (bool): Whether to accept a fall of the old classes' validation accuracy by
            more than :data:`MAX_FALL`.
        options (dict, optional): As parsed from ``--cfg-options``.

    Returns:
        tuple[str, str]: The new config and its checkpoint.

    Raises:
        HRI30Error: clips or a model that do not allow it, no training or validation clips,
            validation clips that the model was trained on, or a larger fall. Nothing is
            written then but the cache of features.
    """
    files = list(find_clips(clips)) if clips else []
    _check_count(name, files)
    return _Trained(model, options, out).add(name, files, out, force)


def forget(model: Sequence[str], name: str, out: str, options: dict | None = None
           ) -> tuple[str, str]:
    """Takes a taught class back; arguments and result are those of :func:`teach`."""
    name, trained = canonical_name(name), _Trained(model, options, out)
    if name not in trained.taught:
        raise HRI30Error(f'{name}: is no taught class of {trained.checkpoint}.\nExpected '
                         f'one of: {", ".join(trained.taught) or "none was taught"}.')
    kept = [k for k, known in enumerate(trained.classes) if known != name]
    del trained.taught[name]
    return trained.save(out, [trained.classes[k] for k in kept], trained.weight_KC[kept],
                        trained.bias_K[kept], trained.taught)


class Teacher:
    """Adds classes to a model while it is served; arguments are those of :func:`teach`.

    ``out`` gets a folder for each taught class, 1/, 2/ and so on.

    Attributes:
        recognizer (Recognizer): The model with all classes so far; its streams know the
            length of their window.
    """

    def __init__(self, model: Sequence[str], out: str, threads: int | None = None) -> None:
        if len(model) == 1 and Path(model[0]).expanduser().is_dir():
            raise HRI30Error(f'{model[0]}: an exported model cannot be taught, since its '
                             'classifier is fixed.\nExpected the checkpoint that it was '
                             'exported from; export the taught one again.')
        self._out, self._count = Path(out), 0
        self._trained = _Trained(model, None, out)
        self._trained.describe_data()  # the first class takes seconds, not minutes
        self.recognizer = Recognizer.open(*model, threads=threads)
        self.recognizer.stream()  # measures the window

    @property
    def preprocessing(self) -> Preprocessing:
        """From a clip to the views that :meth:`add` takes."""
        return self._trained.recognizer.info.preprocessing

    def add(self, name: str, clips: Sequence[np.ndarray], force: bool = False) -> str:
        """Adds a class, replaces :attr:`recognizer`, and returns what :func:`teach` prints.

        Clips are the view of each, (1, T, H, W, 3) uint8 RGB. Errors are those of
        :func:`teach`; nothing changes then.
        """
        _check_count(name, clips)
        lines: list[str] = []
        model = self._trained.add(name, clips, str(self._out / str(self._count + 1)),
                                  force=force, report=lines.append)
        self._count += 1
        self._trained, recognizer = _Trained(model, None), Recognizer(*model)
        recognizer.info = msgspec.structs.replace(
            recognizer.info, window_seconds=self.recognizer.info.window_seconds)
        self.recognizer = recognizer
        return '\n'.join(lines)


def _check_count(name: str, clips: Sequence) -> None:
    if len(clips) < 2:
        raise HRI30Error(f'{name}: found {len(clips)} clip{"s" * (not clips)}.\nExpected '
                         'two or more after the name; five are useful.')


class _Trained:
    """A trained model, its last linear layer, and what goes into that."""

    def __init__(self, model: Sequence[str], options: dict | None, out: str | None = None
                 ) -> None:
        if out is not None and any(check_writable(out).iterdir()):
            raise HRI30Error(f'{out}: is not empty.\nChoose another --out.')
        self.config, self.checkpoint, self._cached = model[0], model[-1], None
        if len(model) == 1:
            self.config, options = find_config(self.checkpoint, options)
        self.options = options or {}
        # One view: the mean of the scores of several is that of no features.
        self.recognizer = Recognizer(self.config, self.checkpoint, options={
            **self.options, 'precision': 'fp32', 'test_clips': 1, 'test_crops': 1,
            'test_flip': False})
        self.classes = list(self.recognizer.classes)
        head = self.recognizer.backend.recognizer.cls_head
        layers = [(name, layer) for name, layer in head.named_modules()
                  if isinstance(layer, nn.Linear) and layer.bias is not None
                  and layer.out_features == len(self.classes)]
        if not layers:
            raise self._not_linear()
        self.name, self.layer = layers[-1]
        self.weight_KC = self.layer.weight.detach().cpu().numpy()
        self.bias_K = self.layer.bias.detach().cpu().numpy()
        loaded = load_from_local(self.checkpoint)
        self.record = read_record(loaded, self.checkpoint)
        taught = loaded.get(TAUGHT) or {}
        self.taught = {name: taught[name].numpy() for name in self.classes
                       if name in taught}

    def _not_linear(self) -> HRI30Error:
        head = type(self.recognizer.backend.recognizer.cls_head).__name__
        return HRI30Error(f'{self.checkpoint}: the scores of its {head} are not those of a '
                          'linear layer with a bias.\nExpected a model with such a '
                          'classifier, such as SlowOnly or a probe.')

    def add(self, name: str, clips: Sequence, out: str, force: bool = False,
            report: Callable[[str], object] = print
            ) -> tuple[str, str]:
        """Writes the model with one more class, see :func:`teach` and :meth:`describe`."""
        name = canonical_name(name)
        if name in self.classes:
            raise HRI30Error(f'{name}: is already a class of {self.checkpoint}.\nChoose '
                             'another name, or take a taught class back with --remove.')
        new_NC = self.describe(clips)
        unread = [file for file, row in zip(clips, new_NC, strict=True) if np.isnan(row[0])]
        if unread:
            raise HRI30Error(f'{name}: {len(unread)} of {len(clips)} clips cannot be read:'
                             f'\n{first_cases(unread)}\nReplace them, or leave them out.')
        (train_NC, _), (val_NC, val_N) = self.describe_data()
        if isinstance(clips[0], str):  # others cannot be validated with later
            new = set(digest_clips(clips, self.recognizer.cfg.get('cache_dir')).values())
            self.record = msgspec.structs.replace(
                self.record, train=sorted(new.union(self.record.train)),
                val=sorted(set(self.record.val) - new))
        classes, taught = [*self.classes, name], {**self.taught, name: new_NC}
        features_NC = np.concatenate([train_NC, *taught.values()])
        is_new_N = np.arange(len(features_NC)) >= len(features_NC) - len(new_NC)
        K = len(self.classes)  # the label of the new class
        row_C, bias = fit_row(features_NC, self.logits(features_NC), is_new_N)
        weight_KC = np.vstack([self.weight_KC, row_C])
        bias_K = np.append(self.bias_K, bias)
        before = np.mean(self.logits(val_NC).argmax(1) == val_N)
        after = np.mean((val_NC @ weight_KC.T + bias_K).argmax(1) == val_N)
        hits = np.sum((new_NC @ weight_KC.T + bias_K).argmax(1) == K)
        report(f'{name}: {hits} of {len(clips)} clips are recognised (those it learned '
               f'from)\nOld classes, {len(val_N)} validation clips: top-1 {before:.4f} '
               f'before, {after:.4f} after')
        if before - after > MAX_FALL + 1e-9 and not force:
            raise HRI30Error(
                f'{name}: the accuracy of the old classes falls from {before:.4f} to '
                f'{after:.4f}, by more than {100 * MAX_FALL:g} points.\nGive clips that '
                'differ more from the old classes, or accept it with --force.')
        return self.save(out, classes, weight_KC, bias_K, taught)

    def logits(self, features_NC: np.ndarray) -> np.ndarray:
        """Returns the logits of the old classes, (N, K)."""
        return features_NC @ self.weight_KC.T + self.bias_K

    def describe(self, clips: Sequence) -> np.ndarray:
        """Computes features of files, or of views of clips, (1, T, H, W, 3) uint8 RGB.

        Returns:
            np.ndarray: (N, C) float32; NaN where a file cannot be read.
        """
        rows = []
        predictions = (
            self.recognizer.predict_views(clips) if isinstance(clips[0], np.ndarray)
            else (one for _, one in self.recognizer.predict_files(clips)))
        with self.layer.register_forward_pre_hook(
                lambda _, inputs: rows.append(inputs[0].flatten(0, -2).cpu().numpy())):
            predictions = [*tqdm(predictions, 'Features of clips', len(clips),
                                 leave=False)]
        features_NC = np.full((len(clips), self.layer.in_features), np.nan, np.float32)
        read = [hasattr(one, 'scores') for one in predictions]  # else an HRI30Error
        if any(read):
            # A model of frames has a row a frame, and the mean of their logits.
            rows_NRC = np.concatenate(rows).reshape(sum(read), -1, self.layer.in_features)
            features_NC[read] = rows_NRC.mean(1)
            scores_NK = [one.scores for one in predictions if hasattr(one, 'scores')]
            if not np.allclose(softmax(self.logits(features_NC[read]), axis=1), scores_NK,
                               atol=1e-3):
                raise self._not_linear()
        return features_NC

    def describe_data(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Returns features and labels of training and validation clips, cached."""
        try:
            clips = [list_split(self.recognizer.cfg.test_dataloader, subset=part)
                     for part in ('train', 'val')]
        except HRI30Error as error:
            raise HRI30Error(f'{error}\nTeaching takes the training and validation clips '
                             'of the old classes: --cfg-options data_root=PATH') from error
        _, self.record = compare_clips(self.recognizer.cfg,
                                       dict(train=clips[0], val=clips[1]))
        files = [clip['filename'] for part in clips for clip in part]
        path = self._cache(self.checkpoint, files)
        try:
            features = load_from_local(str(path))['state_dict']
        except HRI30Error:  # no such file, or a damaged one
            features = dict(features=torch.from_numpy(self.describe(files)))
            with contextlib.suppress(HRI30Error):  # a folder that cannot be written
                save_safetensors(features, path, None)
        self._cached, parts = (files, features), []
        for rows_NC, part in zip(np.split(features['features'].numpy(), [len(clips[0])]),
                                 clips, strict=True):
            readable_N = ~np.isnan(rows_NC[:, 0])
            parts.append((rows_NC[readable_N],
                          np.array([clip['label'] for clip in part])[readable_N]))
        return parts

    def _cache(self, checkpoint: str | Path, files: Sequence[str]) -> Path:
        path = Path(checkpoint).expanduser()
        digests = digest_clips(files, self.recognizer.cfg.get('cache_dir'))
        key = repr((sha256_of(path), self.recognizer.info.preprocessing, digests))
        name = hashlib.sha256(key.encode(errors='surrogateescape')).hexdigest()[:16]
        return path.parent / 'features' / f'{name}.safetensors'

    def save(self, out: str, classes: list[str], weight_KC: np.ndarray,
             bias_K: np.ndarray, taught: dict[str, np.ndarray]) -> tuple[str, str]:
        """Writes the checkpoint with another last layer, and its config; returns both."""
        cfg = load_config(self.config, {**self.options, 'classes': classes})
        state = self.recognizer.backend.recognizer.cpu().state_dict()
        for part, array in (('weight', weight_KC), ('bias', bias_K)):
            state[f'cls_head.{self.name}.{part}'] = torch.from_numpy(
                array.astype(np.float32))
        meta = dict(dataset_meta=dict(classes=classes))
        if essentials := Essentials.from_config(cfg):
            meta[META_KEY] = msgspec.structs.replace(
                essentials, trained_on=self.record).to_dict()
        config = Path(out) / Path(cfg.filename).name
        checkpoint = Path(out) / 'taught.pth'
        with atomic_path(config) as temporary:
            unresolved(cfg).dump(temporary)
        with atomic_path(checkpoint, durable=True) as temporary:
            torch.save({'state_dict': state, 'meta': meta, TAUGHT: {
                name: torch.from_numpy(rows) for name, rows in taught.items()}}, temporary)
        if self._cached:  # the next class needs the same features
            files, features = self._cached
            save_safetensors(features, self._cache(checkpoint, files), None)
        return str(config), str(checkpoint)


# ---- The new row ------------------------------------------------------------------------


def fit_row(features_NC: np.ndarray, logits_NK: np.ndarray, is_new_N: np.ndarray
            ) -> tuple[np.ndarray, float]:
    """Fits the row of one more class beside rows that stay.

    Minimises the log loss of new or not, where the probability of new is that of the
    softmax of all logits; both sides weigh the same. The squared norm of the row is added,
    for channels with a mean variance of 1. scikit-learn's ``LogisticRegression`` is the
    case of constant other logits; it takes no offset for each clip.

    Returns:
        tuple[np.ndarray, float]: The row, (C, ), and its bias.
    """
    x_NC = features_NC.astype(np.float64)
    mean_C = x_NC.mean(0)
    scale = np.sqrt(x_NC.var(0).mean()) or 1.
    x_NC = (x_NC - mean_C) / scale
    others_N = logsumexp(logits_NK.astype(np.float64), axis=1)
    sign_N = np.where(is_new_N, 1, -1)
    weight_N = len(x_NC) / 2 / np.where(is_new_N, is_new_N.sum(), (~is_new_N).sum())

    def loss(row: np.ndarray) -> tuple[float, np.ndarray]:
        margin_N = sign_N * (x_NC @ row[:-1] + row[-1] - others_N)
        slope_N = -sign_N * weight_N * expit(-margin_N)
        return (weight_N @ np.logaddexp(0, -margin_N) + row[:-1] @ row[:-1] / 2,
                np.append(slope_N @ x_NC + row[:-1], slope_N.sum()))

    row = minimize(loss, np.zeros(x_NC.shape[1] + 1), jac=True, method='L-BFGS-B',
                   options=dict(maxiter=2000, maxfun=4000)).x
    return row[:-1] / scale, row[-1] - row[:-1] @ mean_C / scale
