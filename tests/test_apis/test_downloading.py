"""Downloading from a server that misbehaves, and unpacking archives of strangers."""

import errno
import hashlib
import io
import json
import tarfile
import threading
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import call_hri30

from hri30_ext.apis import downloading
from hri30_ext.apis.downloading import ARCHIVES, download
from hri30_ext.errors import HRI30Error
from hri30_ext.utils.fileio import DiskFull

CLIP = bytes(range(256)) * 400


class Server(ThreadingHTTPServer):
    """Speaks the record's API; ``faults`` are answers that come before the right one."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files, self.faults, self.requests = {}, [], []
        self.url = f'http://127.0.0.1:{self.server_address[1]}'
        self.record = f'{self.url}/api/records/1'

    def describe(self):
        return json.dumps(dict(id=1, files=[dict(
            key=name, size=len(content), checksum='md5:' + hashlib.md5(content).hexdigest(),
            links=dict(self=f'{self.url}/files/{name}'))
            for name, content in self.files.items()])).encode()


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server, is_file = self.server, self.path.startswith('/files/')
        content = server.files.get(self.path[7:]) if is_file else server.describe()
        if content is None:
            self.send_error(404)
            return
        server.requests.append(self.path)
        fault = server.faults.pop(0) if is_file and server.faults else {}
        self.send_response(fault.get('status', 200))
        content = fault.get('content', content)
        self.send_header('Content-Length', str(len(content)))
        self.end_headers()
        self.wfile.write(content[:fault.get('cut', len(content))])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr('time.sleep', lambda seconds: None)  # between tries
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(.02, ), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def zipped(members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(members, kind=tarfile.REGTYPE):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode='w:gz') as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(content), kind, '/etc/passwd'
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


TRAIN = zipped({'HRI30/train/CID01_SID01_VID01.avi': CLIP, 'HRI30/readme.txt': b'hello'})


def tree(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob('*')
            if path.is_file() and ARCHIVES not in path.parts}


def test_everything_is_laid_out_by_name(server, tmp_path):
    server.files = {
        'train.zip': TRAIN, 'test.tar.gz': tarred({'test_set/testvideo001.avi': CLIP}),
        'ucf.zip': zipped({'a/v_Walking_g05_c01.avi': CLIP}),
        'train_set_labels.csv': b'CID01_SID01_VID01,DeliverObject,1\n'}
    counts = download(tmp_path / 'data', server.record)
    assert tree(tmp_path / 'data') == {
        'train_set/CID01_SID01_VID01.avi': CLIP, 'test_set/testvideo001.avi': CLIP,
        'videos/Walking/v_Walking_g05_c01.avi': CLIP,
        'annotations/train_set_labels.csv': b'CID01_SID01_VID01,DeliverObject,1\n'}
    assert counts == dict(train_set=1, test_set=1, videos=1, annotations=1, ignored=1)
    with pytest.raises(HRI30Error, match='train_set: exists already'):
        download(tmp_path / 'data', server.record)


def test_complete_files_are_kept_and_others_tried_again(server, tmp_path):
    server.files = {'train.zip': TRAIN, 'notes.txt': b'hello'}
    server.faults = [dict(cut=100), dict(status=429, content=b''),
                     dict(content=b'x' * len(TRAIN)), {}, *[dict(cut=0)] * 6]
    with pytest.raises(HRI30Error, match='cannot be downloaded'):
        download(tmp_path, server.record)
    assert tree(tmp_path) == {}
    assert download(tmp_path, server.record)['train_set'] == 1
    assert [path for path in server.requests if 'files' in path] == [
        *['/files/train.zip'] * 4, *['/files/notes.txt'] * 7]


@pytest.mark.parametrize('faults, message', [
    ([dict(status=404, content=b'no')] * 6, '404'),
    ([dict(content=b'x' * len(TRAIN))] * 6, 'md5'),
])
def test_a_server_that_refuses(server, tmp_path, faults, message):
    server.files, server.faults = {'train.zip': TRAIN}, faults
    with pytest.raises(HRI30Error, match='(?s)' + message):
        download(tmp_path, server.record)
    assert tree(tmp_path) == {}
    server.faults = []
    # What was downloaded is examined: it is no clip.
    assert call_hri30('download', '--root', tmp_path, '--record', server.record) == 3
    assert len(tree(tmp_path)) == 1


def test_a_full_disk(server, tmp_path, monkeypatch):
    server.files = {'train.zip': TRAIN}
    usage = namedtuple('Usage', 'total used free')
    with monkeypatch.context() as patch:
        patch.setattr(downloading.shutil, 'disk_usage', lambda path: usage(9, 9, 100))
        with pytest.raises(DiskFull, match='are needed'):
            download(tmp_path, server.record)
    assert len(server.requests) == 1  # of the record: nothing was downloaded

    def full(*args):
        raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(downloading, '_unpack', full)
    with pytest.raises(DiskFull):
        download(tmp_path, server.record)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize('name, content, message', [
    ('a.zip', zipped({'../CID01_SID01_VID01.avi': CLIP}), 'no clips in'),
    ('a.zip', zipped({'..\\CID01_SID01_VID01.avi': CLIP}), 'no clips in'),
    ('a.tar.gz', tarred({'CID01_SID01_VID01.avi': b''}, tarfile.SYMTYPE), 'no clips in'),
    ('a.tar.gz', tarred({'CID01_SID01_VID01.avi': b''}, tarfile.LNKTYPE), 'no clips in'),
    ('a.zip', zipped({'a/CID01_SID01_VID01.avi': CLIP, 'b/CID01_SID01_VID01.avi': CLIP}),
     'File exists'),
    ('a.zip', TRAIN[:-30], 'cannot be unpacked'),
    ('a.zip', zipped({'notes.txt': b'x'}), 'no clips in the files'),
    ('..zip', TRAIN, 'files.0..key'),
])
def test_archives_of_strangers(server, tmp_path, name, content, message):
    server.files = {name: content}
    with pytest.raises(HRI30Error, match=message):
        download(tmp_path, server.record)
    assert tree(tmp_path) == {}


def test_folders_of_archives_do_not_matter(server, tmp_path):
    server.files = {'a.tar.gz': tarred({'/tmp/CID01_SID01_VID01.avi': CLIP})}
    download(tmp_path / 'data', server.record)
    assert tree(tmp_path / 'data') == {'train_set/CID01_SID01_VID01.avi': CLIP}
    assert [path.name for path in tmp_path.iterdir()] == ['data']
