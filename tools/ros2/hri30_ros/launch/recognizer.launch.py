"""Starts the node, which configures and activates itself."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode


def generate_launch_description() -> LaunchDescription:
    defaults = dict(model=None, topic='image_raw', compressed='false', enter='0.6',
                    leave='0.4', autostart='true')  # None: required
    return LaunchDescription([
        *(DeclareLaunchArgument(one, default_value=defaults[one]) for one in defaults),
        LifecycleNode(
            package='hri30_ros', executable='recognizer', name='recognizer', namespace='',
            output='screen',
            parameters=[{one: LaunchConfiguration(one) for one in defaults}])])
