"""The 30 actions as movements: where body, thing and robot are at every frame.

- The worker faces the camera in all classes except walking, where the body is turned to the
  direction of walking, and those at the robot or the bench, where it is turned part of the
  way to them.
- *Forward* is towards the camera along the line of sight (larger, lower in the image),
  *backward* away from it. *Left* and *right* are the image's, so that a horizontal flip of
  a clip of a ``Left`` class is a clip of the ``Right`` class and vice versa.
- Only the motion shows the direction: place, step, hold and pauses are drawn alike for all
  eight directions, and the opposite direction is the same movement played backwards. The
  same holds for putting down and picking up.
"""

import numpy as np

from .motion import FPS, SIDES, Plan, axes, ease, smooth, sway, to_world, turn

MIN_FRAMES, MAX_FRAMES = 30, 60

#: Range of the midpoints of paths: as wide as the image allows, or the first frame would
#: show the direction. The bound on the image direction X / Y is the first number less the
#: second over the depth, since a near worker is wider.
MIDPOINT_BOUND = (0.43, 0.4)
MIDPOINT_DEPTH = (3.0, 4.6)  # m, log-uniform
LATERAL_STEP = (0.22, 0.32)  # in X / Y: 107 to 155 pixels of 720
DEPTH_STEP = (0.23, 0.33)  # in log depth: 25 to 40 % change of scale
DIAGONAL = 0.78  # share of each of the two steps in a diagonal one

#: Where the two hands grip a thing, along its two axes.
GRIPS = {
    'drill': ((-0.14, -0.16), (0.15, -0.06)),
    'polisher': ((-0.33, 0.02), (0.33, 0.02)),
    'box': ((-0.26, -0.02), (0.26, -0.02)),
}
#: Height of the centre of a thing that lies on the bench.
LYING_HEIGHT = {'drill': 0.34, 'polisher': 0.22, 'box': 0.19}


def grip(plan, one_hand=None):
    """Returns the hands with both on the thing, or only that of side ``one_hand``."""
    points = [plan.thing_at + a * plan.thing_axes[:, 0] + b * plan.thing_axes[:, 1]
              for a, b in GRIPS[plan.thing]]
    hands = plan.hands.copy()
    if one_hand is not None:
        hands[:, (one_hand + 1) // 2] = points[0]
        return hands
    # The nearer hand takes the nearer grip, so that arms do not cross.
    gap = (points[1] - points[0])[:, :2]
    across = np.stack([np.cos(plan.yaw), np.sin(plan.yaw)], -1)
    first = int((gap * across).sum() < 0)
    hands[:, first], hands[:, 1 - first] = points
    return hands


class Planner:
    """Draws the movement of one clip of a :class:`Group`, all of it from ``rng``.

    Clips of opposite classes planned from equal generators are mirror images or reversals
    of one another; the tests rely on it.
    """

    def __init__(self, group, rng):
        self.group, self.rng = group, rng
        self.size = group.height / 1.75
        self.num_frames = int(rng.integers(MIN_FRAMES, MAX_FRAMES + 1))

    def plan(self, name):
        """Plans a clip of class ``name``."""
        thing = next((thing for word, thing in (
            ('Drill', 'drill'), ('Polish', 'polisher'), ('Object', 'box')) if word in name),
            None)
        if name.startswith('Move'):
            return self.move(thing, *direction(name))
        if name.startswith('PutDown'):
            return self.pick_up(thing).reversed()
        plan = dict(Walking=self.walk, PickUp=self.pick_up, Using=self.use,
                    NoCollaborative=self.stand_by, Deliver=self.deliver)
        return next(plan for word, plan in plan.items() if name.startswith(word))(thing)

    # ---- Parts that the actions share

    def midpoint(self):
        """Draws a direction X / Y and a log depth."""
        log_depth = self.rng.uniform(*np.log(MIDPOINT_DEPTH))
        bound = MIDPOINT_BOUND[0] - MIDPOINT_BOUND[1] / np.exp(log_depth)
        return self.rng.uniform(-bound, bound), log_depth

    def cycle(self, low, high, pace=None, either_way=True):
        """Returns the phase (T, ) of a rhythm of ``low`` to ``high`` periods a second."""
        rng = self.rng
        rate = 2 * np.pi * rng.uniform(low, high)
        rate *= self.group.pace if pace is None else pace
        way = rng.choice((-1, 1)) if either_way else 1
        return rate * np.arange(self.num_frames) / FPS * way + rng.uniform(0, 2 * np.pi)

    def standing(self, root, yaw):
        """Plans a worker who stands at ``root`` with the arms down; without an axis of
        frames, both are the same in all frames."""
        rng, n = self.rng, self.num_frames
        root = np.broadcast_to(root, (n, 2)) + sway(n, rng, 0.012, (2, ))
        yaw = np.broadcast_to(yaw, n) + sway(n, rng, 0.04)
        feet = np.zeros((n, 2, 3))
        feet[:, :, 0] = rng.uniform(0.1, 0.17) * SIDES
        low = 0.82 * self.size
        hands = ((-0.27, 0.06, low), (0.27, 0.06, low)) + sway(n, rng, 0.02, (2, 3))
        return Plan(root, yaw, bend=0.04 + sway(n, rng, 0.03),
                    crouch=0.02 + np.abs(sway(n, rng, 0.02)), feet=feet,
                    hands=to_world(root, yaw, hands), robot_hand=self.robot_idle())

    def robot_idle(self):
        """Returns the gripper at rest; in half of the clips it moves a little."""
        side = self.group.robot_side
        rest = np.array([self.group.robot[0] - side * self.rng.uniform(0.45, 0.7),
                         self.group.robot[1] - 0.2, self.rng.uniform(1.15, 1.5)])
        amount = self.rng.choice((0, 0.06))
        return rest + sway(self.num_frames, self.rng, amount, (3, ))

    def hold_ready(self, plan, thing):
        """Puts the thing before the chest, to be held by both hands."""
        hand = self.group.hand
        centre = (0.03 * hand, 0.42, 1.12 * self.size) + self.rng.normal(0, 0.02, 3)
        plan.thing = thing
        plan.thing_at = to_world(plan.root, plan.yaw, centre[None])
        local = {'drill': ((-0.86 * hand, 0.42, -0.22), (0, 0.1, 1.0)),
                 'polisher': ((1.0, 0, 0.12 * hand), (0, 0.25, 1.0)),
                 'box': ((1.0, 0, 0), (0, 0, 1.0))}[thing]
        local = np.array(local) + self.rng.normal(0, 0.06, (2, 3))
        plan.thing_axes = turn(plan.yaw, axes(*local)[None])
        return plan

    def vibrate(self, plan, amount=0.012):
        """Adds the shaking of a running tool, different in every frame."""
        plan.thing_at = plan.thing_at + self.rng.normal(0, amount, plan.thing_at.shape)

    def hang(self, plan, thing, side, across, out=0.36, swing=0):
        """Hangs the thing from the hand of body side ``side``.

        Its flat outline spans the body axis ``across`` and the vertical. ``out`` is its
        distance from the body's middle, ``swing`` its offset to the front, of all frames.
        """
        centre = np.tile((out * side, 0.1, (0.44 + 0.66 * out) * self.size),
                         (self.num_frames, 1))
        centre[:, 1] += swing
        tilt = 0.55 if thing == 'drill' else 0.2
        plan.thing = thing
        plan.thing_at = to_world(plan.root, plan.yaw, centre)
        plan.thing_axes = turn(plan.yaw, axes(tilt * across - (0, 0, 1), across)[None])
        plan.hands = grip(plan, one_hand=side)

    # ---- The actions

    def move(self, tool, lateral, depth):
        """Moves with the running tool: ``lateral`` -1 left, +1 right, ``depth`` -1 forward,
        +1 backward, 0 neither."""
        rng, n = self.rng, self.num_frames
        middle = np.array(self.midpoint())
        step = np.array([rng.uniform(*LATERAL_STEP), rng.uniform(*DEPTH_STEP)])
        drift = rng.uniform(-0.08, 0.08, 2)  # nobody walks quite straight
        heading = np.array([lateral, depth], float)
        if lateral and depth:
            heading *= DIAGONAL
        else:
            heading += np.where(heading == 0, drift, 0)
        progress = ease(n, rng)
        path = middle + step * heading * (progress - 0.5)[:, None]
        distance = np.exp(path[:, 1])
        plan = self.standing(np.stack([path[:, 0] * distance, distance], -1),
                             self.group.yaw)
        plan.crouch += 0.05
        plan.bend += 0.08
        # The height of steps follows the speed, and they are almost on the spot, so that
        # the feet of one frame do not show the axis.
        phase = self.cycle(1.1, 1.5)
        vigour = np.minimum(np.gradient(progress) * n, 1)[:, None]
        swing = np.stack([phase, phase + np.pi], -1)
        plan.feet[..., 2] += 0.11 * vigour * np.maximum(np.sin(swing), 0)
        plan.crouch -= 0.02 * vigour[:, 0] * np.abs(np.sin(phase))
        self.hold_ready(plan, tool)
        self.vibrate(plan)
        plan.hands = grip(plan)
        return plan

    def walk(self, thing):
        """Walks across the cell, turned to the direction of walking."""
        rng, n = self.rng, self.num_frames
        side = rng.choice((-1, 1))
        heading = side * rng.uniform(np.radians(62), np.radians(112))
        ratio, depth = rng.uniform(-0.24, 0.24), rng.uniform(3.3, 4.5)
        length = rng.uniform(0.3, 0.48) * depth
        along = length * (ease(n, rng, (-0.15, 0.08)) - 0.5)
        plan = self.standing(np.stack([ratio * depth + along * np.sin(heading),
                                       depth - along * np.cos(heading)], -1), heading)
        phase = self.cycle(0.85, 1.1, either_way=False)
        swing = np.stack([phase, phase + np.pi], -1)
        plan.feet[..., 0] *= 0.6
        plan.feet[..., 1] += 0.3 * self.size * np.sin(swing)
        plan.feet[..., 2] += 0.12 * np.maximum(np.cos(swing), 0)
        plan.crouch += 0.05 * np.sin(phase)**2 + 0.03
        plan.hands = to_world(plan.root, plan.yaw, np.stack([
            np.broadcast_to(0.24 * SIDES, swing.shape),
            0.05 - 0.27 * self.size * np.sin(swing),
            (0.82 + 0.06 * np.sin(swing)**2) * self.size], -1))
        if thing == 'box':
            self.hold_ready(plan, thing)
            plan.hands = grip(plan)
        elif thing:
            # In the hand near the camera, outline along the direction of walking.
            self.hang(plan, thing, -side, np.array([0, 1, 0]), swing=0.1 * np.sin(phase))
        return plan

    def stand_by(self, tool):
        """Waits with the tool at the side while the robot works alone."""
        rng, n, hand = self.rng, self.num_frames, self.group.hand
        ratio, log_depth = self.midpoint()
        depth = np.exp(log_depth)
        plan = self.standing((ratio * depth, depth) + sway(n, rng, 0.03, (2, )),
                             self.group.yaw)
        self.hang(plan, tool, hand, np.array([hand, 0.1, 0]), out=0.48)
        phase = self.cycle(0.4, 0.8, pace=1)
        (x, y), side = self.group.robot, self.group.robot_side
        plan.robot_hand = np.stack([
            x - side * (0.5 + 0.4 * np.cos(phase)), np.full(n, y - 0.2),
            1.25 + rng.uniform(0.25, 0.4) * np.sin(phase)], -1)
        return plan

    def pick_up(self, thing):
        """Picks the thing up: from standing at the bench to the thing at the chest.

        The stage runs from 0 (hands off) over 0.5 (grasp) to 1 (held). Many clips begin or
        end near the grasp, so that the first or the last frame alone often leaves open
        whether it is picking up or putting down.
        """
        rng, n, group = self.rng, self.num_frames, self.group
        side = -group.robot_side
        begin, end = rng.uniform(0, 0.12), rng.uniform(0.88, 1)
        cut = rng.choice(3, p=(0.4, 0.3, 0.3))
        begin = rng.uniform(0.38, 0.48) if cut == 1 else begin
        end = rng.uniform(0.52, 0.62) if cut == 2 else end
        stage = begin + (end - begin) * ease(n, rng, (0, 0.2))

        gap = np.array([-side * rng.uniform(0.6, 0.72), rng.uniform(-0.05, 0.2)])
        bow = np.sin(np.pi * np.clip(stage, 0, 1))**2
        yaw = side * (0.35 + 0.25 * bow + rng.uniform(-0.1, 0.1))
        plan = self.standing(group.bench + gap, yaw)
        plan.bend = plan.bend + 0.75 * bow
        plan.crouch = plan.crouch + 0.2 * bow
        rest = plan.hands
        self.hold_ready(plan, thing)

        lying_at = np.array([group.bench[0] - side * rng.uniform(0.02, 0.16),
                             group.bench[1] + rng.uniform(-0.1, 0.05),
                             group.bench_height + LYING_HEIGHT[thing]])
        lying_axes = {'drill': axes((side, 0, 0), (0, 0, 1)),
                      'polisher': axes((1, 0, 0), (0, -0.1, 1)),
                      'box': axes((1, 0, 0), (0, 0, 1))}[thing]
        if thing == 'drill':  # the bit away from the body, to be visible
            plan.thing_axes = np.tile(axes((0.95 * side, -0.2, -0.2), (0, 0, 1)), (n, 1, 1))
        lifted = smooth((stage - 0.53) / 0.4)[:, None]
        plan.thing_at = (1 - lifted) * lying_at + lifted * plan.thing_at
        blend = ((1 - lifted[..., None]) * lying_axes +
                 lifted[..., None] * plan.thing_axes)
        plan.thing_axes = axes(blend[:, 0], blend[:, 1])
        reached = smooth((stage - 0.07) / 0.4)[:, None, None]
        plan.hands = (1 - reached) * rest + reached * grip(plan)
        return plan

    def at_robot(self, turned):
        """Plans a worker beside the robot, turned to it by ``turned`` degrees; returns the
        side (-1 or +1) of the robot too."""
        rng, side = self.rng, self.group.robot_side
        root = np.array(self.group.robot) + (-side * rng.uniform(1.3, 1.5),
                                             -rng.uniform(0.15, 0.5))
        yaw = side * np.radians(turned + rng.uniform(-8, 8))
        return self.standing(root, yaw), side

    def use(self, tool):
        """Presses the tool onto a panel that the robot holds."""
        rng, n = self.rng, self.num_frames
        plan, side = self.at_robot(turned=52)
        along = np.array([0.66 * side, -0.75, 0])  # the panel's level edge
        centre = np.append(plan.root.mean(0), 1.13 * self.size)
        centre = centre + (side * 0.74, -0.15, rng.uniform(-0.08, 0.08))
        phase = self.cycle(0.8, 1.4)
        plan.thing = tool
        if tool == 'drill':
            press = axes((0.97 * side, -0.1, -0.12), (0, 0, 1))
            push = rng.uniform(0.04, 0.07) * np.sin(phase)
            contact = centre - 0.42 * press[0]
            plan.thing_at = contact + push[:, None] * press[0]
            plan.bend = plan.bend + 0.1 + push
        else:
            press = axes(along, (0, 0, 1))
            radius = rng.uniform(0.1, 0.15)
            plan.thing_at = centre + radius * (
                np.cos(phase)[:, None] * press[0] +
                np.sin(phase)[:, None] * press[1]) - (side * 0.05, 0.05, 0)
            plan.bend = plan.bend + 0.12
        plan.thing_axes = np.tile(press, (n, 1, 1))
        self.vibrate(plan, 0.008)
        plan.hands = grip(plan)
        shake = sway(n, rng, 0.01, (3, ))
        half, up = 0.42 * along, np.array([0, 0, 0.4])
        corners = np.array([up - half, half + up, half - up, -half - up])
        plan.panel = (centre + corners)[None] + shake[:, None]
        plan.robot_hand = centre + 0.3 * along + shake + (0, 0.03, 0)
        return plan

    def deliver(self, thing):
        """Holds the thing out to the robot, which takes it."""
        rng, n = self.rng, self.num_frames
        plan, side = self.at_robot(turned=50)
        idle = plan.robot_hand
        reach = ease(n, rng, (-0.05, 0.3))
        take = smooth((reach - 0.75) / 0.25)[:, None]
        reach = smooth(reach / 0.75)[:, None]
        self.hold_ready(plan, thing)
        handover = np.append(plan.root.mean(0), 1.12 * self.size) + (side * 0.68, -0.2, 0)
        plan.thing_at = (1 - reach) * plan.thing_at + reach * handover
        plan.hands = grip(plan) + take[..., None] * (-side * 0.12, 0, -0.06)
        pulled = take * (side * 0.25, 0.03, 0.05)
        plan.thing_at = plan.thing_at + pulled
        plan.robot_hand = ((1 - reach) * idle + reach * (
            handover + (side * 0.24, 0, 0.05))) + pulled
        return plan


def direction(name):
    """Returns the lateral (-1 left, +1 right) and depth (-1 towards the camera) direction.

    >>> direction('MoveDiagonallyForwardRightWithDrill')
    (1, -1)
    """
    return ('Right' in name) - ('Left' in name), ('Backward' in name) - ('Forward' in name)
