"""hri30 stream: from a source to events, video and summary."""

import json
import os
import re
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from conftest import HRI30, call_hri30, run_tool

from hri30_ext.deploy.runtime.live import Timeline
from hri30_ext.deploy.runtime.streaming import Event, StreamSettings
from hri30_ext.deploy.runtime.video_io import Frame

pytest.importorskip('onnxruntime', reason='the extra "deploy" is not installed')

# Some action is always in progress.
ALWAYS = ('--threshold', 0.2, '--min-seconds', 0)


def stream_tool(model, source, *arguments, cwd, **environment):
    return run_tool('stream', '--model', model, '--source', source, *arguments,
                    cwd=cwd, **environment)


def start_tool(model, source, *arguments, cwd):
    return subprocess.Popen(
        [*HRI30, 'stream', '--model', model, '--source', source, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd)


@pytest.fixture
def clip(clips_root):
    return next((clips_root / 'test_set').glob('*.avi'))


def count_frames(path):
    capture = cv2.VideoCapture(str(path))
    return sum(iter(capture.grab, False))


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]  # nothing else is there


def test_a_folder_is_one_stream(onnx_folder, clips_root, tmp_path):
    folder = clips_root / 'train_set'
    files = sorted(folder.glob('*.avi'))
    frames = sum(map(count_frames, files))
    result = stream_tool(onnx_folder, folder, '--predictions', *ALWAYS, '--out', 'out.mp4',
                         '--timeline', 'timeline.csv', cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    *events, summary = lines_of(result.stdout)
    kinds = [event['event'] for event in events]
    assert kinds.count('start') == kinds.count('end') >= 1
    assert [event['reason'] for event in events if event['event'] == 'end'][-1] == 'closed'
    assert (summary['event'], summary['ended'], summary['dropped']) == ('summary', 'end', 0)
    assert summary['frames'] == frames == count_frames(tmp_path / 'out.mp4')
    assert summary['predictions'] == kinds.count('prediction') > 3
    assert 0 < summary['latency_ms']['median'] <= summary['latency_ms']['p95']
    assert summary['predictions_per_second'] > 0
    assert 'no torch' not in result.stderr and 'Traceback' not in result.stderr
    header, *rows = (tmp_path / 'timeline.csv').read_text('utf-8').splitlines()
    assert header == 'path,label,start,end,confidence'
    assert len(rows) == kinds.count('start')
    assert {row.split(',')[0] for row in rows} <= {file.name for file in files}


@pytest.mark.slow
def test_a_timeline_is_scored(onnx_folder, clip, tmp_path):
    (tmp_path / 'truth.csv').write_text(
        f'path,label,start,end\n{clip.stem},DeliverObject,0,0.9\n')

    def score(*arguments):
        return stream_tool(onnx_folder, clip, *ALWAYS, '--truth', 'truth.csv', *arguments,
                           cwd=tmp_path)
    result = score('--timeline', 'timeline.csv')
    assert result.returncode == 0, result.stderr
    scores = json.loads((tmp_path / 'timeline.json').read_text())
    rows = [row.split(',') for row in (tmp_path / 'timeline.csv').read_text().split()[1:]]
    right = len({row[1] for row in rows} & {'DeliverObject'})
    assert (scores['predicted'], scores['true']) == (len(rows), 1)
    assert (scores['F1@10'] > 0) == (scores['frames'] > 0) == bool(right)
    assert 0 <= scores['frame_accuracy'] <= 100
    assert 'F1@50' in result.stderr and lines_of(result.stdout)[-1]['event'] == 'summary'
    assert score().returncode == 2


def test_a_stream_without_a_prediction_says_why_and_without_torch(onnx_folder, clip,
                                                                  tmp_path):
    result = stream_tool(onnx_folder, clip, '--seconds', 0.1, cwd=tmp_path,
                         PYTHONPROFILEIMPORTTIME='1')
    summary, = lines_of(result.stdout)
    assert (result.returncode, summary['ended'], summary['predictions']) == (0, 'time', 0)
    assert 'do not fill a window' in summary['reason']
    assert summary['reason'] in result.stderr
    imported = set(re.findall(r'\| +(\w+)$', result.stderr, re.MULTILINE))
    assert 'numpy' in imported
    assert not imported & {'torch', 'mmengine', 'mmaction', 'cv2', 'decord'}


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(number, onnx_folder, clips_root, tmp_path):
    process = start_tool(onnx_folder, clips_root / 'train_set', '--realtime', '--loop',
                         '--predictions', *ALWAYS, '--out', 'out.mp4', cwd=tmp_path)
    first = process.stdout.readline()
    process.send_signal(number)
    rest, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    *events, summary = lines_of(first + rest)
    assert summary['ended'] == 'interrupted' and summary['predictions'] >= 1
    starts = [event for event in events if event['event'] in ('start', 'end')]
    assert len(starts) % 2 == 0  # what began has ended
    assert count_frames(tmp_path / 'out.mp4') > 0
    assert sorted(os.listdir(tmp_path)) == ['out.mp4']
    assert 'Traceback' not in errors


class Camera(BaseHTTPRequestHandler):
    """A network camera: 40 JPEGs, and then its connection breaks."""

    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Type', 'multipart/x-mixed-replace; boundary=frame')
        self.end_headers()
        jpeg = cv2.imencode('.jpg', np.full((64, 96, 3), 90, np.uint8))[1].tobytes()
        for _ in range(40):
            self.wfile.write(b'--frame\r\nContent-Type: image/jpeg\r\nContent-Length: '
                             + str(len(jpeg)).encode() + b'\r\n\r\n' + jpeg + b'\r\n')

    def log_message(self, *arguments):
        pass


def test_a_camera_that_goes_away(onnx_folder, tmp_path):
    with ThreadingHTTPServer(('127.0.0.1', 0), Camera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://user:secret@127.0.0.1:{server.server_port}/video'
        result = stream_tool(onnx_folder, url, '--retries', 0, cwd=tmp_path)
        server.shutdown()
    assert result.returncode == 3
    lost, summary = lines_of(result.stdout)
    assert (lost['event'], lost['state']) == ('camera', 'lost')
    assert summary['ended'] == 'camera lost'
    assert summary['frames'] + summary['dropped'] >= 20
    assert 'secret' not in result.stdout + result.stderr


@pytest.mark.parametrize('arguments, words', [
    (('--model', 'none'), 'hri30 export'), (('--retries', '-1'), 'expected 0 or more'),
    (('--out', 'out.gif'), '.mp4 or .avi')])
def test_mistakes_are_told(arguments, words, onnx_folder, clip, tmp_path, monkeypatch,
                           capsys):
    monkeypatch.chdir(tmp_path)
    assert call_hri30('stream', '--model', onnx_folder, '--source', clip, '--timeline',
                      'timeline.csv', *arguments) == 2
    output = capsys.readouterr()
    assert words in output.err and output.out == '' and not os.listdir(tmp_path)


def test_without_a_display_it_goes_on(onnx_folder, clip, tmp_path):
    result = stream_tool(onnx_folder, clip, '--window', cwd=tmp_path, DISPLAY='',
                         WAYLAND_DISPLAY='', BROWSER='none')
    assert result.returncode == 0 and 'no browser' in result.stderr
    assert lines_of(result.stdout)[-1]['event'] == 'summary'


# ---- Its parts ---------------------------------------------------------------------------


def test_the_timeline_by_hand(tmp_path):
    """Predictions at 1.0, 1.5, ... describe the time 0.75 s before them."""
    stream = SimpleNamespace(span=1., settings=StreamSettings(
        smooth_seconds=.25))
    timeline = Timeline(stream)

    def play(time, state, score, *events, file=1):
        latest = Event('prediction', time, state=state, top=[(state, score)])
        timeline.add(Frame(None, time, 0., f'{file}.mp4', file), events, latest)

    def event(kind, name, time, start, reason=None):
        return Event(kind, time, class_name=name, score=.5, start=start, reason=reason,
                     end=time if kind == 'end' else None)

    timeline.add(Frame(None, 0., 0., '1.mp4', 1), [], None)
    play(1., 'Wave', .5, event('start', 'Wave', 1., 1.))  # from the begin of the file
    play(1.5, 'Wave', .7)
    play(2., 'unsure', 0., event('end', 'Wave', 2., 1., 'below'))
    play(3., 'Point', .5, event('start', 'Point', 3., 2.5))
    play(3.5, 'Point', .9)
    play(4., 'Wave', .5, event('end', 'Point', 4., 2.5, 'replaced'),
         event('start', 'Wave', 4., 3.75))
    timeline.add(None, [event('end', 'Wave', 4.25, 3.75, 'reset')], None)
    # A file that is shorter than the window is an action as a whole.
    timeline.add(Frame(None, 5., 0., '2.mp4', 2), [], None)
    timeline.add(None, [event('start', 'Wave', 5.5, 5.),
                        event('end', 'Wave', 5.5, 5., 'closed')], None)
    timeline.write(tmp_path / 'timeline.csv')
    assert (tmp_path / 'timeline.csv').read_text('utf-8').splitlines()[1:] == [
        '1.mp4,Wave,0.000,1.250,0.600', '1.mp4,Point,1.750,3.000,0.700',
        '1.mp4,Wave,3.000,4.250,0.500', '2.mp4,Wave,0.000,0.500,0.500']
