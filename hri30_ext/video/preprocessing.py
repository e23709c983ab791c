"""What is done to frames before a model sees them, without torch and MMAction2.

The same arithmetic as in the test pipeline of a config, for exported models, cameras and
services. Shapes: V views of a clip, T frames of a view, H height, W width, C channels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from ..errors import HRI30Error

#: Frames a second of HRI30's clips: what a frame interval is counted in.
FRAME_RATE = 30

# Steps of a pipeline that read frames, and those that only pack them.
_LOADING = ('DecordInit', 'DecordDecode', 'ClipInit', 'ClipDecode', 'ArrayDecode')
_LOADING_FAMILIES = ('OpenCV', 'PyAV')
_PACKING = ('FormatShape', 'PackActionInputs')

# More than any clip or camera; a file that asks for more is not to be believed.
_MAX_FRAMES, _MAX_VIEWS, _MAX_SIDE, _MAX_STEPS = 1024, 100, 8192, 16
_MAX_CLIP_BYTES = 1 << 30  # all frames of all views; HRI30's have a thousandth


# ---- Which frames -----------------------------------------------------------------------


def _check_total(total_frames: int) -> None:
    if total_frames < 1:
        raise HRI30Error('a clip without frames.\nExpected a video with one frame or more.')


def uniform_indices(total_frames: int, num_frames: int, num_views: int = 1) -> np.ndarray:
    """Chooses frames over the whole clip: one of each of T segments of one length.

    View v of V takes the frame at fraction (v + 0.5) / V of a segment. One view is that of
    mmaction2's ``UniformSample`` in test mode. Of several, each segment rounds at another
    point, so that up to ten views of a clip of 30 frames are as many sets of frames.

    Args:
        total_frames (int): Of the clip, 1 or more.
        num_frames (int): T.
        num_views (int): V.

    Returns:
        np.ndarray: Indices in [0, total_frames), (V * T, ) int, view by view.

    Raises:
        HRI30Error: no frames.

    >>> uniform_indices(41, 4).tolist()
    [5, 15, 25, 35]
    """
    _check_total(total_frames)
    segment = (total_frames - 1) / num_frames  # in frames
    starts_T = np.round(segment * np.arange(num_frames)).astype(int)
    # Where each segment rounds: spread evenly over a frame.
    rounding_T = np.arange(num_frames) / num_frames if num_views > 1 else np.zeros(1)
    fractions_V1 = (np.arange(num_views)[:, None] + 0.5) / num_views
    frames_VT = starts_T + np.floor(segment * fractions_V1 + rounding_T).astype(int)
    return np.minimum(frames_VT, total_frames - 1).ravel()


def interval_indices(total_frames: int, num_frames: int, frame_interval: int,
                     num_views: int = 1) -> np.ndarray:
    """Chooses every ``frame_interval``-th frame, as mmaction2's ``SampleFrames`` in tests.

    One view lies in the middle of the clip, several are spread from its start to its end.
    Where the clip is too short, it starts again.

    Args and returns are those of :func:`uniform_indices`.

    Raises:
        HRI30Error: no frames.

    >>> interval_indices(10, 4, frame_interval=2).tolist()
    [1, 3, 5, 7]
    >>> interval_indices(5, 4, frame_interval=2).tolist()
    [0, 2, 4, 1]
    """
    _check_total(total_frames)
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


@dataclass(frozen=True)
class Resize:
    """Resizes to a size in pixels, whatever the aspect ratio."""

    width: int
    height: int

    def __call__(self, frame_HWC: np.ndarray) -> np.ndarray:
        """Returns the frame resized, uint8."""
        return cv2.resize(frame_HWC, (self.width, self.height),
                          interpolation=cv2.INTER_LINEAR)

    def output_size(self) -> tuple[int, int] | None:
        """Returns the width and height that leave this step; None: depends on the frame."""
        return self.width, self.height


@dataclass(frozen=True)
class ResizeShortSide:
    """Resizes so that the shorter side has this many pixels; the aspect ratio stays."""

    short_side: int

    def __call__(self, frame_HWC: np.ndarray) -> np.ndarray:
        """Returns the frame resized, uint8."""
        height, width = frame_HWC.shape[:2]
        scale = self.short_side / min(height, width)
        size = (int(width * scale + 0.5), int(height * scale + 0.5))
        return cv2.resize(frame_HWC, size, interpolation=cv2.INTER_LINEAR)

    def output_size(self) -> None:
        """Returns None: the size depends on the frame."""


@dataclass(frozen=True)
class Shrink:
    """Scales larger frames down to this many pixels of the shorter side, never up.

    As the decoder in training does while it makes RGB of a frame: every pixel is an average
    of what it covers. Bilinear resizing to such a size would skip pixels.
    """

    short_side: int

    def __call__(self, frame_HWC: np.ndarray) -> np.ndarray:
        """Returns the frame, smaller, uint8; or as it was."""
        height, width = frame_HWC.shape[:2]
        scale = self.short_side / min(height, width)
        if scale >= 1:
            return frame_HWC
        return cv2.resize(frame_HWC, (round(width * scale), round(height * scale)),
                          interpolation=cv2.INTER_AREA)

    def output_size(self) -> None:
        """Returns None: the size depends on the frame."""


@dataclass(frozen=True)
class CenterCrop:
    """Cuts the middle out, of a size in pixels."""

    width: int
    height: int

    def __call__(self, frame_HWC: np.ndarray) -> np.ndarray:
        """Returns a view of the frame's middle.

        Raises:
            HRI30Error: the frame is smaller.
        """
        height, width = frame_HWC.shape[:2]
        left, top = (width - self.width) // 2, (height - self.height) // 2
        if left < 0 or top < 0:
            raise HRI30Error(f'a frame of {width} x {height} pixels, expected at least '
                             f'{self.width} x {self.height}, which are cut out of it.')
        return frame_HWC[top:top + self.height, left:left + self.width]

    def output_size(self) -> tuple[int, int]:
        """Returns the width and height that leave this step."""
        return self.width, self.height


Step = Resize | ResizeShortSide | Shrink | CenterCrop
_STEPS = {kind.__name__: kind for kind in (Resize, ResizeShortSide, Shrink, CenterCrop)}


def check_frame(frame_HWC) -> None:
    """Refuses what is no frame: uint8 RGB, (H, W, 3), with pixels.

    Raises:
        HRI30Error: it is none.
    """
    if (not isinstance(frame_HWC, np.ndarray) or frame_HWC.dtype != np.uint8
            or frame_HWC.ndim != 3 or frame_HWC.shape[2] != 3 or not frame_HWC.size):
        found = getattr(frame_HWC, 'shape', type(frame_HWC).__name__)
        raise HRI30Error(f'a frame of {found} {getattr(frame_HWC, "dtype", "")}: '
                         'expected RGB as uint8, (height, width, 3).')


# ---- All of it --------------------------------------------------------------------------


@dataclass(frozen=True)
class Preprocessing:
    """From the frames of a clip to what a model takes.

    Args:
        num_frames (int): T.
        num_views (int): V, whose scores are averaged.
        sampling (str): ``uniform`` or ``interval``, see :func:`uniform_indices` and
            :func:`interval_indices`.
        steps (tuple): What is done to each frame, in order; the last size is fixed.
        frame_interval (int, optional): For ``interval``.
    """

    num_frames: int
    num_views: int
    sampling: str
    steps: tuple[Step, ...]
    frame_interval: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels of what the model takes."""
        return self.steps[-1].output_size()

    @property
    def span_seconds(self) -> float:
        """The least time that a window must cover: from the first frame to the last."""
        if self.sampling == 'interval':
            return (self.num_frames - 1) * self.frame_interval / FRAME_RATE
        return 0.0

    def indices(self, total_frames: int) -> np.ndarray:
        """Chooses frames of a clip.

        Args:
            total_frames (int): How many it has.

        Returns:
            np.ndarray: (V * T, ) int, view by view.

        Raises:
            HRI30Error: it has none.
        """
        if self.sampling == 'uniform':
            return uniform_indices(total_frames, self.num_frames, self.num_views)
        return interval_indices(total_frames, self.num_frames, self.frame_interval,
                                self.num_views)

    def sample_times(self, window_seconds: float) -> np.ndarray:
        """Says when the frames of one view are taken in a window of a stream.

        Args:
            window_seconds (float): Length of the window; :attr:`span_seconds` at least,
                or it is taken for that.

        Returns:
            np.ndarray: Seconds from the begin of the window, ascending, (T, ) float64.
            ``uniform``: the middles of T segments. ``interval``: that many frames at
            :data:`FRAME_RATE` apart, in the middle of the window, as in tests.
        """
        steps_T = np.arange(self.num_frames, dtype=float)
        if self.sampling == 'uniform':
            return (steps_T + 0.5) * window_seconds / self.num_frames
        begin = max(window_seconds - self.span_seconds, 0) / 2
        return begin + steps_T * self.frame_interval / FRAME_RATE

    def frame(self, frame_HWC: np.ndarray) -> np.ndarray:
        """Prepares one frame.

        Args:
            frame_HWC (np.ndarray): uint8 RGB, (H, W, 3), of any size.

        Returns:
            np.ndarray: uint8 RGB, (H, W, 3) of :attr:`size`; may share memory.

        Raises:
            HRI30Error: it is no such frame.
        """
        check_frame(frame_HWC)
        for step in self.steps:
            frame_HWC = step(frame_HWC)
        return frame_HWC

    def frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Prepares frames that are already chosen.

        Args:
            frames (Sequence[np.ndarray]): uint8 RGB, each (H, W, 3), of any size.

        Returns:
            np.ndarray: uint8 RGB, (T, H, W, 3) of :attr:`size`, as many as given.

        Raises:
            HRI30Error: one is no such frame.
        """
        width, height = self.size
        result_THWC = np.empty((len(frames), height, width, 3), np.uint8)
        for i, frame_HWC in enumerate(frames):
            result_THWC[i] = self.frame(frame_HWC)
        return result_THWC

    def clip(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """Chooses and prepares the frames of a whole video.

        Args:
            frames (Sequence[np.ndarray]): All frames, uint8 RGB, each (H, W, 3).

        Returns:
            np.ndarray: uint8 RGB, (V, T, H, W, 3) of :attr:`size`.

        Raises:
            HRI30Error: no frames, or one that is none.
        """
        indices = self.indices(len(frames))
        # A frame may be in several views.
        different, places = np.unique(indices, return_inverse=True)
        prepared = self.frames([frames[i] for i in different])[places]
        return prepared.reshape(self.num_views, self.num_frames, *prepared.shape[1:])

    # ---- Reading and writing ------------------------------------------------------------

    @classmethod
    def from_config(cls, cfg: Mapping) -> 'Preprocessing':
        """Reads the test pipeline of a config, settings resolved.

        What a loading step does to a clip besides reading it is done too: where it
        shrinks frames to a short side, so does this, by averaging.

        Args:
            cfg (Mapping): With ``test_pipeline``.

        Raises:
            HRI30Error: no such pipeline, or a step that is not done here.
        """
        pipeline = cfg.get('test_pipeline')
        if not pipeline:
            raise HRI30Error('config: it has no test_pipeline.\nExpected one, as in '
                             'configs/_base_/datasets/hri30.py.')
        sampling, steps = None, []
        for step in pipeline:
            kind = step['type']
            if kind in _LOADING or kind.startswith(_LOADING_FAMILIES):
                if step.get('short_side'):
                    steps.append(Shrink(step['short_side']))
            elif kind in ('UniformSample', 'UniformViews', 'SampleFrames'):
                sampling = _read_sampling(step)
            elif kind == 'Resize':
                steps.append(_read_resize(step))
            elif kind == 'CenterCrop':
                size = step['crop_size']
                width, height = (size, size) if isinstance(size, int) else size
                steps.append(CenterCrop(width, height))
            elif kind not in _PACKING:
                raise HRI30Error(
                    f'test_pipeline: {kind} is not done outside MMAction2.\nExpected '
                    'Resize and CenterCrop between the loading of frames and '
                    'FormatShape; take another config.')
        if sampling is None:
            raise HRI30Error('test_pipeline: no step chooses frames.\nExpected '
                             'UniformViews, UniformSample or SampleFrames.')
        if not steps or steps[-1].output_size() is None:
            raise HRI30Error('test_pipeline: the size of its frames is not fixed.\n'
                             'Expected Resize to a width and height, or CenterCrop, last.')
        return cls(steps=tuple(steps), **sampling)

    def to_json(self) -> dict:
        """Returns what :meth:`from_json` reads: numbers, strings, lists and dicts."""
        return dict(num_frames=self.num_frames, num_views=self.num_views,
                    sampling=self.sampling, frame_interval=self.frame_interval,
                    steps=[dict(type=type(step).__name__, **asdict(step))
                           for step in self.steps])

    @classmethod
    def from_json(cls, content: Mapping) -> 'Preprocessing':
        """Reads what :meth:`to_json` wrote, and believes none of it.

        Raises:
            HRI30Error: something is missing, surplus, or out of range.
        """
        content = _fields(content, 'preprocessing', ('num_frames', 'num_views', 'sampling',
                                                     'frame_interval', 'steps'))
        sampling = content['sampling']
        if sampling not in ('uniform', 'interval'):
            raise HRI30Error(f'preprocessing: sampling={sampling!r}, expected uniform or '
                             'interval.')
        interval = content['frame_interval']
        if sampling == 'interval':
            _whole(interval, 'frame_interval', _MAX_FRAMES)
        elif interval is not None:
            raise HRI30Error(f'preprocessing: frame_interval={interval!r} of uniform '
                             'sampling, expected null.')
        steps = content['steps']
        if not isinstance(steps, list) or not 0 < len(steps) <= _MAX_STEPS:
            raise HRI30Error(f'preprocessing: steps, expected a list of 1 to {_MAX_STEPS}.')
        steps = tuple(map(_read_step, steps))
        if steps[-1].output_size() is None:
            raise HRI30Error('preprocessing: the last step leaves the size of frames open.')
        # Each number alone is one that somebody may want.
        largest = max(math.prod(step.output_size() or (1, 1)) for step in steps)
        count = (_whole(content['num_frames'], 'num_frames', _MAX_FRAMES)
                 * _whole(content['num_views'], 'num_views', _MAX_VIEWS))
        if 3 * largest * count > _MAX_CLIP_BYTES:
            raise HRI30Error(f'preprocessing: {count} frames of {largest:,} pixels, more '
                             f'than {_MAX_CLIP_BYTES:,} bytes a clip.')
        return cls(_whole(content['num_frames'], 'num_frames', _MAX_FRAMES),
                   _whole(content['num_views'], 'num_views', _MAX_VIEWS),
                   sampling, steps, interval)


def _read_sampling(step: Mapping) -> dict:
    """Reads the step of a pipeline that chooses frames."""
    kind, views = step['type'], step.get('num_clips', 1)
    # What is not done here must be as it is by default.
    defaults = dict(temporal_jitter=False, twice_sample=False, out_of_bound_opt='loop',
                    target_fps=None)
    other = [f'{name}={step[name]!r}' for name, default in defaults.items()
             if step.get(name, default) != default]
    if not step.get('test_mode', kind == 'UniformViews'):
        other.append('test_mode=False')
    if kind == 'UniformSample' and views != 1:
        other.append(f'num_clips={views} (UniformViews can)')
    if other:
        raise HRI30Error(f'test_pipeline: {kind} with {", ".join(other)} is not done '
                         'outside MMAction2.\nLeave it out.')
    sampling = dict(num_frames=step['clip_len'], num_views=views, sampling='uniform')
    if kind == 'SampleFrames':
        sampling.update(sampling='interval', frame_interval=step.get('frame_interval', 1))
    return sampling


def _read_resize(step: Mapping) -> Resize | ResizeShortSide:
    scale = step['scale']
    plain = step.get('interpolation', 'bilinear') == 'bilinear' and not step.get('lazy')
    if plain and isinstance(scale, Sequence) and len(scale) == 2:
        if not step.get('keep_ratio', True):
            return Resize(*scale)
        if min(scale) == -1:
            return ResizeShortSide(max(scale))
    raise HRI30Error(
        f'test_pipeline: {dict(step)} is not done outside MMAction2.\nExpected '
        'scale=(width, height) with keep_ratio=False, or scale=(-1, short side), bilinear.')


def _fields(content, what: str, names: Sequence[str]) -> dict:
    if not isinstance(content, Mapping) or set(content) != set(names):
        found = ', '.join(sorted(map(str, content))) if isinstance(content, Mapping) else (
            type(content).__name__)
        raise HRI30Error(f'{what}: found {found[:200]}; expected {", ".join(names)}.')
    return dict(content)


def _whole(value, name: str, most: int) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise HRI30Error(f'preprocessing: {name}={value!r}, expected a whole number from '
                         f'1 to {most}.')
    return value


def _read_step(content) -> Step:
    kind = content.get('type') if isinstance(content, Mapping) else None
    if not isinstance(kind, str) or kind not in _STEPS:
        raise HRI30Error(f'preprocessing: a step {kind!r}, expected one of '
                         f'{", ".join(_STEPS)}.')
    names = ('width', 'height') if kind in ('Resize', 'CenterCrop') else ('short_side', )
    values = _fields(content, f'preprocessing: {kind}', ('type', *names))
    return _STEPS[kind](*(_whole(values[name], name, _MAX_SIDE) for name in names))
