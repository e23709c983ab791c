"""Predicting what a user names: files, folders, patterns, a camera.

Importing this file imports neither torch nor MMAction2.
"""

import contextlib
import glob
import os
import time
from collections.abc import Sequence
from pathlib import Path

from ..deploy.runtime import video_io
from ..deploy.runtime.live import Live
from ..deploy.runtime.recognizer import ClipRecognizer, Prediction
from ..deploy.runtime.streaming import Event
from ..errors import HRI30Error
from ..utils.fileio import (
    atomic_write_json,
    atomic_write_text,
    check_writable,
    refuse_no_file,
)
from ..utils.text import printable
from ..video.preprocessing import FRAME_RATE


def find_clips(sources: Sequence[str]) -> dict[str, str]:
    """Finds files, folders and patterns; returns names without the folders that all share,
    by path. Raises an HRI30Error for what is not there, or a folder without videos.
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
    """Predicts clips, prints a table, writes the files that are named, and returns how many
    clips cannot be read.

    Args:
        recognizer (ClipRecognizer): See :meth:`hri30_ext.apis.Recognizer.open`.
        clips (dict[str, str]): Of :func:`find_clips`.
        top (int): How many classes are printed, from 1.
        csv (str, optional): A table with the columns of ``predictions.csv``; then ``Set``
            and ``Unknown``, if one was fitted.
        json (str, optional): For each clip ``file``, and ``class``, ``score``, ``top`` and
            what :meth:`Prediction.judgement` returns, or ``error``.
        save (str, optional): The clips with their predictions, ``.mp4`` or ``.avi``.
    """
    for file in filter(None, (csv, json)):  # before the work, not after it
        check_writable(Path(file).parent)
        refuse_no_file(file)
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
                rows.append(dict(best[0], file=file, top=best, **one.judgement()))
                rest = ', '.join(f'{printable(name)} {score:.3f}'
                                 for name, score in one.top(top)[1:])
                text = (f'{printable(one.class_name):{action}}  {one.score:.3f}  {rest}'
                        + _describe_certainty(one))
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
        judged = [found[file].judgement() for file in files]
        more = dict(Set=['; '.join(one.get('set', ())) for one in judged],
                    Unknown=[one.get('unknown', '') for one in judged])
        atomic_write_text(csv, format_predictions(
            [clips[file] for file in files], [found[file].scores for file in files],
            recognizer.classes, failed, more if any(judged) else None))
    if json:
        atomic_write_json(json, rows)
    return len(failed)


def _describe_certainty(one: Prediction) -> str:
    text = '  unknown' if one.unknown else ''
    if one.set is not None:
        names = ', '.join(map(printable, one.set)) or 'no class'
        text += f'  {100 * one.certainty:g} %: {names}'
    return text


def _write_video(writer, found: dict[str, Prediction], mean_ms: float) -> None:
    """Writes clips one after the other, with the mean time that predicting one took."""
    end = 0.
    for file, one in found.items():
        latest = Event('prediction', 0., top=one.top(), latency_ms=mean_ms,
                       state='unknown' if one.unknown else one.class_name)
        with contextlib.suppress(HRI30Error), contextlib.closing(  # damaged at its end
                video_io.FileSource([file])) as source:
            begin = end
            while frame := source.read():
                end = begin + frame.time + 1 / source.fps
                writer.write(video_io.annotate(frame.image, latest), end)


def watch(recognizer: ClipRecognizer, camera: str, save: str | None = None) -> None:
    """Prints the actions before a camera, by its number, until Ctrl-C. Raises an HRI30Error
    if there is none, or the length of the training clips is not known.
    """
    def print_action(event: dict) -> None:
        if event['event'] == 'start':
            print(f'{event["time"]:8.1f} s  {printable(event["class"])}  '
                  f'{event["score"]:.3f}', flush=True)

    stream, source = recognizer.stream(), video_io.open_source(camera)
    Live(stream, source, print_action,
         writer=video_io.VideoWriter(save, source.fps) if save else None).run()
