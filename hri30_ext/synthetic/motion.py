"""Parts of movements: the plan of a clip, timing, sway and axes."""

from dataclasses import dataclass, replace

import numpy as np

FPS = 30
SIDES = np.array([-1.0, 1.0])  # left and right of the image at yaw 0


@dataclass
class Plan:
    """A clip before it is drawn: T frames, in world metres and radians."""
    root: np.ndarray  # floor position (X, Y) of the worker, (T, 2)
    yaw: np.ndarray  # turn of the body, 0 to the camera, positive to the right, (T, )
    bend: np.ndarray  # forward bend of the trunk, (T, )
    crouch: np.ndarray  # how far the hips are lowered, (T, )
    feet: np.ndarray  # in body axes (side, front, up), (T, 2, 3)
    hands: np.ndarray  # their targets, (T, 2, 3)
    robot_hand: np.ndarray  # the robot's gripper, (T, 3)
    thing: str | None = None  # drill, polisher or box
    thing_at: np.ndarray | None = None  # its centre, (T, 3)
    thing_axes: np.ndarray | None = None  # unit vectors: long, upward; (T, 2, 3)
    panel: np.ndarray | None = None  # corners of the workpiece, (T, 4, 3)

    def map(self, function):
        """Returns a plan with ``function`` applied to each of the arrays."""
        return replace(self, **{name: function(value) for name, value in vars(self).items()
                                if isinstance(value, np.ndarray)})

    def reversed(self):
        """Returns the same clip played backwards."""
        return self.map(lambda array: array[::-1].copy())

    def with_half_frames(self):
        """Returns twice as many instants; those between two frames are interpolated."""
        def interleave(array):
            following = np.concatenate([array[1:], array[-1:]])
            both = np.stack([array, (array + following) / 2], 1)
            return both.reshape(-1, *array.shape[1:])
        return self.map(interleave)


def ease(num_frames, rng, pause=(-0.12, 0.2)):
    """Makes a progress from 0 to 1, non-decreasing, (num_frames, ), with random pauses.

    Those before and after it are shares of the clip from the same range (negative: the
    movement starts before the clip, or ends after it), and the curve is point symmetric,
    so that the distribution is the same backwards.
    """
    before, after = rng.uniform(*pause, 2)
    softness = rng.uniform(0, 0.8)
    time = np.linspace(0, 1, num_frames)
    x = np.clip((time - before) / (1 - after - before), 0, 1)
    return (1 - softness) * x + softness * x * x * (3 - 2 * x)


def sway(num_frames, rng, amplitude, dims=()):
    """Makes a slow aimless movement around 0, (num_frames, *dims)."""
    time = np.arange(num_frames).reshape(-1, *(1, ) * len(dims)) / FPS
    total = np.zeros((num_frames, *dims))
    for low, high in ((0.2, 0.5), (0.5, 1.1)):
        rate = rng.uniform(low, high, dims) * rng.choice((-1, 1), dims)
        phase = rng.uniform(0, 2 * np.pi, dims)
        total += np.sin(2 * np.pi * rate * time + phase)
    return amplitude * total / 2


def to_world(root, yaw, local):
    """Transforms positions in body axes (side, front, up), (T, ..., 3) or (1, ..., 3), to
    the world; ``root`` (T, 2) and ``yaw`` (T, ) are those of the body."""
    world = turn(yaw, local)
    world[..., :2] += root.reshape(len(root), *(1, ) * (world.ndim - 2), 2)
    return world


def turn(yaw, local):
    """Rotates directions in body axes, (T, ..., 3) or (1, ..., 3), to the world."""
    local = np.asarray(local, float)
    yaw = yaw.reshape(-1, *(1, ) * (local.ndim - 2))
    sine, cosine = np.sin(yaw), np.cos(yaw)
    local = np.broadcast_to(local, (len(yaw), *local.shape[1:]))
    side, front, up = np.moveaxis(local, -1, 0)
    return np.stack([cosine * side + sine * front, sine * side - cosine * front, up], -1)


def axes(long_axis, upward):
    """Returns unit vectors (..., 2, 3): the long axis, and ``upward`` made orthogonal."""
    def unit(vectors):
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    long_axis, upward = unit(np.asarray(long_axis, float)), np.asarray(upward)
    upward = upward - (upward * long_axis).sum(-1, keepdims=True) * long_axis
    return np.stack([long_axis, unit(upward)], -2)


def smooth(x):
    """Returns a smooth step from 0 (at 0 and below) to 1 (at 1 and above)."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
