"""Predicting what a user names: files, folders, patterns, a camera.

Importing this file imports neither torch nor MMAction2.
"""

import contextlib
import glob
import os
import time
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from types import SimpleNamespace

from ..deploy.runtime import video_io
from ..deploy.runtime.live import Live
from ..deploy.runtime.recognizer import ClipRecognizer, Prediction
from ..deploy.runtime.streaming import Event
from ..errors import HRI30Error
from ..utils.fileio import atomic_write_text
from ..utils.text import printable
from ..video.preprocessing import FRAME_RATE


def find_clips(sources: Sequence[str]) -> dict[str, str]:
    """Finds the clips that a user names: files, folders and patterns.

    Returns:
        dict[str, str]: Names without the folders that all share, by path.

    Raises:
        HRI30Error: there is no such file, or no video in a folder.
    """
    files = []
    for source in sources:
        path = Path(source).expanduser().absolute()
        found = (video_io.find_videos(path) if path.is_dir() else [path] if path.exists()
                 else sorted(glob.glob(str(path), recursive=True)))
        if not found:
            raise HRI30Error(f'{source}: no such file or folder.\nExpected videos, '
                             'folders, patterns such as clips/*.avi, or a camera, 0.')
        files += map(str, found)
    shared = os.path.commonpath(map(os.path.dirname, files))
    return {file: os.path.relpath(file, shared) for file in files}


def predict(recognizer: ClipRecognizer, clips: dict[str, str], top: int = 3,
            csv: str | None = None, json: str | None = None,
            save: str | None = None) -> int:
    """Predicts clips, prints a table, and writes the files that are named.

    Args:
        recognizer (ClipRecognizer): Of :meth:`hri30_ext.apis.Recognizer.open`.
        clips (dict[str, str]): Of :func:`find_clips`.
        top (int): How many classes are printed, from 1.
        csv (str, optional): A table with the columns of ``predictions.csv``.
        json (str, optional): For each clip ``file``, and ``class``, ``score`` and ``top``,
            or ``error``.
        save (str, optional): The clips with their predictions, ``.mp4`` or ``.avi``.

    Returns:
        int: Number of clips that cannot be read.

    Raises:
        HRI30Error: a file that cannot be written.
    """
    wide = max(map(len, map(printable, ('clip', *clips.values()))))
    action = max(map(len, ('action', *recognizer.classes)))
    found, failed, rows, begin = {}, {}, [], time.monotonic()
    with contextlib.closing(video_io.VideoWriter(save, FRAME_RATE)) if save else (
            contextlib.nullcontext()) as writer:
        print(f'{"clip":{wide}}  {"action":{action}}  score  {"next" if top > 1 else ""}')
        for file, one in recognizer.predict_files(clips):
            if isinstance(one, Prediction):
                found[file] = one
                best = [dict({'class': name}, score=score) for name, score in one.top(top)]
                rows.append(dict(best[0], file=file, top=best))
                rest = ', '.join(f'{printable(name)} {score:.3f}'
                                 for name, score in one.top(top)[1:])
                text = f'{printable(one.class_name):{action}}  {one.score:.3f}  {rest}'
            else:
                reason = getattr(one, 'reason', str(one).splitlines()[0])
                failed[clips[file]] = reason
                rows.append(dict(file=file, error=reason))
                text = f'could not be read: {printable(reason)}'
            print(f'{printable(clips[file]):{wide}}  {text}'.rstrip(), flush=True)
        if writer:
            _write_video(writer, found, 1000 * (time.monotonic() - begin) / len(clips))
    if failed:
        print(f'{len(failed)} of {len(clips)} clips could not be read')
    if csv:
        from ..evaluation.writers import format_predictions  # imports torch
        files = sorted(found, key=clips.get)
        atomic_write_text(csv, format_predictions(
            [clips[file] for file in files], [found[file].scores for file in files],
            recognizer.classes, failed))
    if json:
        atomic_write_text(json, dumps(rows, indent=2) + '\n')
    return len(failed)


def _write_video(writer, found: dict[str, Prediction], mean_ms: float) -> None:
    """Writes clips one after the other, with the mean time that predicting one took."""
    end = 0.
    for file, one in found.items():
        latest = Event('prediction', 0., state=one.class_name, top=one.top(),
                       latency_ms=mean_ms)
        with contextlib.suppress(HRI30Error), contextlib.closing(  # damaged at its end
                video_io.FileSource([file])) as source:
            begin = end
            while frame := source.read():
                end = begin + frame.time + 1 / source.fps
                writer.write(video_io.annotate(frame.image, latest), end)


def watch(recognizer: ClipRecognizer, camera: str, save: str | None = None) -> None:
    """Prints the actions before a camera, by its number, until Ctrl-C.

    Raises:
        HRI30Error: no camera, or the length of the training clips is not known.
    """
    def print_action(event: dict) -> None:
        if event['event'] == 'start':
            print(f'{event["time"]:8.1f} s  {printable(event["class"])}  '
                  f'{event["score"]:.3f}', flush=True)

    stream, source = recognizer.stream(), video_io.open_source(camera)
    Live(stream, source, SimpleNamespace(write=print_action, closed=False),
         writer=video_io.VideoWriter(save, source.fps) if save else None).run()
