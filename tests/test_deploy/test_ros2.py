"""tools/ros2/hri30_ros, without ROS: bags by rosbags, and a stand-in for rclpy.

The stand-in has the interfaces of rclpy that the node uses, as its source has them; it
shows no more than that the node calls them so.
"""

import io
import json
import re
import subprocess
import sys
import types
from functools import partial
from types import SimpleNamespace
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
from conftest import run_tool
from PIL import Image as Picture
from test_deploy.serving import wait_for

from hri30_ext.config import PROJECT_ROOT
from hri30_ext.deploy.runtime.streaming import Event, FrameQueue
from hri30_ext.deploy.runtime.video_io import FileSource
from hri30_ext.errors import HRI30Error

pytest.importorskip('onnxruntime', reason='the extra "deploy" is not installed')
rosbag2 = pytest.importorskip('rosbags.rosbag2', reason='the extra "dev" is not installed')
from rosbags.typesys import Stores, get_types_from_msg, get_typestore  # noqa: E402

PACKAGE = PROJECT_ROOT / 'tools' / 'ros2' / 'hri30_ros'
#: Any second of this century; rounding of float64 is 0.2 us there.
BEGIN = 1_700_000_000
#: vision_msgs 4, which no store of rosbags has.
VISION = {'ObjectHypothesis': 'string class_id\nfloat64 score\n',
          'Classification': ('std_msgs/Header header\n'
                             'vision_msgs/ObjectHypothesis[] results\n')}
# With few classes and a small model, scores are low.
EAGER = dict(enter=0.4, leave=0.3, min_seconds=0.0, window_seconds=0.5, hop=0.1)


@pytest.fixture(scope='module')
def store():
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in VISION.items():
        store.register(get_types_from_msg(text, f'vision_msgs/msg/{name}'))
    return store


@pytest.fixture(scope='module')
def package():
    """The modules of the package; node.py is imported by tests that stand in for rclpy."""
    sys.path.insert(0, str(PACKAGE))
    try:
        import hri30_ros.bridge
        yield hri30_ros
    finally:
        sys.path.remove(str(PACKAGE))


@pytest.fixture(scope='module')
def clip(clips_root):
    return sorted((clips_root / 'train_set').glob('*.avi'))[0]


def header(store, seconds):
    nanoseconds = round(seconds * 1e9)
    stamp = store.types['builtin_interfaces/msg/Time'](
        BEGIN + nanoseconds // 10**9, nanoseconds % 10**9)
    return store.types['std_msgs/msg/Header'](stamp, 'camera')


def image(store, pixels, seconds=0., encoding='rgb8', step=None, **others):
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels).view(np.uint8).reshape(height, -1)
    step = step or data.shape[1]
    data = np.pad(data, ((0, 0), (0, step - data.shape[1]))).ravel()
    return store.types['sensor_msgs/msg/Image'](**{**dict(
        header=header(store, seconds), height=height, width=width, encoding=encoding,
        is_bigendian=0, step=step, data=data), **others})


def write_bag(path, store, topics):
    """Writes messages of {topic: (type, messages)}; their stamps are times in the bag."""
    with rosbag2.Writer(path, version=9) as writer:
        for topic, (kind, messages) in topics.items():
            connection = writer.add_connection(topic, kind, typestore=store)
            for message in messages:
                stamp = message.header.stamp
                writer.write(connection, stamp.sec * 10**9 + stamp.nanosec,
                             store.serialize_cdr(message, kind))


def read_bag(path, store):
    with rosbag2.Reader(path) as reader:
        return [store.deserialize_cdr(data, connection.msgtype)
                for connection, _, data in reader.messages()]


def without_latency(event, begin=0):
    """An event without what the machine decides, on a clock that starts at 0."""
    return {name: pytest.approx(value - begin, abs=2e-4)
            if name in ('time', 'start', 'end') else value
            for name, value in event.items() if name not in ('latency_ms', 'dropped')}


@pytest.fixture(scope='module')
def streamed(clip, onnx_folder, tmp_path_factory):
    """Events of stream.py on the clip, frame by frame."""
    result = run_tool(
        'stream', '--model', onnx_folder, '--source', clip, '--predictions',
        '--threads', 1, '--threshold', EAGER['enter'], '--leave', EAGER['leave'],
        '--min-seconds', 0, '--window-seconds', EAGER['window_seconds'],
        '--hop', EAGER['hop'], cwd=tmp_path_factory.mktemp('streamed'))
    assert result.returncode == 0, result.stderr
    *events, summary = map(json.loads, result.stdout.splitlines())
    assert summary['predictions'] > 10 and 'start' in [one['event'] for one in events]
    return events


# ---- Messages that are not as expected ---------------------------------------------------

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
GREY = RGB[..., 0]


@pytest.mark.parametrize(('encoding', 'pixels', 'others'), [
    ('rgb8', RGB, dict(step=32)), ('bgr8', RGB[..., ::-1], dict(step=25)),
    ('bgra8', np.dstack((RGB[..., ::-1], GREY)), {}),
    ('rgba8', np.dstack((RGB, GREY)), {}), ('mono8', GREY, dict(step=11)),
    ('mono16', GREY.astype('<u2') << 8 | 7, {}),
    ('mono16', (GREY.astype('>u2') << 8 | 7).astype('>u2'), dict(is_bigendian=1))])
def test_encodings(store, package, encoding, pixels, others):
    message = image(store, pixels, encoding=encoding, **others)
    expected = np.dstack((GREY, ) * 3) if 'mono' in encoding else RGB
    assert np.array_equal(package.bridge.decode_image(message), expected)


@pytest.mark.parametrize(('encoding', 'code', 'chroma'), [
    ('yuv422', cv2.COLOR_YUV2RGB_UYVY, 0), ('yuv422_yuy2', cv2.COLOR_YUV2RGB_YUY2, 1)])
def test_yuv_is_as_opencv_converts_it(store, package, encoding, code, chroma):
    pixels = np.random.default_rng(0).integers(90, 160, (6, 8, 2), np.uint8)
    pixels[:, ::2, chroma], pixels[:, 1::2, chroma] = 100, 150  # OpenCV has steps of colour
    message = image(store, pixels, encoding=encoding)
    difference = (package.bridge.decode_image(message).astype(int)
                  - cv2.cvtColor(pixels, code))
    assert abs(difference).max() <= 3  # of 255; a wrong order is off by up to 90


@pytest.mark.parametrize(('order', 'row', 'column'), [
    ('rggb', 0, 0), ('bggr', 1, 1), ('gbrg', 1, 0), ('grbg', 0, 1)])
def test_the_red_pixels_of_bayer_images_are_red(store, package, order, row, column):
    pixels = np.zeros((8, 8), np.uint8)
    pixels[row::2, column::2] = 200
    found = package.bridge.decode_image(image(store, pixels, encoding=f'bayer_{order}8'))
    assert found[2:-2, 2:-2].reshape(-1, 3).max(axis=0).tolist() == [200, 0, 0]
    assert found[2:-2, 2:-2, 0].min() >= 100


def test_a_compressed_image(store, package):
    plain, file = np.full((16, 16, 3), (200, 100, 50), np.uint8), io.BytesIO()
    Picture.fromarray(plain).save(file, 'JPEG', quality=95)
    message = store.types['sensor_msgs/msg/CompressedImage'](
        header(store, 0), 'rgb8; jpeg compressed bgr8',
        np.frombuffer(file.getvalue(), np.uint8))
    assert abs(package.bridge.decode_image(message).astype(int) - plain).max() <= 3


@pytest.fixture
def bridge(package, onnx_folder):
    """With a list of its reports."""
    reports = []
    made = package.bridge.Bridge(package.bridge.Settings.create(
        model=str(onnx_folder), threads=1, **EAGER), reports.append)
    return SimpleNamespace(push=made.push, reports=reports, stream=made.stream)


@pytest.mark.parametrize(('others', 'reason'), [
    (dict(encoding='16UC1'), 'the encoding 16UC1 is not supported, expected one of rgb8'),
    (dict(encoding='a\x1b[2J'), r'the encoding a\x1b[2J is not'),
    (dict(height=7), '8 x 7 rgb8 with rows of 24 bytes do not fit 144 bytes'),
    (dict(width=9), '9 x 6 rgb8 with rows of 24 bytes'), (dict(width=0), '0 x 6 rgb8'),
    (dict(format='png'), 'not a whole JPEG')])
def test_a_message_that_cannot_be_used_is_reported_once(store, bridge, others, reason):
    good, bad = (vars(image(store, RGB, 0.1 * i)).copy() for i in (1, 2))
    bad = SimpleNamespace(**{**bad, **others})
    for message in (bad, bad, SimpleNamespace(**good), bad):
        assert bridge.push(message) == (None, [])
    assert len(bridge.reports) == 1 and reason in bridge.reports[0]
    assert bridge.stream.frames == 1


def test_stamps_that_jump_back_start_the_stream_again(store, bridge):
    events = []
    for seconds in (*np.arange(8, 9, 0.1), *np.arange(0, 1, 0.1), *np.arange(7, 8, 0.1)):
        latest, new = bridge.push(image(store, RGB, seconds))
        events += [(one['reason'], one['time'] - BEGIN) for one in new
                   if one['event'] == 'reset']
    assert events == [('back', 0), ('gap', 7)] and latest
    assert bridge.reports == [
        'the stream starts again: header.stamp jumped back',
        'the stream starts again: no image for longer than a window']


def test_images_without_stamps_have_times_of_arrival(store, bridge, monkeypatch):
    monkeypatch.setattr('hri30_ros.bridge.clock', SimpleNamespace(
        time=iter([50., 50.25, 50.5]).__next__))
    message = image(store, RGB)
    message.header.stamp = SimpleNamespace(sec=0, nanosec=0)
    found = [bridge.push(message)[0] for _ in range(3)]
    assert found[:2] == [None, None] and found[2].time == 50.5
    assert len(bridge.reports) == 1 and 'header.stamp is 0' in bridge.reports[0]


def test_parameters_are_checked(package):
    for settings in (dict(queue=0), dict(enter='high')):
        with pytest.raises(HRI30Error, match=rf'\.{next(iter(settings))}'):
            package.bridge.Settings.create(**settings)


# ---- The node ----------------------------------------------------------------------------


def test_without_rclpy_a_message_says_what_to_install():
    done = subprocess.run([sys.executable, '-c', 'import hri30_ros as r; exit(r.main())'],
                          cwd=PACKAGE, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, '')
    assert 'error: the Python package rclpy is not found' in done.stderr
    assert 'Traceback' not in done.stderr


class StandIn:
    """What rclpy's lifecycle nodes have, as far as the node uses it; ``ros`` records."""

    def __init__(self, name):
        self.parameters, self.ros = {}, Mock()
        self.ros.get_topic_names_and_types.return_value = [
            ('/chatter', ['std_msgs/msg/String']),
            ('/front/image', ['sensor_msgs/msg/Image'])]
        self.ros.count_publishers.return_value = 0
        self.ros.create_subscription.return_value.topic_name = '/image_raw'

    def __getattr__(self, name):
        return getattr(self.ros, name)

    def declare_parameter(self, name, value, descriptor):
        assert descriptor.dynamic_typing
        self.parameters.setdefault(name, value)

    def get_parameter(self, name):
        return SimpleNamespace(value=self.parameters[name])

    def trigger_configure(self):
        return self.on_configure(None)

    def trigger_activate(self):
        return self.on_activate(None)

    def _succeed(self, state):
        return 'success'

    on_configure = on_activate = on_deactivate = on_cleanup = _succeed

    def sent(self, field):
        """Returns the published messages that have a field."""
        publish = self.ros.create_lifecycle_publisher.return_value.publish
        return [call.args[0] for call in publish.call_args_list
                if hasattr(call.args[0], field)]

    def log(self, level='warning'):
        """Returns what was logged."""
        calls = getattr(self.ros.get_logger.return_value, level).call_args_list
        return [call.args[0] for call in calls]


@pytest.fixture
def node(store, package, monkeypatch):
    """The node above the stand-in, with the messages of rosbags."""
    def module(name, **content):
        made = types.ModuleType(name)
        vars(made).update(content)
        monkeypatch.setitem(sys.modules, name, made)

    def messages(package, *names):
        module(package)
        module(f'{package}.msg', **{
            name: store.types[f'{package}/msg/{name}'] for name in names})

    module('rclpy', init=lambda: None, spin=lambda node: None, try_shutdown=lambda: None)
    module('rclpy.executors', ExternalShutdownException=OSError)
    module('rclpy.lifecycle', LifecycleNode=StandIn,
           TransitionCallbackReturn=SimpleNamespace(FAILURE='failure', SUCCESS='success'))
    module('rclpy.qos', qos_profile_sensor_data='sensor data')
    module('rcl_interfaces')
    module('rcl_interfaces.msg', ParameterDescriptor=SimpleNamespace)
    messages('sensor_msgs', 'Image', 'CompressedImage')
    messages('std_msgs', 'String')
    messages('vision_msgs', 'Classification', 'ObjectHypothesis')
    from hri30_ros.node import RecognizerNode
    yield RecognizerNode()
    del sys.modules['hri30_ros.node']


def test_the_node_lives_through_its_states(node, store, streamed, clip, onnx_folder,
                                           tmp_path):
    assert node.on_configure(None) == 'failure'  # without a model
    assert '.model' in node.log('error')[0]
    frames = list(iter(FileSource([clip]).read, None))
    node.parameters.update(EAGER, model=str(onnx_folder), threads=1, queue=len(frames),
                           predictions=True, stall_seconds=3600, provider='cpu')
    assert node.on_configure(None) == node.on_activate(None) == 'success'
    _, _, send, quality = node.ros.create_subscription.call_args.args
    tick = node.ros.create_timer.call_args.args[1]
    tick()
    assert quality == 'sensor data' and not node.log() and not node.sent('data')
    node._seen -= 3600  # seconds of silence
    tick(), tick()
    lost, = node.log()
    assert lost.startswith('/image_raw: ') and '/front/image (sensor' in lost
    stream = node._bridge.stream
    write_bag(tmp_path / 'bag', store, {'/image_raw': ('sensor_msgs/msg/Image', [
        image(store, frame.image, frame.time) for frame in frames])})
    for message in read_bag(tmp_path / 'bag', store):
        before = stream.frames
        send(message)
        wait_for(partial(lambda count: stream.frames > count, before))  # as for a file
    assert node.on_deactivate(None) == node.on_cleanup(None) == 'success'
    node.ros.destroy_subscription.assert_called_once()
    node.ros.destroy_timer.assert_called_once()
    assert node.log()[1:] == ['images again'] and node._bridge is None
    events = [json.loads(message.data) for message in node.sent('data')]
    assert [event['state'] for event in events[:2]] == ['lost', 'back']
    assert [without_latency(event, BEGIN) for event in events[2:]] == [
        without_latency(event) for event in streamed]
    write_bag(tmp_path / 'out', store, {'/recognizer/predictions': (
        'vision_msgs/msg/Classification', node.sent('results'))})
    tops = [event['top'] for event in streamed if event['event'] == 'prediction']
    assert [[[one.class_id, round(one.score, 4)] for one in message.results]
            for message in read_bag(tmp_path / 'out', store)] == tops


@pytest.mark.parametrize('works', [True, False])
def test_a_node_that_starts_itself(node, onnx_folder, monkeypatch, works):
    module, nodes = sys.modules['hri30_ros.node'], []
    parameters = dict(EAGER, autostart=True, model=str(onnx_folder) if works else '/none')

    class Node(module.RecognizerNode):
        def declare_parameter(self, name, value, descriptor):
            super().declare_parameter(name, parameters.get(name, value), descriptor)

    def spin(node):
        nodes.append(node)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, 'RecognizerNode', Node)
    monkeypatch.setattr(sys.modules['rclpy'], 'spin', spin)
    module.spin()
    assert nodes[0].ros.create_subscription.called == works
    assert works or '/none' in nodes[0].log('error')[0]


def test_an_unknown_action_has_no_classes(node):
    node._queue = FrameQueue(2, live=True)
    node._bridge = SimpleNamespace(stream=SimpleNamespace(), push=lambda unknown, *_: (
        Event('prediction', 0., top=[('Wave', .9)], unknown=unknown.header), []))
    for unknown in (True, False):
        node._queue.put((SimpleNamespace(header=unknown), 0.))
    node._queue.end()
    node._recognize()
    assert [[one.class_id for one in message.results]
            for message in node.sent('results')] == [[], ['Wave']]


def test_the_package_is_of_this_version():
    settings = (PROJECT_ROOT / 'setup.cfg').read_text('utf-8')
    version = re.search(r'^version = (.+)$', settings, re.MULTILINE)[1]
    assert f"version='{version}'" in (PACKAGE / 'setup.py').read_text('utf-8')
    assert f'<version>{version}</version>' in (PACKAGE / 'package.xml').read_text('utf-8')
