"""Predicting what a user names: files, folders, patterns, a camera.

Importing this file imports neither torch nor MMAction2.
"""

import contextlib
import glob
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..deploy.runtime.live import Live
from ..deploy.runtime.recognizer import ClipRecognizer, Prediction
from ..deploy.runtime.streaming import Event
from ..deploy.runtime.video_io import (
    FileSource,
    VideoWriter,
    annotate,
    find_videos,
    open_source,
)
from ..errors import HRI30Error
from ..utils.fileio import atomic_write_text
from ..utils.text import printable


def find_clips(sources: Sequence[str]) -> dict[str, str]:
    """Finds the clips that a user names.

    Args:
        sources (Sequence[str]): Files, folders of videos, and patterns such as
            ``clips/*.avi``.

    Returns:
        dict[str, str]: A short name of each clip, by path: the file's name, with as many
        folders before it as tell all clips apart.

    Raises:
        HRI30Error: there is no such file, or no video in a folder.
    """
    files: dict[str, None] = {}
    for source in sources:
        path = Path(source).expanduser()
        found = (find_videos(path) if path.is_dir() else [path] if path.exists()
                 else sorted(map(Path, glob.glob(str(path), recursive=True))))
        if not found:
            raise HRI30Error(f'{source}: no such file or folder.\nExpected videos, folders '
                             'of videos, a pattern such as clips/*.avi, or the number of '
                             'a camera.')
        files.update(dict.fromkeys(str(file.absolute()) for file in found))
    for depth in range(1, max(len(Path(file).parts) for file in files) + 1):
        names = ['/'.join(Path(file).parts[-depth:]) for file in files]
        if len(set(names)) == len(names):
            break
    return dict(zip(files, names, strict=True))


def predict(recognizer: ClipRecognizer, clips: dict[str, str], top: int = 3,
            csv: str | None = None, json: str | None = None,
            save: str | None = None) -> int:
    """Predicts clips, prints a table, and writes what is asked for.

    Args:
        recognizer (ClipRecognizer): Of :meth:`hri30_ext.apis.Recognizer.open`.
        clips (dict[str, str]): Of :func:`find_clips`.
        top (int): How many classes are printed, from 1.
        csv (str, optional): Gets a table with the columns of ``predictions.csv``.
        json (str, optional): Gets a list: for each clip ``file``, and ``class``, ``score``
            and ``top``, or ``error``.
        save (str, optional): Gets the clips one after the other, with their predictions;
            ``.mp4`` or ``.avi``.

    Returns:
        int: Number of clips that cannot be read.

    Raises:
        HRI30Error: an output that cannot be written.
    """
    begin, found = time.monotonic(), {}
    with contextlib.closing(VideoWriter(save, _first_rate(clips))) if save else (
            contextlib.nullcontext()) as writer:
        for line in _table(recognizer, clips, found, top):
            print(line, flush=True)
        if writer:
            _write_video(writer, found, 1000 * (time.monotonic() - begin) / len(clips))
    failed = {clips[file]: _reason(error) for file, error in found.items()
              if isinstance(error, HRI30Error)}
    if failed:
        print(f'{len(failed)} of {len(clips)} clips could not be read')
    if csv:
        _write_csv(csv, {clips[file]: one.scores for file, one in found.items()
                         if isinstance(one, Prediction)}, recognizer.classes, failed)
    if json:
        _write_json(json, found, top)
    return len(failed)


def _reason(error: HRI30Error) -> str:
    return getattr(error, 'reason', str(error).splitlines()[0])


def _table(recognizer: ClipRecognizer, clips: dict[str, str], found: dict,
           top: int) -> Iterator[str]:
    """Predicts clips into ``found``, by path, and yields a line of a table for each."""
    names = {file: printable(name) for file, name in clips.items()}
    wide = max(map(len, ('clip', *names.values())))
    action = max(map(len, ('action', *recognizer.classes)))
    yield f'{"clip":{wide}}  {"action":{action}}  score  {"next" if top > 1 else ""}'
    for file, one in recognizer.predict_files(clips):
        found[file] = one
        if isinstance(one, HRI30Error):
            yield f'{names[file]:{wide}}  could not be read: {printable(_reason(one))}'
            continue
        rest = ', '.join(f'{printable(name)} {score:.3f}'
                         for name, score in one.top(top)[1:])
        yield (f'{names[file]:{wide}}  {printable(one.class_name):{action}}  '
               f'{one.score:.3f}  {rest}').rstrip()


def _write_csv(path: str, scores: dict[str, np.ndarray], classes: Sequence[str],
               failed: dict[str, str]) -> None:
    from ..evaluation.writers import format_predictions  # imports torch
    videos = sorted(scores)
    atomic_write_text(path, format_predictions(
        videos, [scores[video] for video in videos], classes, failed))


def _write_json(path: str, found: dict[str, Prediction | HRI30Error], top: int) -> None:
    rows = [dict(file=file, error=_reason(one)) if isinstance(one, HRI30Error) else
            {'file': file, 'class': one.class_name, 'score': one.score,
             'top': [{'class': name, 'score': score} for name, score in one.top(top)]}
            for file, one in found.items()]
    atomic_write_text(path, json.dumps(rows, indent=2) + '\n')


# ---- Videos and cameras -----------------------------------------------------------------


def _first_rate(clips: dict[str, str]) -> float:
    """Returns the frames a second of the first clip that can be opened."""
    for file in clips:
        with contextlib.suppress(HRI30Error), contextlib.closing(
                FileSource([file])) as source:
            return source.fps
    return 30.


def _write_video(writer: VideoWriter, found: dict[str, Prediction | HRI30Error],
                 milliseconds: float) -> None:
    """Writes clips one after the other; ``milliseconds`` is what a clip took on average."""
    end = 0.
    for file, one in found.items():
        if isinstance(one, HRI30Error):
            continue
        latest = Event('prediction', 0., one.class_name, one.score, state=one.class_name,
                       top=one.top(), latency_ms=milliseconds)
        with contextlib.suppress(HRI30Error), contextlib.closing(  # damaged at its end
                FileSource([file])) as source:
            begin = end
            while (frame := source.read()) is not None:
                end = begin + frame.time + 1 / source.fps
                writer.write(annotate(frame.image, latest), end)


class _Actions:
    """Prints the actions of a camera, in the place of the JSON lines of a stream."""

    closed = False

    def write(self, event: dict) -> None:
        """Prints an event, if it is the begin of an action."""
        if event['event'] == 'start':
            print(f'{event["time"]:8.1f} s  {printable(event["class"])}  '
                  f'{event["score"]:.3f}', flush=True)


def watch(recognizer: ClipRecognizer, camera: str, save: str | None = None,
          window_seconds: float | None = None) -> None:
    """Prints the actions that a camera shows, until Ctrl-C.

    Args:
        recognizer (ClipRecognizer): Of :meth:`hri30_ext.apis.Recognizer.open`.
        camera (str): Its number.
        save (str, optional): Gets an annotated video.
        window_seconds (float, optional): Length of what the model sees; by default the
            median training clip.

    Raises:
        HRI30Error: the camera cannot be opened, or went away; no window is known.
    """
    stream = recognizer.stream(window_seconds=window_seconds)
    source = open_source(camera)
    print(f'{source.name}: Ctrl-C ends\n{"time":>8}    action  score', flush=True)
    Live(stream, source, _Actions(),
         writer=VideoWriter(save, source.fps) if save else None).run()
