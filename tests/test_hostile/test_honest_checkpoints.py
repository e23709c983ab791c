"""What trainings and torch write is loaded as it was saved, in both formats."""

import io
import os
import random
import struct
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile import HOSTILE, save_program
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import scheduler
from torch.utils.serialization import config

from hri30_ext.checkpoints import archive, load_from_local, loading
from hri30_ext.errors import HRI30Error

FORMATS = {'zip': True, 'legacy': False}
DTYPES = ('float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32', 'int16', 'int8',
          'uint8', 'bool', 'complex64', 'complex128')
#: They have no storage of their own, and torch reads them in its new format only.
NEW_DTYPES = 'uint16', 'uint32', 'uint64', 'float8_e4m3fn', 'float8_e5m2'
SCHEDULERS = {
    'MultiStepLR': dict(milestones=[1, 2, 2]), 'CosineAnnealingLR': dict(T_max=3),
    'CosineRestartLR': dict(periods=[2, 3], restart_weights=[1, 0.5], eta_min=0),
    'LinearLR': {}, 'ConstantLR': {}, 'ExponentialLR': dict(gamma=0.9), 'PolyLR': {},
    'StepLR': dict(step_size=2), 'OneCycleLR': dict(eta_max=0.1, total_steps=10),
    'MultiStepMomentum': dict(milestones=[1]),
    'ReduceOnPlateauLR': dict(monitor='acc')}


def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))


def trained(make):
    model = net()
    optimizer = make(model.parameters())
    model(torch.rand(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    return optimizer


def scheduled(name):
    optimizer = torch.optim.SGD(net().parameters(), lr=0.1, momentum=0.9)
    made = getattr(scheduler, name)(optimizer, **SCHEDULERS[name])
    optimizer.step()
    made.step(*([{'acc': 0.5}] if name == 'ReduceOnPlateauLR' else []))
    return made.state_dict()


def message_hub():
    hub = MessageHub.get_instance('honest')
    for value in (1., 2.):
        hub.update_scalar('train/loss', value)
    hub.update_info('best', np.float64(0.5))
    return hub.state_dict()


def averaged():
    model = ExponentialMovingAverage(net())
    model.update_parameters(net())
    return model.state_dict()


class OldType:
    """Pickles as numpy before 1.20 did types."""

    def __reduce__(self):
        return np.dtype, ('f8', 0, 1), (3, '<', None, None, None, -1, -1, 0)


class OldNumber:
    """Pickles as numpy before 1.20 did a 0.5."""

    def __reduce__(self):
        return np._core.multiarray.scalar, (OldType(), np.float64(0.5).tobytes())


def views():
    whole = torch.arange(10.)
    return {'whole': whole, 'part': whole[2:5], 'turned': whole.view(2, 5).t(),
            'odd': whole[1::2], 'expanded': torch.rand(3, 1).expand(3, 7),
            'one': torch.rand(1).expand(10), 'empty': torch.zeros(0, 3),
            'scalar': torch.tensor(3)}


# Written out one by one: the table is what is tested.
HONEST = {
    'state dict': lambda: net().state_dict(),  # not in the order of the alphabet
    'types': lambda: {name: torch.ones(3, dtype=getattr(torch, name)) for name in DTYPES},
    'AdamW': lambda: trained(torch.optim.AdamW).state_dict(),
    'SGD': lambda: trained(lambda parameters: torch.optim.SGD(
        parameters, lr=0.1, momentum=0.9)).state_dict(),
    **{name: lambda name=name: scheduled(name) for name in SCHEDULERS},
    'MultiStepLR of torch': lambda: torch.optim.lr_scheduler.MultiStepLR(
        trained(torch.optim.AdamW), [1, 2]).state_dict(),
    'OneCycleLR of torch': lambda: torch.optim.lr_scheduler.OneCycleLR(
        trained(torch.optim.AdamW), 0.1, 10).state_dict(),
    'message hub': message_hub,
    'empty history': HistoryBuffer,
    'moving average': averaged,
    'parameters': lambda: dict(net().named_parameters()),
    'frozen parameter': lambda: torch.nn.Parameter(torch.rand(2), requires_grad=False),
    'views': views,
    'numbers of numpy': lambda: [np.float64(.5), np.float32(1), np.int64(3),
                                 np.bool_(True)],
    'arrays': lambda: [np.arange(3.), np.zeros((2, 3), 'i8').T, np.zeros(()),
                       np.zeros((0, 2), 'f4'), np.array([True])],
    'size': lambda: torch.Size([1, 2]),
    'conjugated': lambda: torch.tensor([1 + 2j]).conj(),
    'random state': lambda: [torch.get_rng_state(), random.getstate(),
                             np.random.RandomState(0).get_state()],
    'counter': lambda: [Counter([3, 3, 4]), Counter('aab'), Counter()],
    'set': lambda: [{1, 2, 'a'}, set()],
    'other values': lambda: [1j, 2**70, -2**70, float('inf'), None, True, b'\xff\0', 'é',
                             torch.float32, torch.device('cuda:0'), (), (1, (2, ))],
    'meta of mmcv': lambda: {
        'mmcv_version': '1.3.9', 'time': 'Mon Aug 2 2021', 'env_info': 'linux\nGCC: 7',
        'CLASSES': ('a', 'b'), 'PALETTE': None, 'epoch': 2, 'iter': 7, 'seed': np.int32(0),
        'hook_msgs': {'best_score': np.float64(0.5), 'best_ckpt': 'best.pth'}},
}


def assert_same(found, expected):
    """Compares all that a checkpoint may hold, with types."""
    assert type(found) is type(expected)
    if isinstance(expected, torch.Tensor):
        assert (found.dtype, found.shape, found.stride(), found.requires_grad) == (
            expected.dtype, expected.shape, expected.stride(), expected.requires_grad)
        assert found.tolist() == expected.tolist()
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
        assert getattr(found, '_metadata', 0) == getattr(expected, '_metadata', 0)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, strict=True)
    elif isinstance(expected, HistoryBuffer):
        # mmengine keeps the names of its statistics in the class, once they are loaded.
        assert found.max_length == expected.max_length
        assert_same(found.data, expected.data)
    else:
        assert found == expected


@pytest.mark.parametrize('kind', list(FORMATS))
@pytest.mark.parametrize('name', list(HONEST))
def test_honest_checkpoint_is_loaded_as_it_was_saved(name, kind, tmp_path):
    path, content = tmp_path / 'a.pth', {'content': HONEST[name]()}
    torch.save(content, path, _use_new_zipfile_serialization=FORMATS[kind])
    assert_same(load_from_local(str(path)), content)


@pytest.mark.parametrize('name', NEW_DTYPES)
def test_type_without_a_storage_is_loaded(name, tmp_path):
    path, content = tmp_path / 'a.pth', {'a': torch.ones(2, 3).to(getattr(torch, name))}
    torch.save(content, path)
    found = load_from_local(str(path))['a']
    assert found.dtype == content['a'].dtype and found.float().tolist() == [[1] * 3] * 2


@pytest.mark.parametrize('kind', list(FORMATS))
def test_views_share_their_numbers(kind, tmp_path):
    torch.save(views(), tmp_path / 'a.pth', _use_new_zipfile_serialization=FORMATS[kind])
    found = load_from_local(str(tmp_path / 'a.pth'))
    assert found['whole'].data_ptr() + 8 == found['part'].data_ptr()


@pytest.mark.parametrize('kind', list(FORMATS))
def test_number_of_an_old_numpy_is_loaded(kind, tmp_path):
    torch.save({'meta': OldNumber()}, tmp_path / 'a.pth',
               _use_new_zipfile_serialization=FORMATS[kind])
    assert_same(load_from_local(str(tmp_path / 'a.pth')), {'meta': np.float64(0.5)})


def repack(data: bytes, folder: str, left_out: tuple[str, ...] = ()) -> bytes:
    """Rewrites an archive with Python, under another folder, without some records."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, 'w') as new:
        for name in old.namelist():
            short = name.partition('/')[2]
            if short not in left_out:
                new.writestr(f'{folder}/{short}', old.read(name))
    return file.getvalue()


@pytest.mark.parametrize('change', ['other folder', 'folder beyond ASCII', 'torch 1.6',
                                    'offsets of 64 bits', 'renamed'])
def test_archives_of_any_origin_are_loaded(change, tmp_path, monkeypatch):
    path, content = tmp_path / 'first.pth', {'state_dict': net().state_dict()}
    torch.save(content, path)
    if change == 'renamed':
        path = path.rename(tmp_path / 'second.pth')
    elif change == 'other folder':
        path.write_bytes(repack(path.read_bytes(), 'slowonly_r50-1234abcd'))
    elif change == 'folder beyond ASCII':
        path.write_bytes(repack(path.read_bytes(), 'modèle'))
    elif change == 'torch 1.6':
        newer = '.format_version', '.storage_alignment', 'byteorder', (
            '.data/serialization_id')
        path.write_bytes(repack(path.read_bytes(), 'archive', newer))
    else:
        # As for a file of more than four gigabytes.
        monkeypatch.setattr(zipfile, 'ZIP64_LIMIT', 100)
        path.write_bytes(repack(path.read_bytes(), 'archive'))
        assert path.read_bytes()[-42:-38] == b'PK\6\7'
        assert any(entry.extra for entry in zipfile.ZipFile(path).infolist())
    assert_same(load_from_local(str(path)), content)


NOT_READ = {
    'get_layout': lambda: torch.eye(3).to_sparse(),
    'a tuple as a key': lambda: {(1, 2): 3},
    'bytearray': lambda: bytearray(b'a'),
    'meta_tensor': lambda: torch.zeros(3, device='meta'),
    'parameter_with_state': lambda: set_attribute(torch.nn.Parameter(torch.zeros(1))),
    'TypedStorage': lambda: torch.zeros(3).untyped_storage(),
}


def set_attribute(parameter):
    parameter.name_of_mine = 1
    return parameter


@pytest.mark.parametrize('name', list(NOT_READ))
def test_what_is_not_read_is_not_called_hostile(name, tmp_path):
    path = tmp_path / 'a.pth'
    torch.save({'a': NOT_READ[name]()}, path)
    with pytest.raises(HRI30Error, match=f'refused, since it holds .*{name}') as error:
        load_from_local(str(path))
    assert 'run code' not in str(error.value)


def test_other_protocol_is_named(tmp_path):
    torch.save({'a': 1}, tmp_path / 'a.pth', pickle_protocol=3)
    with pytest.raises(HRI30Error, match='it holds a pickle of protocol 3'):
        load_from_local(str(tmp_path / 'a.pth'))


def flawed(change: str) -> bytes:
    """An archive with one flaw in its directory or at its end."""
    file = io.BytesIO()
    save_program(b'\x80\x02}.', file)
    data = bytearray(file.getvalue())
    start = data.index(b'PK\1\2')
    if change == 'comment':
        return bytes(data[:-2]) + struct.pack('<H', 4) + b'text'
    if change == 'bytes behind':
        return bytes(data) + b'text'
    if change == 'bytes before':
        return bytes(data[:30]) + bytes(data)
    if change == 'local name':
        data[data.index(b'archive/version')] ^= 32
    elif change == 'count':
        data[-14] -= 1
        data[-12] -= 1
    elif change == 'shared content':
        second = data.index(b'PK\1\2', start + 1)
        data[second + 42:second + 46] = bytes(4)
    elif change == 'second name':
        with zipfile.ZipFile(file, 'w') as archive:
            record = zipfile.ZipInfo('archive/data.pkl')
            record.extra = struct.pack('<2HBL', 0x7075, 6, 1, 0) + b'a'
            archive.writestr(record, b'\x80\x02}.')
        return file.getvalue()
    return bytes(data)


@pytest.mark.parametrize('change', ['comment', 'bytes behind', 'bytes before', 'local name',
                                    'count', 'shared content', 'second name'])
def test_archive_of_another_shape_is_refused(change, tmp_path):
    path = tmp_path / 'a.pth'
    path.write_bytes(flawed('none'))
    assert load_from_local(str(path)) == {}
    path.write_bytes(flawed(change))
    with pytest.raises(HRI30Error, match=r'a\.pth: (refused|not a readable checkpoint)'):
        load_from_local(str(path))


def test_torch_itself_has_to_find_the_same(tmp_path, monkeypatch):
    """If Python's reader accepts such an archive, torch's reader is asked as well."""
    path = tmp_path / 'a.pth'
    HOSTILE['two directories'](path, tmp_path / 'mark')

    def trust(entries, end):
        return {entry.filename.partition('/')[2]: entry for entry in entries}

    monkeypatch.setattr(archive, '_check_entries', trust)
    with pytest.raises(HRI30Error, match='torch finds elsewhere'):
        load_from_local(str(path))


def test_numbers_that_are_not_listed_are_refused(tmp_path):
    """Of the older format: torch would leave such a tensor as the memory happens to be."""
    path = tmp_path / 'a.pth'
    torch.save({'a': torch.zeros(3)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    keys = data.rindex(b'\x80\x02]')
    path.write_bytes(data[:keys] + b'\x80\x02].')
    with pytest.raises(HRI30Error, match='named, and not there'):
        load_from_local(str(path))


def save_history(path: Path) -> None:
    torch.save({'a': HistoryBuffer([1.], [1])}, path)


def test_file_that_was_checked_is_the_one_that_is_loaded(tmp_path, monkeypatch):
    """A file that takes the place of another meanwhile is not loaded."""
    path, other = tmp_path / 'a.pth', tmp_path / 'b.pth'
    save_history(path)
    HOSTILE['poisoned HistoryBuffer'](other, tmp_path / 'mark')
    check = loading.check_checkpoint

    def check_and_replace(file):
        check(file)
        os.replace(other, path)

    monkeypatch.setattr(loading, 'check_checkpoint', check_and_replace)
    assert load_from_local(str(path))['a'].mean() == 1
    assert not other.exists()


def test_mapping_by_default_is_no_matter_to_the_loader(tmp_path):
    save_history(tmp_path / 'a.pth')
    with config.patch('load.mmap', True):
        assert load_from_local(str(tmp_path / 'a.pth'))['a'].mean() == 1


