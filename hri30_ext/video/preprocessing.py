"""What is done to frames before a model sees them, without torch and MMAction2.

The same arithmetic as in the test pipeline of a config, for exported models, cameras and
services. Shapes: V views of a clip, T frames of a view, H height, W width, C channels.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np

from ..errors import HRI30Error
from .resize import resize, shrunk_size

#: Frames a second of HRI30's clips: the unit of a frame interval.
FRAME_RATE = 30

# Steps of a pipeline that read frames or only pack them: the beginnings of their names.
_LOADING = ('DecordInit', 'DecordDecode', 'ClipInit', 'ClipDecode', 'ArrayDecode',
            'OpenCV', 'PyAV', 'FormatShape', 'PackActionInputs')

_Count = Annotated[int, msgspec.Meta(ge=1)]


# ---- Which frames -----------------------------------------------------------------------


def segment_indices(total_frames: int, num_frames: int, num_views: int = 1) -> np.ndarray:
    """Chooses frames over the whole clip: one from each of T segments of equal length.

    View v of V takes the frame at fraction (v + 0.5) / V of a segment; a single view takes
    the middle, and each frame once where the clip has T. With several views, no two
    segments round at the same point, so that ten views of a clip of 30 frames differ.

    Returns:
        np.ndarray: Indices in [0, total_frames), (V * T, ) int, view by view.

    >>> segment_indices(8, 8).tolist(), segment_indices(30, 4).tolist()
    ([0, 1, 2, 3, 4, 5, 6, 7], [3, 11, 18, 26])
    """
    steps_T, same = np.arange(num_frames), math.gcd(total_frames, num_frames)
    fractions_V1 = (np.arange(num_views)[:, None] + 0.5) / num_views
    frames_VT = (steps_T + fractions_V1) * total_frames / num_frames
    if num_views > 1:  # each ``same`` segments begin at the same fraction of a frame
        turns_T = steps_T // (num_frames // same)
        frames_VT += (turns_T - (same - 1) / 2) / num_frames
    return np.clip(np.floor(frames_VT).astype(int), 0, total_frames - 1).ravel()


def uniform_indices(total_frames: int, num_frames: int, num_views: int = 1) -> np.ndarray:
    """Chooses frames as mmaction2's ``UniformSample`` in tests, for comparison.

    ``sampling=mmaction2`` uses it. Its segments share their ends: it never sees the last
    of 8 frames in a clip of 8. Several views differ here.

    The result is as of :func:`segment_indices`.

    >>> uniform_indices(8, 8).tolist(), uniform_indices(30, 4).tolist()
    ([0, 1, 2, 3, 4, 4, 5, 6], [3, 10, 17, 25])
    """
    segment = (total_frames - 1) / num_frames  # in frames
    starts_T = np.round(segment * np.arange(num_frames)).astype(int)
    # The point where each segment rounds: spread evenly over a frame.
    rounding_T = np.arange(num_frames) / num_frames if num_views > 1 else np.zeros(1)
    fractions_V1 = (np.arange(num_views)[:, None] + 0.5) / num_views
    frames_VT = starts_T + np.floor(segment * fractions_V1 + rounding_T).astype(int)
    return np.minimum(frames_VT, total_frames - 1).ravel()


def linspace_indices(total_frames: int, num_frames: int, num_views: int = 1) -> np.ndarray:
    """Chooses frames at equal distances from the first to the last, as NumPy's linspace.

    ``sampling=linspace`` uses it, in training too. Several views take turns.

    The result is as of :func:`segment_indices`.

    >>> linspace_indices(8, 8).tolist(), linspace_indices(30, 4).tolist()
    ([0, 1, 2, 3, 4, 5, 6, 7], [0, 9, 19, 29])
    """
    frames = np.linspace(0, total_frames - 1, num_frames * num_views).astype(int)
    return frames.reshape(num_frames, num_views).T.ravel()


#: By ``sampling`` of a :class:`Preprocessing`: the functions without an interval.
SAMPLERS = dict(segments=segment_indices, uniform=uniform_indices,
                linspace=linspace_indices)


def interval_indices(total_frames: int, num_frames: int, frame_interval: int,
                     num_views: int = 1) -> np.ndarray:
    """Chooses every ``frame_interval``-th frame, as mmaction2's ``SampleFrames`` in tests.

    One view lies in the middle of the clip; several are spread from its start to its end.
    A clip that is too short starts again.

    The result is as of :func:`segment_indices`.

    >>> interval_indices(10, 4, frame_interval=2).tolist()
    [1, 3, 5, 7]
    >>> interval_indices(5, 4, frame_interval=2).tolist()
    [0, 2, 4, 1]
    """
    if num_frames == 1:
        offsets_V = (np.arange(num_views) + 0.5) * (total_frames / num_views)
    else:
        room = max(total_frames - (num_frames - 1) * frame_interval - 1, 0)
        if num_views == 1:
            offsets_V = np.array([room // 2])
        else:
            offsets_V = np.round(np.arange(num_views) * (room / (num_views - 1)))
    frames_VT = offsets_V[:, None] + np.arange(num_frames) * frame_interval
    return np.mod(frames_VT, total_frames).astype(int).ravel()


# ---- What is done to a frame ------------------------------------------------------------


class _Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """One change of a frame, uint8 RGB (H, W, 3). In JSON, ``type`` is the class."""


class _ToSize(_Step, frozen=True):
    width: _Count  # pixels
    height: _Count


class Resize(_ToSize, frozen=True):
    """Resizes to a size in pixels, whatever the aspect ratio."""

    def __call__(self, frame_HWC: np.ndarray) -> np.ndarray:
        return resize(frame_HWC, self.width, self.height)


class CenterCrop(_ToSize, frozen=True):
    """Cuts out the middle, of a size in pixels."""

    def __call__(self, frame_HWC: np.ndarray) -> np.ndarray:
        height, width = frame_HWC.shape[:2]
        left, top = (width - self.width) // 2, (height - self.height) // 2
        if left < 0 or top < 0:
            raise HRI30Error(f'a frame of {width} x {height} pixels, expected at least '
                             f'{self.width} x {self.height}.')
        return frame_HWC[top:top + self.height, left:left + self.width]


class ThreeCrops(_ToSize, frozen=True):
    """Resizes until a size is just covered, with the aspect ratio kept, and cuts out the
    middle, the start and the end of the longer side; called, the middle alone."""

    def __call__(self, frame_HWC: np.ndarray) -> np.ndarray:
        return self.cut(frame_HWC)[0]

    def cut(self, frame_HWC: np.ndarray) -> list[np.ndarray]:
        """Returns the three parts of a frame."""
        height, width = frame_HWC.shape[:2]
        scale = max(self.width / width, self.height / height)
        image_HWC = resize(frame_HWC, max(self.width, round(width * scale)),
                           max(self.height, round(height * scale)))
        right, low = image_HWC.shape[1] - self.width, image_HWC.shape[0] - self.height
        return [image_HWC[y:y + self.height, x:x + self.width]
                for x, y in ((right // 2, low // 2), (0, 0), (right, low))]


class ResizeShortSide(_Step, frozen=True):
    """Resizes so that the shorter side has this many pixels; keeps the aspect ratio."""
    short_side: _Count

    def __call__(self, frame_HWC: np.ndarray) -> np.ndarray:
        height, width = frame_HWC.shape[:2]
        scale = self.short_side / min(height, width)
        return resize(frame_HWC, int(width * scale + 0.5), int(height * scale + 0.5))


class Shrink(_Step, frozen=True):
    """Scales larger frames down to this many pixels of the shorter side, never up."""
    short_side: _Count

    def __call__(self, frame_HWC: np.ndarray) -> np.ndarray:
        return resize(frame_HWC, *shrunk_size(*frame_HWC.shape[1::-1], self.short_side))


def to_scale(scale: Sequence[int], crops: int = 1) -> Resize | ResizeShortSide | ThreeCrops:
    """Returns the step to (width, height), or -1 and the short side, in pixels; with three
    crops, to three parts of that size."""
    if crops == 3:
        return ThreeCrops(*scale)
    return ResizeShortSide(max(scale)) if -1 in scale else Resize(*scale)


def cut_views(frames: Sequence[np.ndarray], step: _ToSize, num_frames: int) -> np.ndarray:
    """Applies a last step to the frames of all views.

    Args:
        frames (Sequence[np.ndarray]): V * T of them, view by view, (H, W, 3) uint8.
        step (Resize | ResizeShortSide | CenterCrop | ThreeCrops): The step.
        num_frames (int): T.

    Returns:
        np.ndarray: (U, T, H, W, 3) uint8, where U is V, or 3 * V with three crops.
    """
    cut = getattr(step, 'cut', lambda frame: [step(frame)])
    x_FCHWR = np.stack([cut(frame) for frame in frames])  # F frames, C crops, RGB
    x_VTCHWR = x_FCHWR.reshape(-1, num_frames, *x_FCHWR.shape[1:])
    return np.moveaxis(x_VTCHWR, 2, 0).reshape(-1, num_frames, *x_FCHWR.shape[2:])


def check_frame(frame_HWC) -> None:
    """Validates a frame: uint8 RGB, (H, W, 3), with pixels.

    Raises:
        HRI30Error: it is not such a frame.
    """
    if (not isinstance(frame_HWC, np.ndarray) or frame_HWC.dtype != np.uint8
            or frame_HWC.ndim != 3 or frame_HWC.shape[2] != 3 or not frame_HWC.size):
        found = getattr(frame_HWC, 'shape', type(frame_HWC).__name__)
        raise HRI30Error(f'a frame of {found} {getattr(frame_HWC, "dtype", "")}: '
                         'expected RGB as uint8, (height, width, 3).')


# ---- All of it --------------------------------------------------------------------------


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From the frames of a clip to the input of a model.

    Raises:
        ValueError: fields that contradict each other.
    """
    num_frames: _Count  # T
    num_views: _Count  # choices of frames; the scores of all V views are averaged
    sampling: Literal['segments', 'uniform', 'linspace', 'interval']
    # Applied to each frame in order.
    steps: tuple[Resize | ResizeShortSide | Shrink | CenterCrop | ThreeCrops, ...]
    frame_interval: _Count | None = None  # for interval

    def __post_init__(self) -> None:
        if (self.sampling == 'interval') != (self.frame_interval is not None):
            raise ValueError('frame_interval: expected for interval sampling alone')
        if not (self.steps and isinstance(self.steps[-1], _ToSize)):
            raise ValueError('steps: expected a resize to a fixed size, or a crop, last')

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of the model's input."""
        return self.steps[-1].width, self.steps[-1].height

    @property
    def total_views(self) -> int:
        """V: choices of frames, three times as many with three crops."""
        return self.num_views * (3 if isinstance(self.steps[-1], ThreeCrops) else 1)

    @property
    def short_side(self) -> int | None:
        """Pixels of the short side to which larger frames are scaled while they are read:
        that of a leading :class:`Shrink`.
        """
        return self.steps[0].short_side if isinstance(self.steps[0], Shrink) else None

    @property
    def span_seconds(self) -> float:
        """Time from the first frame to the last, which a window must cover at least."""
        if self.sampling == 'interval':
            return (self.num_frames - 1) * self.frame_interval / FRAME_RATE
        return 0.0

    def indices(self, total_frames: int) -> np.ndarray:
        """Chooses frames of a clip, (num_views * T, ) int in [0, total_frames)."""
        if self.sampling == 'interval':
            return interval_indices(total_frames, self.num_frames, self.frame_interval,
                                    self.num_views)
        return SAMPLERS[self.sampling](total_frames, self.num_frames, self.num_views)

    def sample_times(self, window_seconds: float) -> np.ndarray:
        """Returns when the frames of one view are taken in a window of a stream, which has
        :attr:`span_seconds` at least.

        Returns:
            np.ndarray: Seconds from the start of the window, ascending, (T, ) float64.
            ``interval``: frames at :data:`FRAME_RATE` apart, in the middle of the window,
            as in tests. Otherwise, the middles of T segments.
        """
        steps_T = np.arange(self.num_frames, dtype=float)
        if self.sampling != 'interval':
            return (steps_T + 0.5) * window_seconds / self.num_frames
        begin = max(window_seconds - self.span_seconds, 0) / 2
        return begin + steps_T * self.frame_interval / FRAME_RATE

    def frame(self, frame_HWC: np.ndarray) -> np.ndarray:
        """Prepares one frame, uint8 RGB (H, W, 3): it then has :attr:`size`, and may share
        memory with the one given. Of three crops, it is the middle one.

        Raises:
            HRI30Error: it is too small to crop.
        """
        for step in self.steps:
            frame_HWC = step(frame_HWC)
        return frame_HWC

    def clip(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Chooses and prepares frames of a whole video, uint8 RGB, each (H, W, 3).

        Returns:
            np.ndarray: uint8 RGB, (V, T, H, W, 3) of :attr:`size`.

        Raises:
            HRI30Error: they are too small to crop.
        """
        return self.views([frames[i] for i in self.indices(len(frames))])

    def views(self, frames_N: Sequence[np.ndarray]) -> np.ndarray:
        """Prepares the frames that were chosen, as :meth:`clip` does."""
        *first, last = self.steps
        for step in first:
            frames_N = [step(frame) for frame in frames_N]
        return cut_views(frames_N, last, self.num_frames)

    def to_json(self) -> dict:
        """Returns plain data, which ``msgspec.convert`` reads and validates."""
        return msgspec.to_builtins(self)

    @classmethod
    def from_config(cls, cfg: Mapping) -> 'Preprocessing':
        """Reads the test pipeline of a config, settings resolved.

        Where a loading step scales frames down to a short side, so does the result.

        Raises:
            HRI30Error: no such pipeline, or a step that is not supported here.
        """
        sampling, steps = None, []
        for step in cfg.get('test_pipeline', ()):
            kind = step['type']
            if kind.startswith(_LOADING):
                if step.get('short_side'):
                    steps.append(Shrink(step['short_side']))
            elif kind in ('UniformViews', 'SampleFrames'):
                sampling = _read_sampling(step)
            elif kind == 'ResizeClip':
                steps.append(to_scale(step['scale'], step.get('crops', 1)))
            elif kind == 'CenterCrop':
                size = step['crop_size']
                steps.append(CenterCrop(*(size, size) if isinstance(size, int) else size))
            else:
                raise HRI30Error(f'test_pipeline: {kind} is not supported outside MMAction2'
                                 '.\nExpected ResizeClip and CenterCrop.')
        if sampling is None:
            raise HRI30Error('test_pipeline: no step chooses frames.\nExpected '
                             'UniformViews or SampleFrames.')
        try:
            return cls(steps=tuple(steps), **sampling)
        except ValueError as error:
            raise HRI30Error(f'test_pipeline: {error}.') from error


# Options of sampling that are not supported here must have these values.
_SAMPLING = dict(temporal_jitter=False, twice_sample=False, out_of_bound_opt='loop',
                 target_fps=None, test_mode=True)


def _read_sampling(step: Mapping) -> dict:
    """Reads the step of a pipeline that chooses frames."""
    kind = step['type']
    given = dict(dict(_SAMPLING, test_mode=kind == 'UniformViews'), **step)
    other = [f'{name}={given[name]!r}' for name, value in _SAMPLING.items()
             if given[name] != value]
    if other:
        raise HRI30Error(f'test_pipeline: {kind} with {", ".join(other)} is not supported '
                         'outside MMAction2.')
    sampling = dict(num_frames=step['clip_len'], num_views=step.get('num_clips', 1))
    if kind == 'SampleFrames':
        return dict(sampling, sampling='interval',
                    frame_interval=step.get('frame_interval', 1))
    return dict(sampling, sampling={'mmaction2': 'uniform', 'linspace': 'linspace'}.get(
        step.get('sampling'), 'segments'))
