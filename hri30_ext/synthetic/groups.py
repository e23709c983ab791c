"""What the clips of one group share: the worker, the cell and the camera.

World axes, in metres: X to the right of the image, Y away from the camera
along the floor, Z up. The camera stands 2.3 m above the origin and looks along
+Y; its downward look is a shift of the image (the horizon lies near the upper
edge), so that upright things stay upright in the image.
"""

import colorsys
from dataclasses import dataclass

import numpy as np

CAMERA_HEIGHT = 2.3  # m, as in HRI30
DRAWING_SIZE = (720, 480)  # width, height that all pixel constants refer to

#: One palette for both tools and the object, so that colour names none of them.
#: It is brighter than the clothes, and the clothes are darker than the cell, so
#: that small images show who moves and what is held.
THING_COLOURS = ((236, 196, 40), (214, 62, 44), (34, 120, 196), (42, 150, 92),
                 (232, 124, 36), (136, 70, 160), (28, 160, 168), (226, 110, 160))
HELMETS = ((244, 208, 44), (240, 240, 236), (48, 98, 190), (206, 52, 46),
           (238, 134, 40), (60, 150, 80))
SKINS = ((250, 214, 186), (234, 190, 154), (206, 156, 116), (164, 112, 78),
         (118, 78, 54), (84, 56, 42))


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at (0, 0, 2.3 m) with the image plane upright.

    Args:
        focal (float): Focal length in pixels of ``DRAWING_SIZE``.
        centre (float): Image column of the straight-ahead direction.
        horizon (float): Image row of the horizon.
    """
    focal: float
    centre: float
    horizon: float

    def project(self, points):
        """World points to the image.

        Args:
            points (np.ndarray): Shape (..., 3), metres.

        Returns:
            np.ndarray: Shape (..., 2), columns and rows of ``DRAWING_SIZE``.
        """
        points = np.asarray(points, float)
        scale = self.focal / points[..., 1]
        return np.stack([
            self.centre + scale * points[..., 0],
            self.horizon + scale * (CAMERA_HEIGHT - points[..., 2])
        ], -1)


@dataclass(frozen=True)
class Group:
    """Looks and layout of one group of recordings; all colours are RGB.

    ``hand`` is the image side (-1 left, +1 right) of the dominant hand of the
    worker when facing the camera. ``robot`` and ``bench`` are floor positions
    (X, Y); they stand on opposite sides, and ``robot_side`` is the robot's.
    """
    height: float
    girth: float
    hand: int
    pace: float
    yaw: float
    skin: tuple
    helmet: tuple
    jacket: tuple
    stripe: tuple
    trousers: tuple
    shoes: tuple
    thing_colours: dict
    robot_side: int
    robot: tuple
    robot_colour: tuple
    bench: tuple
    bench_height: float
    bench_colour: tuple
    camera: Camera
    wall: tuple
    floor: tuple
    light: float
    noise: int
    background_seed: tuple


def tone(rng, hue=(0, 1), saturation=(0.2, 0.8), value=(0.3, 0.9)):
    """A random RGB colour with its HSV parts in the ranges given."""
    hsv = [rng.uniform(*span) for span in (hue, saturation, value)]
    return tuple(int(255 * part) for part in colorsys.hsv_to_rgb(*hsv))


def shade(colour, factor):
    """``colour`` made darker (below 1) or lighter, kept in 0..255."""
    return tuple(int(min(255, max(0, part * factor))) for part in colour)


def make_group(group, seed=0):
    """The looks and layout of group number ``group``.

    Nothing here depends on a class, and everything that has a side is drawn
    for both sides alike, so that a mirrored cell is as likely as the cell.
    """
    rng = np.random.default_rng((seed, 1, group))
    light = rng.uniform(0.82, 1.08)

    def pick(colours):
        return shade(colours[rng.integers(len(colours))], light)

    def lit(**spans):
        return shade(tone(rng, **spans), light)

    side = int(rng.choice((-1, 1)))
    robot_depth = rng.uniform(4.0, 4.6)
    bench_depth = rng.uniform(3.4, 4.2)
    palette = rng.permutation(len(THING_COLOURS))
    return Group(
        height=rng.uniform(1.6, 1.9),
        girth=rng.uniform(0.9, 1.2),
        hand=int(rng.choice((-1, 1))),
        pace=rng.uniform(0.85, 1.2),
        yaw=rng.uniform(-0.2, 0.2),
        skin=pick(SKINS),
        helmet=pick(HELMETS),
        jacket=lit(saturation=(0.2, 0.9), value=(0.12, 0.5)),
        stripe=shade((236, 240, 200), light),
        trousers=lit(saturation=(0.05, 0.6), value=(0.08, 0.35)),
        shoes=lit(saturation=(0, 0.4), value=(0.08, 0.25)),
        thing_colours={
            name: shade(THING_COLOURS[palette[i]], light)
            for i, name in enumerate(('drill', 'polisher', 'box'))
        },
        robot_side=side,
        robot=(side * rng.uniform(0.46, 0.54) * robot_depth, robot_depth),
        robot_colour=lit(saturation=(0, 0.6), value=(0.6, 0.95)),
        bench=(-side * rng.uniform(0.33, 0.42) * bench_depth, bench_depth),
        bench_height=rng.uniform(0.55, 0.7),
        bench_colour=lit(saturation=(0.05, 0.4), value=(0.35, 0.75)),
        camera=Camera(
            focal=485 * rng.uniform(0.96, 1.04),
            centre=360 + rng.uniform(-10, 10),
            horizon=15 + rng.uniform(-5, 5)),
        wall=lit(saturation=(0, 0.25), value=(0.58, 0.9)),
        floor=lit(saturation=(0, 0.25), value=(0.52, 0.85)),
        light=light,
        noise=int(rng.integers(3)),
        background_seed=(seed, 2, group))
