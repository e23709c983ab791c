"""What the clips of one group share: the worker, the cell and the camera.

World axes, in metres: X to the right of the image, Y away from the camera along the floor,
Z up. The camera is 2.3 m above the origin and looks along +Y. It looks down by a shift of
the image (the horizon is near the upper edge), so that upright things stay upright.
"""

import colorsys
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

CAMERA_HEIGHT = 2.3  # m, as in HRI30
DRAWING_SIZE = (720, 480)  # width, height that all pixel constants refer to

#: One palette for both tools and the box, so that a colour names none of them. It is
#: brighter than the clothes, and the clothes are darker than the cell, so that small images
#: show who moves and what is held.
THING_COLOURS = ((236, 196, 40), (214, 62, 44), (34, 120, 196), (42, 150, 92),
                 (232, 124, 36), (136, 70, 160), (28, 160, 168), (226, 110, 160))
HELMETS = ((244, 208, 44), (240, 240, 236), (48, 98, 190), (206, 52, 46),
           (238, 134, 40), (60, 150, 80))
SKINS = ((250, 214, 186), (234, 190, 154), (206, 156, 116), (164, 112, 78),
         (118, 78, 54), (84, 56, 42))


class Camera(NamedTuple):
    """A pinhole camera at (0, 0, 2.3 m) with an upright image plane."""
    focal: float  # in pixels of DRAWING_SIZE
    centre: float  # image column of the direction straight ahead
    horizon: float  # image row

    def project(self, points):
        """Projects world points (..., 3) to columns and rows (..., 2)."""
        points = np.asarray(points, float)
        scale = self.focal / points[..., 1]
        return np.stack([self.centre + scale * points[..., 0],
                         self.horizon + scale * (CAMERA_HEIGHT - points[..., 2])], -1)


class Group(SimpleNamespace):
    """Looks and layout of one group of recordings.

    Colours are RGB, lengths in metres, ``yaw`` in radians. ``hand`` is the image side (-1
    left, +1 right) of the worker's dominant hand when facing the camera. ``robot`` and
    ``bench`` are floor positions (X, Y) on opposite sides; ``robot_side`` is the robot's.
    """


def tone(rng, hue=(0, 1), saturation=(0.2, 0.8), value=(0.3, 0.9)):
    """Draws an RGB colour with its HSV parts in these ranges."""
    hsv = [rng.uniform(*span) for span in (hue, saturation, value)]
    return tuple(int(255 * part) for part in colorsys.hsv_to_rgb(*hsv))


def shade(colour, factor):
    """Makes a colour darker (below 1) or lighter, within 0 to 255."""
    return tuple(int(min(255, max(0, part * factor))) for part in colour)


def make_group(group, seed=0):
    """Draws the looks and layout of group number ``group``.

    Nothing here depends on a class. Everything that has a side is drawn for both sides
    alike, so that a mirrored cell is as likely as the cell.
    """
    rng = np.random.default_rng((seed, 1, group))
    light = rng.uniform(0.82, 1.08)

    def pick(colours):
        return shade(colours[rng.integers(len(colours))], light)

    def lit(low, high, dark, bright):
        return shade(tone(rng, saturation=(low, high), value=(dark, bright)), light)

    side = int(rng.choice((-1, 1)))
    robot_depth, bench_depth = rng.uniform(4.0, 4.6), rng.uniform(3.4, 4.2)
    palette = rng.permutation(len(THING_COLOURS))
    return Group(  # in the order of the random draws
        height=rng.uniform(1.6, 1.9),
        girth=rng.uniform(0.9, 1.2),
        hand=int(rng.choice((-1, 1))),
        pace=rng.uniform(0.85, 1.2),
        yaw=rng.uniform(-0.2, 0.2),
        skin=pick(SKINS),
        helmet=pick(HELMETS),
        jacket=lit(0.2, 0.9, 0.12, 0.5),
        stripe=shade((236, 240, 200), light),
        trousers=lit(0.05, 0.6, 0.08, 0.35),
        shoes=lit(0, 0.4, 0.08, 0.25),
        thing_colours={name: shade(THING_COLOURS[palette[i]], light)
                       for i, name in enumerate(('drill', 'polisher', 'box'))},
        robot_side=side,
        robot=(side * rng.uniform(0.46, 0.54) * robot_depth, robot_depth),
        robot_colour=lit(0, 0.6, 0.6, 0.95),
        bench=(-side * rng.uniform(0.33, 0.42) * bench_depth, bench_depth),
        bench_height=rng.uniform(0.55, 0.7),
        bench_colour=lit(0.05, 0.4, 0.35, 0.75),
        camera=Camera(485 * rng.uniform(0.96, 1.04), 360 + rng.uniform(-10, 10),
                      15 + rng.uniform(-5, 5)),
        wall=lit(0, 0.25, 0.58, 0.9),
        floor=lit(0, 0.25, 0.52, 0.85),
        light=light,
        noise=int(rng.integers(3)),
        background_seed=(seed, 2, group))
