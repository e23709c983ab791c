"""Drawing a plan with OpenCV: skeleton, worker, tools, robot and cell.

Sizes of limbs are metres times the pixels of a metre at the worker's depth. Parts are drawn
from far to near; there is no other occlusion.
"""

import cv2
import numpy as np

from .groups import CAMERA_HEIGHT, DRAWING_SIZE, shade, tone
from .motion import SIDES, to_world, turn

SUBPIXEL = 4  # binary digits after the point in OpenCV's fixed-point corners
WALL_DEPTH = 7.5  # m
DARK, STEEL, PAD = (38, 38, 42), (206, 210, 216), (236, 232, 220)


class Canvas:
    """Primitives in ``DRAWING_SIZE`` coordinates on an image of any size."""

    def __init__(self, image):
        self.image = image
        height, width = image.shape[:2]
        self.zoom = min(width / DRAWING_SIZE[0], height / DRAWING_SIZE[1])
        self.offset = (np.array([width, height]) - self.zoom * np.array(DRAWING_SIZE)) / 2

    def _fixed(self, points):
        points = np.asarray(points) * self.zoom + self.offset
        return np.rint(points * (1 << SUBPIXEL)).astype(np.int32)

    def polygon(self, points, colour):
        """Draws a filled convex polygon."""
        cv2.fillConvexPoly(self.image, self._fixed(points), colour, cv2.LINE_AA, SUBPIXEL)

    def line(self, start, end, width, colour):
        """Draws a straight stroke with round ends."""
        start, end = self._fixed([start, end])
        cv2.line(self.image, start.tolist(), end.tolist(), colour,
                 max(1, round(width * self.zoom)), cv2.LINE_AA, SUBPIXEL)

    def ellipse(self, centre, radii, colour, angles=(0, 360)):
        """Draws a filled ellipse, or its part between two angles."""
        centre = self._fixed(centre).tolist()
        radii = [round(r * self.zoom * (1 << SUBPIXEL)) for r in radii]
        cv2.ellipse(self.image, centre, radii, 0, *angles, colour, -1, cv2.LINE_AA,
                    SUBPIXEL)

    def disc(self, centre, radius, colour):
        """Draws a filled circle."""
        self.ellipse(centre, (radius, radius), colour)


# ---- The skeleton -----------------------------------------------------------------------


def two_bones(start, end, first, second, pole):
    """Bends two bones of lengths ``first`` and ``second`` from ``start`` towards ``end``.

    Points are (..., 3). Returns the joint, which bends to ``pole``, and the end, which is
    nearer than ``end`` if the bones are too short.
    """
    span = end - start
    distance = np.linalg.norm(span, axis=-1, keepdims=True)
    along = span / np.maximum(distance, 1e-6)
    reach = np.clip(distance, abs(first - second) + 1e-3, first + second - 1e-3)
    foot = (first**2 - second**2 + reach**2) / (2 * reach)
    height = np.sqrt(np.maximum(first**2 - foot**2, 0))
    away = pole - (pole * along).sum(-1, keepdims=True) * along
    away /= np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), 1e-6)
    return start + foot * along + height * away, start + reach * along


def pose(plan, group):
    """Computes the world positions of the worker's joints: ``hip``, ``neck``, ``head``
    (T, 3), and the others (T, 2, 3), in the order of ``SIDES``."""
    tall, bend = group.height, plan.bend[:, None]

    def world(*local):
        local = np.stack(np.broadcast_arrays(*local), -1).astype(float)
        return to_world(plan.root, plan.yaw, local)

    hip_up = (0.49 * tall - plan.crouch)[:, None]
    hip_back = -0.12 * tall * np.sin(bend)
    trunk, head_bend = 0.31 * tall, 0.6 * bend
    neck_front = hip_back + trunk * np.sin(bend)
    neck_up = hip_up + trunk * np.cos(bend)
    hips = world(0.055 * tall * group.girth * SIDES, hip_back, hip_up)
    shoulders = world(0.115 * tall * group.girth * SIDES, neck_front, neck_up)
    head = world(0, neck_front + 0.12 * tall * np.sin(head_bend),
                 neck_up + 0.12 * tall * np.cos(head_bend))[:, 0]
    knee_pole, elbow_pole = (turn(plan.yaw, np.array([[[-x, y, z], [x, y, z]]]))
                             for x, y, z in ((0.25, 1, 0), (0.7, -0.4, -0.7)))
    knees, feet = two_bones(hips, to_world(plan.root, plan.yaw, plan.feet + (0, 0, 0.05)),
                            0.245 * tall, 0.235 * tall, knee_pole)
    elbows, hands = two_bones(shoulders, plan.hands, 0.175 * tall, 0.185 * tall,
                              elbow_pole)
    toes = feet + turn(plan.yaw, np.broadcast_to((0, 0.1, -0.02), feet.shape))
    return dict(hip=hips.mean(1), neck=shoulders.mean(1), head=head, hips=hips,
                shoulders=shoulders, knees=knees, feet=feet, elbows=elbows, hands=hands,
                toes=toes)


# ---- Things: flat outlines along (long axis, upward axis), and the box -------------------


def _disc(radius, y=0, corners=20):
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([radius * np.cos(angle), y + radius * np.sin(angle)], -1)


def _rectangle(left, right, low, high):
    return np.array([(left, low), (right, low), (right, high), (left, high)])


#: Parts of the tools in metres, back to front: outline and colour; None is the group's
#: colour of the tool. A drill has its bit at the positive end of the long axis and its
#: handle downward.
TOOL_PARTS = {
    'drill': (
        (_rectangle(0.2, 0.48, 0, 0.085), DARK),
        (_rectangle(0.2, 0.46, 0.015, 0.07), STEEL),
        (np.array([(-0.18, 0), (-0.04, 0), (-0.08, -0.25), (-0.22, -0.25)]), DARK),
        (_rectangle(-0.26, -0.03, -0.36, -0.25), None),
        (_rectangle(-0.27, 0.23, -0.07, 0.16), DARK),
        (_rectangle(-0.25, 0.14, -0.05, 0.14), None),
    ),
    'polisher': (
        (_rectangle(-0.38, 0.38, -0.01, 0.05), DARK),
        (_disc(0.255, -0.02), DARK),
        (_disc(0.235, -0.02), PAD),
        (_disc(0.155, -0.01), None),
        (_disc(0.055), DARK),
    ),
}
BOX = np.array([0.25, 0.19, 0.18])  # half sizes: long axis, upward axis, depth


def thing_parts(plan, group):
    """Returns what to fill for the thing: corners in the world (T, K, 3) and colours, back
    to front."""
    centre = plan.thing_at[:, None]
    long_axis, upward = plan.thing_axes[:, 0], plan.thing_axes[:, 1]
    colour = group.thing_colours[plan.thing]
    if plan.thing != 'box':
        return [(centre + outline[:, :1] * long_axis[:, None] +
                 outline[:, 1:] * upward[:, None], part or colour)
                for outline, part in TOOL_PARTS[plan.thing]]
    half = [size * axis[:, None] for size, axis in zip(
        BOX, (long_axis, upward, np.cross(long_axis, upward)))]
    loop = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], float)[..., None]
    faces = []
    for a, b, c, bright in ((0, 2, 1, 1.25), (1, 2, 0, 0.72), (0, 1, 2, 1.0)):
        faces += [(centre + sign * half[c] + loop[:, 0] * half[a] + loop[:, 1] * half[b],
                   shade(colour, bright)) for sign in (-1, 1)]
    # Faces that look away from the camera are farther than the centre.
    camera = np.array([0, 0, CAMERA_HEIGHT])
    middle = plan.thing_at.mean(0)
    visible = [face for face in faces
               if (face[0].mean((0, 1)) - middle) @ (camera - middle) > 0]
    tape = centre + half[2] + loop[:, 0] * 0.22 * half[0] + loop[:, 1] * half[1]
    return visible + [(tape, shade(colour, 0.8))]


# ---- The worker -------------------------------------------------------------------------


class Figure:
    """The worker and the thing in the hands, projected for all frames."""

    def __init__(self, plan, group):
        self.group = group
        joints, project = pose(plan, group), group.camera.project
        self.depth = {name: at[..., 1] for name, at in joints.items()}
        self.at = {name: project(at) for name, at in joints.items()}
        self.metre = group.camera.focal / plan.root[:, 1]
        self.facing = np.sin(plan.yaw), np.cos(plan.yaw)
        self.ground = project(np.pad(plan.root, ((0, 0), (0, 1))))
        self.thing = None
        if plan.thing:
            self.thing = [(project(corners), colour)
                          for corners, colour in thing_parts(plan, group)]
            self.thing_depth = plan.thing_at[:, 1]

    def draw(self, canvas, t):
        """Draws frame ``t``."""
        group, metre = self.group, self.metre[t]
        width = metre * group.height / 1.75 * group.girth
        shadow = shade(group.floor, 0.72)
        canvas.ellipse(self.ground[t], (0.3 * metre, 0.09 * metre), shadow)
        hip, neck = self.depth['hip'][t], self.depth['neck'][t]
        parts = [((hip + neck) / 2, self._trunk), (neck - 0.02, self._head)]
        for i in range(2):
            parts.append((self.depth['knees'][t, i] + 0.1, self._leg, i))
            parts.append((self.depth['elbows'][t, i] - 0.06, self._arm, i))
        if self.thing:
            parts.append((self.thing_depth[t], self._thing))
        for _, draw, *which in sorted(parts, key=lambda part: -part[0]):
            draw(canvas, t, width, *which)
        if self.thing:  # the fingers are around the grips
            for hand in self.at['hands'][t]:
                canvas.disc(hand, 0.05 * metre, group.skin)

    def _leg(self, canvas, t, width, i):
        hip, knee, foot, toe = (
            self.at[name][t, i] for name in ('hips', 'knees', 'feet', 'toes'))
        trousers = shade(self.group.trousers, (1.0, 0.9)[i])
        canvas.line(hip, knee, 0.16 * width, trousers)
        canvas.line(knee, foot, 0.125 * width, trousers)
        canvas.line(foot, toe, 0.1 * width, self.group.shoes)

    def _arm(self, canvas, t, width, i):
        shoulder, elbow, hand = (
            self.at[name][t, i] for name in ('shoulders', 'elbows', 'hands'))
        sleeve = shade(self.group.jacket, 0.85)
        canvas.line(shoulder, elbow, 0.105 * width, sleeve)
        canvas.line(elbow, hand, 0.085 * width, sleeve)
        canvas.disc(hand, 0.05 * width, self.group.skin)

    def _trunk(self, canvas, t, width):
        jacket = self.group.jacket
        hip, neck = self.at['hip'][t], self.at['neck'][t]
        hips, shoulders = self.at['hips'][t], self.at['shoulders'][t]
        canvas.line(hip, neck + 0.15 * (hip - neck), 0.23 * width, jacket)
        waist = hip + 1.25 * (hips - hip)
        canvas.polygon([*shoulders, *waist[::-1]], jacket)
        canvas.line(*shoulders, 0.1 * width, jacket)
        for share in (0.3, 0.55):
            band = waist + share * (shoulders - waist)
            reach = 0.09 * width * abs(self.facing[0][t])
            band = band + np.array([[-reach, 0], [reach, 0]]) * (
                1 if band[0, 0] < band[1, 0] else -1)
            canvas.line(*band, 0.04 * width, self.group.stripe)

    def _head(self, canvas, t, width):
        group = self.group
        head, neck = self.at['head'][t], self.at['neck'][t]
        sine, cosine = self.facing[0][t], self.facing[1][t]
        radius = 0.115 * width / group.girth**0.5
        canvas.line(neck, head, 0.09 * width, shade(group.skin, 0.85))
        canvas.ellipse(head, (0.9 * radius, 1.1 * radius), group.skin)
        for eye in (-0.38, 0.38) if cosine > -0.2 else ():
            across = eye * cosine + 0.75 * sine
            if abs(across) < 0.85:
                canvas.disc(head + (across * radius, 0.12 * radius), 0.13 * radius, DARK)
        brow = head - (0, 0.2 * radius)
        canvas.ellipse(brow, (1.08 * radius, 1.15 * radius), group.helmet, (180, 360))
        brim = np.array([[-1.1 + 0.4 * min(sine, 0), 0], [1.1 + 0.4 * max(sine, 0), 0]])
        canvas.line(*(brow + brim * radius), 0.22 * radius, shade(group.helmet, 0.8))

    def _thing(self, canvas, t, width):
        for corners, colour in self.thing:
            canvas.polygon(corners[t], colour)


# ---- The cell ---------------------------------------------------------------------------


class Robot:
    """The robot arm, and the panel if it holds one."""

    def __init__(self, plan, group):
        camera, (x, y) = group.camera, group.robot
        shoulder = np.tile([x, y, 0.8], (len(plan.yaw), 1))
        pole = np.array([0.3 * group.robot_side, 0.1, 1.0])
        elbow, hand = two_bones(shoulder, plan.robot_hand, 0.85, 0.8, pole)
        self.joints = camera.project(np.stack([shoulder, elbow, hand], 1))
        self.foot = camera.project([x, y, 0])
        self.metre = camera.focal / y
        self.panel = None if plan.panel is None else camera.project(plan.panel)
        self.colour, self.depth, self.side = group.robot_colour, y, group.robot_side

    def draw(self, canvas, t):
        """Draws frame ``t``."""
        metre, colour = self.metre, self.colour
        shoulder, elbow, hand = self.joints[t]
        canvas.ellipse(self.foot, (0.32 * metre, 0.11 * metre), (60, 60, 64))
        canvas.line(self.foot - (0, 0.08 * metre), shoulder, 0.3 * metre, (84, 86, 92))
        canvas.line(shoulder, elbow, 0.2 * metre, colour)
        canvas.line(elbow, hand, 0.14 * metre, shade(colour, 0.9))
        for joint in (shoulder, elbow):
            canvas.disc(joint, 0.12 * metre, (70, 72, 78))
        for finger in (-0.08, 0.08):
            tip = hand + (-self.side * 0.16 * metre, finger * metre)
            canvas.line(hand + (0, finger * metre), tip, 0.045 * metre, DARK)
        palm = (0, 0.08 * metre)
        canvas.line(hand - palm, hand + palm, 0.06 * metre, DARK)
        if self.panel is not None:
            inner = self.panel[t].mean(0)
            canvas.polygon(self.panel[t], (84, 92, 108))
            canvas.polygon(inner + 0.9 * (self.panel[t] - inner), (116, 126, 144))


class Bench:
    """The low bench that things are picked up from and put down on."""

    def __init__(self, group):
        (x, y), top, project = group.bench, group.bench_height, group.camera.project
        self.depth, self.colour = y, group.bench_colour
        side = np.sign(x)
        # From the worker's end outwards, about 1 m long.
        near, far = x - side * 0.3, x + side * 0.7
        back, front = y + 0.25, y - 0.25
        self.top = project([(x, y, top) for x, y in _rectangle(near, far, front, back)])
        self.apron = project([(x, front, z)
                              for x, z in _rectangle(near, far, top - 0.14, top)])
        self.legs = [project([(end, depth, 0), (end, depth, top - 0.02)])
                     for depth in (y + 0.22, y - 0.24) for end in (near, far)]
        self.metre = group.camera.focal / y

    def draw(self, canvas, t):
        """Draws any frame: the bench does not move."""
        for foot, head in self.legs:
            canvas.line(foot, head, 0.06 * self.metre, shade(self.colour, 0.5))
        canvas.polygon(self.top, self.colour)
        canvas.polygon(self.apron, shade(self.colour, 0.7))


def draw_background(group, size):
    """Draws the empty cell, uint8 (H, W, 3): wall, floor, markings, shelves, posters."""
    rng, project = np.random.default_rng(group.background_seed), group.camera.project
    width, height = size
    image = np.empty((height, width, 3), np.uint8)
    image[:] = group.wall
    canvas = Canvas(image)
    edge, margin = project([0, WALL_DEPTH, 0])[1], 2 * DRAWING_SIZE[0]
    canvas.polygon([(-margin, edge), (margin, edge), (margin, margin), (-margin, margin)],
                   group.floor)

    def wall(*sides, colour):
        canvas.polygon(project([(x, WALL_DEPTH, z) for x, z in _rectangle(*sides)]), colour)

    def floor(*sides, colour):
        canvas.polygon(project([(x, y, 0) for x, y in _rectangle(*sides)]), colour)

    def lit(**spans):
        return shade(tone(rng, **spans), group.light)

    if rng.random() < 0.6:  # a painted dado
        wall(-9, 9, 0, rng.uniform(0.5, 1.3),
             colour=shade(group.wall, rng.uniform(0.75, 1.2)))
    for _ in range(rng.integers(2, 6)):  # posters, windows, cabinets
        x, z = rng.uniform(-5, 5), rng.uniform(0.2, 2.4)
        w, h = rng.uniform(0.3, 1.1, 2)
        colour = lit(saturation=(0, 0.3), value=(0.2, 0.95))
        wall(x - w, x + w, z, z + h, colour=shade(colour, 0.7))
        wall(x - w + 0.06, x + w - 0.06, z + 0.06, z + h - 0.06, colour=colour)
    for _ in range(rng.integers(0, 3)):  # shelves with boxes on them
        x = rng.uniform(-4.5, 4.5)
        for level in (0.1, 0.7, 1.3):
            for left in (x - 0.8 + 0.4 * k for k in range(4)):
                wall(left, left + rng.uniform(0.2, 0.38), level,
                     level + rng.uniform(0.15, 0.42),
                     colour=lit(saturation=(0.05, 0.4), value=(0.3, 0.85)))
            wall(x - 0.9, x + 0.9, level - 0.06, level, colour=shade(group.wall, 0.45))
    line = shade(group.floor, rng.uniform(0.82, 1.15))
    pitch, shift = rng.uniform(0.5, 1.4), rng.uniform(0, 1)
    for x in ((k + shift) * pitch for k in range(-12, 13)):
        canvas.line(*project([(x, 1.8, 0), (x, WALL_DEPTH, 0)]), 1, line)
    for depth in np.arange(2 + shift * pitch, WALL_DEPTH, pitch):
        canvas.line(*project([(-9, depth, 0), (9, depth, 0)]), 1, line)
    if rng.random() < 0.7:  # the marked edge of the cell
        tape, x = lit(hue=(0.08, 0.17), saturation=(0.6, 1)), rng.uniform(1, 3)
        for left in (-x, x):
            floor(left - 0.05, left + 0.05, 2, 6.6, colour=tape)
        floor(-x, x, 6.5, 6.6, colour=tape)
    # Uneven light: brighter to one side and towards one end of the floor.
    across, down = rng.uniform(-0.2, 0.2, 2)
    gain = (1 + across * np.linspace(-1, 1, width)[None, :, None] +
            down * np.linspace(-1, 1, height)[:, None, None])
    return np.clip(image * gain, 0, 255).astype(np.uint8)
