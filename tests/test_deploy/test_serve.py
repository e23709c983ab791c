"""The service, asked through its own protocol: what it answers, and what it survives."""

import contextlib
import errno
import io
import itertools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import av
import cv2
import httpx
import numpy as np
import pytest
from bad_decoder import MARKS
from conftest import HRI30, call_hri30
from nightly.stress.service import measure
from starlette.websockets import WebSocketDisconnect
from test_deploy.serving import (
    CLASSES,
    TOKEN,
    FakeRecognizer,
    TestClient,
    running,
    wait_for,
)
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from hri30_ext.deploy.serve.app import create_app
from hri30_ext.deploy.serve.guards import CONTENT_SECURITY_POLICY, Access
from hri30_ext.deploy.serve.preview import read_preview
from hri30_ext.deploy.serve.settings import Settings
from hri30_ext.video import decode
from hri30_ext.video.decode import read_clip

STREAM = 'ws://localhost/v1/stream'
# Of an upload of so many bytes.
BEGIN = (b'POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n'
         b'Content-Type: multipart/form-data; boundary=x\r\n\r\n')


@pytest.fixture(scope='module')
def clip(clips_root):
    """The path of a clip, 96 x 64 pixels."""
    return sorted(clips_root.rglob('*.avi'))[0]


@pytest.fixture
def open_service():
    """Returns a function that makes a service, asked without a network."""
    with contextlib.ExitStack() as stack:
        def make(recognizer=None, token=None, hosts=(), **limits):
            app = create_app(recognizer or FakeRecognizer(), Settings(**limits),
                             Access(token, hosts))
            return stack.enter_context(TestClient(app, 'http://localhost',
                                                  raise_server_exceptions=False))
        yield make


def send(client, content, path='/v1/predict', name='clip.avi', **options):
    """Uploads the content of a file."""
    return client.post(path, files={'clip': (name, content)}, **options)


def form(content):
    """Returns a form with a file, and its content type."""
    request = httpx.Request('POST', 'http://localhost', files={'clip': content})
    return request.read(), request.headers['Content-Type']


def refusal(response):
    """The status and the code of an error; its form is checked."""
    error = response.json()['error']
    assert set(error) == {'code', 'message'} and error['message']
    return response.status_code, error['code']


# ---- Clips -----------------------------------------------------------------------------


def test_a_clip_is_recognized(open_service, clip):
    seen = []

    class Recorder(FakeRecognizer):
        def answer(self, views_NTHWC):
            seen.append(views_NTHWC)
            return super().answer(views_NTHWC)

    recognizer = Recorder()
    client = open_service(recognizer)
    found = send(client, clip.read_bytes(), params={'top_k': 2}).json()
    assert found['name'] == 'PutDownDrill'
    assert found['score'] == pytest.approx(.8) and found['scores'] == pytest.approx(
        [.1, .8, .1])
    assert [one['name'] for one in found['top']] == ['PutDownDrill', 'PickUpDrill']
    capture, count = cv2.VideoCapture(str(clip)), 0
    while capture.grab():
        count += 1
    assert found['clip'] == dict(frames=count, width=96, height=64, fps=30,
                                 seconds=pytest.approx((count - 1) / 30, abs=.001))
    # What the model saw is what it sees of the frames of the file.
    np.testing.assert_array_equal(seen[0], read_clip(clip, recognizer.info.preprocessing))


def test_a_video_for_the_page(open_service, clip):
    client = open_service()
    answer = send(client, clip.read_bytes(), '/v1/preview')
    assert answer.headers['Content-Type'] == 'video/webm'
    with av.open(str(clip)) as before, av.open(io.BytesIO(answer.content)) as after:
        frames = (video.decode(video=0) for video in (before, after))
        for old, new in itertools.zip_longest(*frames):
            assert new.time == pytest.approx(old.time, abs=.001)
            old, new = (frame.to_ndarray(format='rgb24').astype(float)
                        for frame in (old, new))
            assert old.shape == new.shape and abs(old - new).mean() < 8
    with pytest.raises(decode.ClipError, match='too large'):
        read_preview(str(clip), {}, 1000)


def test_an_upload_has_no_name(open_service, clip, tmp_path, monkeypatch):
    seen = []

    async def decode_clip(path, preprocessing, settings):
        seen.append((path.read_bytes(), os.stat(path).st_nlink, path))
        raise decode.ClipError('clip', 'x')

    monkeypatch.setattr('hri30_ext.deploy.serve.app.decode_clip', decode_clip)
    monkeypatch.chdir(tmp_path)
    client = open_service()
    for name in ('../../x', '/etc/passwd', 'a\0b', 'ü.avi', 'x' * 999, '-i'):
        for size in (0, 2**21):  # in memory at first, and on the disk
            content = clip.read_bytes() + bytes(size)
            body = (b'--limit\r\nContent-Disposition: form-data; name="clip"; filename="'
                    + name.replace('"', '\\"').encode() + b'"\r\n\r\n' + content
                    + b'\r\n--limit--\r\n')
            assert client.post('/v1/predict', content=body, headers={
                'Content-Type': 'multipart/form-data; boundary=limit'}).status_code == 422
            read, links, path = seen.pop()
            assert read == content and links == 0 and not path.exists()
    assert os.listdir(tmp_path) == []


def test_what_is_no_clip(open_service, clip):
    client = open_service()
    whole = clip.read_bytes()
    picture = cv2.imencode('.png', np.zeros((64, 96, 3), np.uint8))[1].tobytes()
    for content in (b'', whole[:200], picture,  # and a list that names another file
                    f"ffconcat version 1.0\nfile '{clip}'\n".encode()):
        assert refusal(send(client, content)) == (422, 'not_a_video')
    # What is left of a clip that was cut is recognized.
    found = send(client, whole[:len(whole) // 2]).json()
    assert 5 < found['clip']['frames'] < 30


@pytest.mark.parametrize('limit, code', [
    (dict(max_clip_seconds=.5), 'too_long'), (dict(max_clip_frames=10), 'too_long'),
    (dict(max_frame_pixels=96 * 64 - 1), 'frame_too_large'),
    (dict(decoder_memory_bytes=2**20), 'decoder_failed')])
def test_limits_of_a_clip(open_service, clip, limit, code):
    client = open_service(**limit)
    for path in ('/v1/predict', '/v1/preview'):
        assert refusal(send(client, clip.read_bytes(), path)) == (422, code)


def test_uploads_that_are_too_large(open_service):
    client = open_service(max_upload_bytes=100_000)
    assert refusal(send(client, bytes(100_001))) == (413, 'upload_too_large')
    assert send(client, bytes(99_000)).status_code == 422
    body, kind = form(bytes(10_000_000))
    # Without a length, it is seen while it is read.
    response = client.post('/v1/predict', headers={'Content-Type': kind}, content=(
        body[begin:begin + 10_000] for begin in range(0, len(body), 10_000)))
    assert refusal(response) == (413, 'upload_too_large')


def connection(url):
    """Connects to a service."""
    host, port = url.removeprefix('http://').split(':')
    return socket.create_connection((host, int(port)), timeout=10)


@pytest.mark.parametrize('limit, begin, status', [
    (dict(max_upload_bytes=1000), BEGIN % 9_999_999, b'413'),
    (dict(upload_seconds=.3), BEGIN % 999 + b'--x', b'408')])
def test_the_begin_of_an_upload_is_enough_to_refuse(limit, begin, status):
    with running(**limit) as (url, _), connection(url) as link:
        link.sendall(begin)
        assert link.recv(9999).startswith(b'HTTP/1.1 ' + status)


def test_who_does_not_take_the_video_is_cut(clip, monkeypatch):
    async def preview_clip(path, settings):
        return bytes(64 * 2**20)
    monkeypatch.setattr('hri30_ext.deploy.serve.app.preview_clip', preview_clip)
    body, kind = form(clip.read_bytes())
    with running(max_requests=1, upload_seconds=1.5) as (url, app), connection(url) as link:
        head = (BEGIN % len(body)).replace(b'predict', b'preview')
        link.sendall(head.replace(b'multipart/form-data; boundary=x', kind.encode()) + body)
        assert link.recv(100).startswith(b'HTTP/1.1 200')
        assert app.state.service.requests == 1
        wait_for(lambda: app.state.service.requests == 0)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while part := link.recv(2**20):
                taken += len(part)
    # What the system's buffers held.
    assert taken < 32 * 2**20


def test_forms_that_are_not_as_expected(open_service, clip):
    client, content = open_service(), clip.read_bytes()
    for expected, code, options in (
            (422, 'invalid', dict(content=content)),
            (422, 'invalid', dict(json={'clip': 1})),
            (422, 'invalid', dict(data={'clip': 'a'})),
            (422, 'invalid', dict(files={'video': ('a.avi', content)})),
            (422, 'invalid', dict(files={'clip': ('a', content)}, params={'top_k': 0})),
            (400, 'bad_request', dict(content=b'--x', headers={
                'Content-Type': 'multipart/form-data'}))):
        assert refusal(client.post('/v1/predict', **options)) == (expected, code), options
    for method, path, expected in (('GET', '/v1/predict', 405), ('GET', '/nothing', 404),
                                   ('GET', '/docs', 404)):
        assert refusal(client.request(method, path))[0] == expected


def test_too_many_are_told_to_come_again(open_service, clip):
    entered, leave = threading.Event(), threading.Event()

    def hold():
        entered.set()
        assert leave.wait(30)

    client = open_service(FakeRecognizer(before=hold), max_requests=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, client, clip.read_bytes())
        assert entered.wait(30)
        response = send(client, clip.read_bytes())
        assert refusal(response) == (429, 'too_many_requests')
        assert response.headers['Retry-After'] == '1'
        leave.set()
        assert first.result().status_code == 200
    assert send(client, clip.read_bytes()).status_code == 200


def test_a_full_disk_is_told(open_service, clip, monkeypatch):
    def write(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr('tempfile.SpooledTemporaryFile.write', write)
    assert refusal(send(open_service(), clip.read_bytes())) == (507, 'disk_full')


# ---- Decoding processes ------------------------------------------------------------------


@pytest.mark.parametrize('mark, code', [
    (MARKS['crashes'], 'decoder_failed'), (b'', 'decoder_failed'),
    (MARKS['hangs'], 'decoder_too_slow')])
def test_a_decoder_that_crashes_or_hangs(open_service, clip, monkeypatch, mark, code):
    client = open_service(decode_seconds=1 if code == 'decoder_too_slow' else 20)
    with monkeypatch.context() as patch:
        patch.setattr(decode, '_MODULE', 'bad_decoder')
        assert refusal(send(client, clip.read_bytes() + mark)) == (422, code)
    assert send(open_service(), clip.read_bytes()).status_code == 200


# ---- Clients that only take places -------------------------------------------------------


def owner_is_served(url, clip):
    """Predicts and streams with the token, as its owner does."""
    load = measure(url, [clip.read_bytes()], clients=1, seconds=1, token=TOKEN)
    assert load['answered'] >= 1 and load['errors'] == {}
    header = {'Authorization': f'Bearer {TOKEN}'}
    for headers, start in (({}, {'token': TOKEN}), (header, {})):
        with connect(f'ws{url[4:]}/v1/stream', additional_headers=headers) as link:
            link.send(json.dumps({'type': 'start', **start}))
            assert json.loads(link.recv(timeout=20))['event'] == 'ready'


def test_idle_connections_do_not_lock_the_owner_out(clip):
    begins = (b'', b'GET / HT', b'GET /v1/health HTTP/1.1\r\nHost: localhost\r\n')
    with running(token=TOKEN) as (url, _), contextlib.ExitStack() as stack:
        links = [stack.enter_context(connection(url)) for _ in range(200)]
        for k, link in enumerate(links):
            link.sendall(begins[k % 3])
        owner_is_served(url, clip)
        assert httpx.get(f'{url}/v1/health', timeout=10).status_code == 200
        # Half a request does not keep a connection, even if more of it drips in.
        end = time.monotonic() + 30
        while links:
            assert time.monotonic() < end
            for link in select.select(links, [], [], .5)[0]:
                with contextlib.suppress(ConnectionError):
                    link.recv(9999)
                links.remove(link)
            for link in links[2::3]:
                with contextlib.suppress(OSError):
                    link.sendall(b'X: y\r\n')


def test_sockets_without_a_token_do_not_lock_the_owner_out(clip):
    with running(token=TOKEN, max_streams=2) as (url, app), contextlib.ExitStack() as stack:
        links = [stack.enter_context(connect(f'ws{url[4:]}/v1/stream')) for _ in range(20)]
        owner_is_served(url, clip)
        assert json.loads(links[0].recv(timeout=9))['code'] == 'idle'
        # A wrong one in the header does not even open a socket.
        with pytest.raises(InvalidStatus, match='403'):
            connect(f'ws{url[4:]}/v1/stream', additional_headers={
                'Authorization': 'Bearer wrong'})


# ---- Who may ask -------------------------------------------------------------------------


def test_the_token(open_service, clip):
    client = open_service(token=TOKEN)
    for headers in ({}, {'Authorization': 'Bearer wrong'}, {'Authorization': TOKEN},
                    {'Authorization': f'Basic {TOKEN}'},
                    {'Authorization': 'Bearer ü'.encode()}):
        for response in (send(client, clip.read_bytes(), headers=headers),
                         client.get('/v1/model', headers=headers)):
            assert refusal(response) == (401, 'no_token')
            assert response.headers['WWW-Authenticate'] == 'Bearer'
    right = {'Authorization': f'Bearer {TOKEN}'}
    assert send(client, clip.read_bytes(), headers=right).status_code == 200
    assert client.get('/v1/model', headers=right).json()['classes'] == list(CLASSES)
    assert TOKEN not in client.get('/v1/model', headers=right).text
    for path in ('/', '/app.js', '/style.css', '/v1/health', '/openapi.json'):
        assert client.get(path).status_code == 200


def test_other_sites(open_service):
    client = open_service(hosts=('robot.local',))
    for host, origin, allowed in (
            ('localhost', None, True), ('localhost:8000', 'http://localhost:8000', True),
            ('127.0.0.1:8000', None, True), ('[::1]:8000', 'http://[::1]:8000', True),
            ('Robot.local', 'http://robot.local', True),
            ('localhost', 'https://evil.example', False), ('localhost', 'null', False),
            ('localhost:8000', 'http://localhost:9000', False),
            ('evil.example', 'http://evil.example', False), ('', None, False),
            ('localhost.evil.example', None, False), ('[', None, False)):
        headers = {'Host': host, **({'Origin': origin} if origin else {})}
        # Those who may ask are told what is wrong with an empty request.
        status = client.post('/v1/predict', headers=headers).status_code
        assert status == (422 if allowed else 403), headers
        with contextlib.ExitStack() as stack:
            if not allowed:
                stack.enter_context(pytest.raises(WebSocketDisconnect))
            with client.websocket_connect('/v1/stream', headers=headers) as link:
                link.send_text('no JSON')
                assert link.receive_json()['code'] == 'bad_message'
    # Other pages cannot read what this answers.
    assert 'access-control-allow-origin' not in client.get('/v1/model').headers
    assert client.get('/', headers={'Host': 'evil.example'}).status_code == 403
    page = client.get('/')
    assert page.headers['Content-Security-Policy'] == CONTENT_SECURITY_POLICY
    assert page.headers['X-Content-Type-Options'] == 'nosniff'


# ---- Streams -----------------------------------------------------------------------------


@pytest.fixture(scope='module')
def jpegs():
    """Thirty frames, 96 x 64 pixels, each another grey."""
    return [cv2.imencode('.jpg', np.full((64, 96, 3), 8 * k, np.uint8))[1].tobytes()
            for k in range(30)]


@contextlib.contextmanager
def streaming(client, **settings):
    """Opens a stream, and closes it as a client that goes away."""
    service = client.app.state.service
    with client.websocket_connect(STREAM) as link:
        link.send_json({'type': 'start', 'settings': settings})
        assert link.receive_json()['event'] == 'ready'
        yield link
        link.close()
        # Leaving before that would cancel what is still to be done there.
        wait_for(lambda: service.streams == 0)


def rest(link):
    """What a stream still says, and the status with which it is then closed."""
    events = []
    with pytest.raises(WebSocketDisconnect) as closed:
        while True:
            events.append(link.receive_json())
    return events, closed.value.code


def frame(timestamp, jpeg):
    return struct.pack('<d', timestamp) + jpeg


@pytest.mark.parametrize('start', [{}, {'token': 'wrong'}])
def test_the_token_of_a_stream(open_service, start):
    with open_service(token=TOKEN).websocket_connect(STREAM) as link:
        link.send_json({'type': 'start', **start})
        (event, ), status = rest(link)
    assert (event['code'], status) == ('no_token', 1008)


def test_a_stream(open_service, jpegs):
    client = open_service(max_frames_waiting=30)
    with streaming(client, min_seconds=0) as link:
        assert client.app.state.service.streams == 1
        for k, jpeg in enumerate(jpegs):
            link.send_bytes(frame(k / 30, jpeg))
        link.send_json({'type': 'stop'})
        events, status = rest(link)
    assert status == 1000
    kinds = [event['event'] for event in events]
    assert kinds[-2:] == ['end', 'closed'] and kinds.count('start') == 1
    predictions = [event for event in events if event['event'] == 'prediction']
    assert predictions
    assert all(event['class'] == 'PutDownDrill' and event['latency_ms'] > 0
               and event['top'][0] == ['PutDownDrill', .8] for event in predictions)
    assert predictions[-1]['state'] == 'PutDownDrill'
    assert events[-1] == dict(event='closed', frames=30, dropped=0, bad=0)
    assert client.app.state.service.streams == 0


def test_the_end_of_a_short_file_is_predicted_and_that_of_a_camera_says_why_not(
        open_service, jpegs):
    client = open_service()
    for clip in (True, False):
        with streaming(client, min_seconds=0) as link:
            for k in range(5):  # of a window of 0.6 s
                link.send_bytes(frame(k / 30, jpegs[k]))
            link.send_json({'type': 'stop', 'clip': clip})
            *events, closed = rest(link)[0]
        assert [event['event'] for event in events] == (
            ['start', 'prediction', 'end'] if clip else [])
        assert ('5 frames do not fill a window of 0.60 s' in closed.get('message', '')
                ) is not clip


def test_bad_frames_are_told_and_counted(open_service, jpegs):
    large = cv2.imencode('.jpg', np.zeros((200, 300, 3), np.uint8))[1].tobytes()
    png = cv2.imencode('.png', np.zeros((64, 96, 3), np.uint8))[1].tobytes()
    client = open_service(max_frame_pixels=10_000)
    with streaming(client, every=1, window_seconds=.01) as link:
        for content, code in ((b'no', 'not_a_jpeg'), (jpegs[0][:200], 'not_a_jpeg'),
                              (png, 'not_a_jpeg'), (large, 'frame_too_large'),
                              (b'\xff\xd8\xff' + bytes(99) + b'\xff\xd9', 'not_a_jpeg')):
            link.send_bytes(frame(1, content))
            event = link.receive_json()
            assert (event['event'], event['code'], event['timestamp']) == ('error', code, 1)
        for k in range(2):  # the first one alone fills no window
            link.send_bytes(frame(2 + k / 100, jpegs[0]))
        assert link.receive_json()['event'] == 'prediction'
        link.send_json({'type': 'stop'})
        assert rest(link)[0][-1] == dict(event='closed', frames=7, dropped=0, bad=5)


@pytest.mark.parametrize('messages, status', [
    (['{"type": "stop"}'], 1003), (['{"type": "start", "token": 1}'], 1003),
    (['no JSON'], 1003), (['[]'], 1003), (['[' * 4000], 1003),
    ([b'bytes'], 1003), (['{"type": "start", "settings": {"other": 1}}'], 1003),
    (['{"type": "start", "settings": {"hop": -1}}'], 1003),
    (['{"type": "start", "settings": {"window_seconds": 3000}}'], 1003),
    (['{"type": "start"}', '{"type": "start"}'], 1003),
    (['{"type": "start"}', b'short'], 1003),
    (['{"type": "start"}', frame(float('nan'), b'x')], 1003),
    (['{"type": "start"}', bytes(1009)], 1009),
    (['{"type": "start"}', 'x' * 5000], 1003),
    ([], 1001), (['{"type": "start"}'], 1001)])  # silence
def test_messages_that_are_not_expected(open_service, messages, status):
    client = open_service(max_frame_bytes=1000, idle_seconds=30 if status != 1001 else .2)
    with client.websocket_connect(STREAM) as link:
        for message in messages:
            (link.send_text if isinstance(message, str) else link.send_bytes)(message)
        events, closed = rest(link)
    assert closed == status and events[-1]['event'] == 'error'
    assert client.app.state.service.streams == 0


def test_too_many_streams(open_service):
    client = open_service(max_streams=1)
    with streaming(client), client.websocket_connect(STREAM) as link:
        link.send_json({'type': 'start'})
        (event, ), status = rest(link)
    assert event['code'] == 'too_many_streams' and status == 1013
    with streaming(client):
        pass


@pytest.mark.parametrize('hangs, expected', [
    (False, (500, 'internal')), (True, (504, 'model_too_slow'))])
def test_a_model_that_fails_or_hangs(open_service, clip, jpegs, hangs, expected):
    leave = threading.Event()

    def before():
        if not hangs:
            raise ZeroDivisionError
        leave.wait()

    client = open_service(FakeRecognizer(before=before), predict_seconds=.3)
    assert refusal(send(client, clip.read_bytes())) == expected
    with streaming(client, every=1, window_seconds=.01) as link:
        for k in range(2):
            link.send_bytes(frame(k / 100, jpegs[0]))
        (event, ), status = rest(link)
    assert event['code'] == expected[1] and status == 1011
    assert client.app.state.service.streams == 0
    leave.set()
    assert not hangs or send(client, clip.read_bytes()).status_code == 200


# ---- From outside ------------------------------------------------------------------------


@pytest.mark.slow
def test_it_keeps_to_its_own_description(clip):
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st
    from schemathesis import GenerationMode
    from schemathesis.checks import CHECKS, positive_data_acceptance

    content = clip.read_bytes()
    headers = {'Host': 'localhost', 'Authorization': f'Bearer {TOKEN}'}
    schema = schemathesis.openapi.from_asgi(
        '/openapi.json', create_app(FakeRecognizer(), None, Access(TOKEN)), headers=headers)
    assert len(CHECKS.get_all_names()) > 10
    statuses = set()
    for operation in (one.ok() for one in schema.get_all_operations()):
        cases = [operation.as_strategy(generation_mode=GenerationMode.POSITIVE)]
        if operation.body:
            cases.append(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))

        @settings(max_examples=10, derandomize=True, database=None, deadline=None,
                  suppress_health_check=list(HealthCheck), phases=[Phase.generate])
        @given(case=st.one_of(cases), is_clip=st.booleans())
        def ask(case, is_clip):
            positive = case.meta.generation.mode is GenerationMode.POSITIVE
            if isinstance(case.body, dict) and is_clip and positive:
                case.body['clip'] = content
            response = case.call(headers=headers)
            statuses.add(response.status_code)
            # A file is valid by the description, and yet need not be a video.
            case.validate_response(response, headers=headers, excluded_checks=(
                [positive_data_acceptance] if case.operation.body else []))
        ask()
    assert {200, 422} <= statuses and 500 not in statuses


# ---- The tool ----------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tool_serves_until_it_is_interrupted(onnx_folder, clip, tmp_path):
    process = subprocess.Popen(
        [*HRI30, 'serve', '--model', str(onnx_folder), '--port', '0',
         '--max-requests', '2'],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, 'HRI30_TOKEN': TOKEN})
    try:
        assert process.stdout.readline() == f'{onnx_folder}: onnx fp32, 3 classes\n'
        url = process.stdout.readline().split()[0]
        assert url.startswith('http://127.0.0.1:')
        load = measure(url.rstrip('/'), [clip.read_bytes()], clients=1, seconds=.1,
                       token=TOKEN)
        assert load['answered'] >= 1 and load['errors'] == {}
        refused = measure(url.rstrip('/'), [clip.read_bytes()], clients=1, seconds=.1)
        assert refused['errors'].keys() == {'401'}
        # A stream is told good-bye too.
        with connect(f'ws{url[4:]}v1/stream') as link:
            link.send(f'{{"type": "start", "token": "{TOKEN}"}}')
            assert '"ready"' in link.recv()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, '', '')
    finally:
        process.kill()


def test_mistakes_are_named(onnx_folder, tmp_path, monkeypatch, capsys):
    weak = tmp_path / 'token'
    weak.write_text('short')
    with socket.create_server(('127.0.0.1', 0)) as taken:
        for arguments, token, value in (
                (['--model', tmp_path / 'none'], '', 'none'),
                (['--max-requests', '0'], '', '--max-requests'),
                (['--decode-seconds', 'inf'], '', '--decode-seconds'),
                (['--threads', '0'], '', '--threads'),
                (['--token-file', weak], '', str(weak)),
                (['--token-file', tmp_path], '', str(tmp_path)),
                (['--port', taken.getsockname()[1]], '', str(taken.getsockname()[1])),
                ([], 'ü' * 20, 'HRI30_TOKEN')):
            monkeypatch.setenv('HRI30_TOKEN', token)
            assert call_hri30('serve', '--port', 0, '--model', onnx_folder, *arguments) == 2
            assert value in capsys.readouterr().err
    monkeypatch.delenv('HRI30_TOKEN')
    monkeypatch.setitem(sys.modules, 'python_multipart', None)
    assert call_hri30('serve', '--model', onnx_folder) == 2
    assert 'python_multipart' in capsys.readouterr().err
