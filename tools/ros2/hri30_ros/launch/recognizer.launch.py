"""Starts the node, configures and activates it."""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

# None: required.
ARGUMENTS = dict(model=None, topic='image_raw', compressed='false', enter='0.6',
                 leave='0.4')


def generate_launch_description() -> LaunchDescription:
    node = LifecycleNode(
        package='hri30_ros', executable='recognizer', name='recognizer', namespace='',
        output='screen', parameters=[{one: LaunchConfiguration(one) for one in ARGUMENTS}])
    configure, activate = (EmitEvent(event=ChangeState(
        lifecycle_node_matcher=matches_action(node), transition_id=transition))
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE))
    return LaunchDescription([
        *(DeclareLaunchArgument(one, default_value=ARGUMENTS[one]) for one in ARGUMENTS),
        RegisterEventHandler(OnStateTransition(
            target_lifecycle_node=node, start_state='configuring', goal_state='inactive',
            entities=[activate])),
        node, configure])
