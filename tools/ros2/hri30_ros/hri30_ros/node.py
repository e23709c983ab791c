"""The lifecycle node; what it computes is in :mod:`.bridge`."""

import contextlib
import json
import threading
import time as clock

import rclpy
from msgspec.structs import fields
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from vision_msgs.msg import Classification, ObjectHypothesis

from hri30_ext.deploy.runtime.streaming import FrameQueue

from .bridge import Bridge, Settings


class RecognizerNode(LifecycleNode):
    """Loads the model when it is configured, and subscribes while it is active."""

    def __init__(self) -> None:
        super().__init__('recognizer')
        self._bridge = self._worker = None
        self._results = self.create_lifecycle_publisher(Classification, '~/predictions', 10)
        self._events = self.create_lifecycle_publisher(String, '~/events', 10)
        for field in fields(Settings):
            # Settings checks types, with a message where rclpy raises an exception.
            self.declare_parameter(field.name, field.default,
                                   ParameterDescriptor(dynamic_typing=True))

    def on_configure(self, state) -> TransitionCallbackReturn:
        try:
            self._settings = Settings.create(**{
                field.name: self.get_parameter(field.name).value
                for field in fields(Settings)})
            self._bridge = Bridge(self._settings, self.get_logger().warning)
        except Exception as error:  # rclpy would drop it without a message
            self.get_logger().error(str(error))
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state) -> TransitionCallbackReturn:
        self._queue = FrameQueue(self._settings.queue, live=True)
        self._subscription = self.create_subscription(
            CompressedImage if self._settings.compressed else Image, self._settings.topic,
            self._take, qos_profile_sensor_data)
        self._seen, self._lost = clock.monotonic(), False
        self._timer = self.create_timer(self._settings.stall_seconds / 4, self._look)
        # Images arrive while the model computes.
        self._worker = threading.Thread(target=self._recognize, daemon=True)
        self._worker.start()
        return super().on_activate(state)

    def on_deactivate(self, state) -> TransitionCallbackReturn:
        self._publish(self.stop())
        return super().on_deactivate(state)

    def on_cleanup(self, state) -> TransitionCallbackReturn:
        self.stop()
        self._bridge = None
        return super().on_cleanup(state)

    on_shutdown = on_error = on_cleanup

    def stop(self) -> list[dict]:
        """Unsubscribes; returns the last events."""
        if not self._worker:
            return []
        self.destroy_timer(self._timer)
        self.destroy_subscription(self._subscription)
        self._queue.stop()
        self._worker.join()
        self._worker = None
        return self._bridge.close()

    def _take(self, message) -> None:
        self._seen = clock.monotonic()
        self._queue.put((message, self._seen))
        if self._lost:
            self._tell('back', 'images again')

    def _look(self) -> None:
        seconds, topic = self._settings.stall_seconds, self._subscription.topic_name
        if not self._lost and clock.monotonic() - self._seen >= seconds:
            topics = [f'{name} ({kind})' for name, kinds in self.get_topic_names_and_types()
                      for kind in kinds if kind.endswith('Image')]
            self._tell('lost', (
                f'{topic}: no image for {seconds:g} s, {self.count_publishers(topic)} '
                'publishers. If it was renamed or has another type, set topic and '
                f'compressed. Image topics: {", ".join(topics) or "none"}'))

    def _tell(self, state: str, message: str) -> None:
        self._lost = state == 'lost'
        self.get_logger().warning(message)
        self._publish([dict(event='camera', state=state, message=message)])

    def _recognize(self) -> None:
        for (message, captured), more in self._queue:
            self._bridge.stream.dropped = self._queue.dropped
            latest, events = self._bridge.push(message, captured, more)
            if not self.context.ok():  # Ctrl-C: nothing can be published any more
                return
            if latest:
                self._results.publish(Classification(header=message.header, results=[
                    ObjectHypothesis(class_id=name, score=score)
                    for name, score in latest.top if not latest.unknown]))
            self._publish(events)

    def _publish(self, events: list[dict]) -> None:
        for event in events:
            self._events.publish(String(data=json.dumps(event, ensure_ascii=False)))


def spin() -> None:
    """Runs the node until Ctrl-C or the end of ROS."""
    rclpy.init()
    node = RecognizerNode()
    if node.get_parameter('autostart').value and (
            node.trigger_configure() == TransitionCallbackReturn.SUCCESS):
        node.trigger_activate()
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)
    node.stop()
    rclpy.try_shutdown()
