"""A ROS 2 node that recognizes actions; docs/ros2.md of the project describes it."""

import sys


def main() -> int:
    """Runs the node; returns 2 with a message where a package is missing."""
    try:
        from .node import spin
    except ImportError as error:
        print(f'error: the Python package {error.name} is not found.\nrclpy and messages '
              'are part of ROS 2: source /opt/ros/DISTRO/setup.bash, and install '
              'ros-DISTRO-vision-msgs. The others: see docs/ros2.md.', file=sys.stderr)
        return 2
    spin()
    return 0
