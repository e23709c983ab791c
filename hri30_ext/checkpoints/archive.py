"""What torch does not check of a checkpoint file, in both of its formats.

A file is a ZIP archive, as torch has written since 1.6, or a sequence of pickles with the
data of the storages behind. Of an archive, Python's reader and torch's must find the same
records with the same content.
"""

import contextlib
import io
import os
import tarfile
import zipfile
from typing import BinaryIO

import torch

from ..utils.reading import zip_directory_size
from .unpickling import (
    BoundedUnpickler,
    DamagedContent,
    HostileContent,
    RefusedContent,
    restore,
)

_LEGACY_MAGIC = 0x1950a86a20f9469cfc6c
_MAX_PICKLE_BYTES = 64 << 20
_MAX_DIRECTORY_BYTES = 16 << 20


def check_checkpoint(file: BinaryIO) -> None:
    """Refuses a file that torch would not load as its content suggests.

    Args:
        file (BinaryIO): A regular file or bytes in memory; it is left at its start. Within
            :func:`torch.serialization.safe_globals` of :data:`.unpickling.STAND_INS`.

    Raises:
        RefusedContent: it holds something else than tensors and plain data, claims data
            that it does not have, or takes much more memory or time than its size.
        Exception: it is truncated, or torch.save did not write it.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    if start == b'PK\3\4':
        _check_archive(file, end)
    elif start[:1] == b'\x80':
        _check_sequence(file, end)
    else:
        raise DamagedContent('neither a ZIP archive nor a pickle')
    file.seek(0)


def _not_held(key: str, claimed: int, held: int) -> DamagedContent:
    return DamagedContent(f'the storage {key!r:.40} of {claimed:,} bytes, and {held:,} of '
                          'them')


# ---- Archives ---------------------------------------------------------------------------


def _check_archive(file: BinaryIO, end: int) -> None:
    if (size := zip_directory_size(file)) > _MAX_DIRECTORY_BYTES:
        raise RefusedContent(f'a directory of {size:,} bytes')
    with zipfile.ZipFile(file) as archive:
        records = _check_entries(archive.infolist(), end)
        file.seek(0)
        reader = torch._C.PyTorchFileReader(file)
        # torch compares no checksums; zipfile does, and the names in front of the records.
        if sorted(reader.get_all_records()) != sorted(records) or any(
                reader.get_record(name) != archive.read(entry)
                for name, entry in records.items()):
            raise HostileContent('records that torch finds elsewhere')
        pickled = archive.read(records['data.pkl'])

    def find_storage(key: str, count: int, item_size: int) -> None:
        entry = records.get(f'data/{key}')
        if entry is None or entry.file_size != count * item_size:
            raise _not_held(key, count * item_size, entry.file_size if entry else 0)

    BoundedUnpickler(io.BytesIO(pickled), find_storage,
                     BoundedUnpickler.limits(len(pickled))).load()


def _check_entries(entries: list[zipfile.ZipInfo], end: int) -> dict[str, zipfile.ZipInfo]:
    """Checks the directory of an archive; returns the records by name, without the folder
    that all are in."""
    folder = entries[0].filename.partition('/')[0] if entries else ''
    records = {}
    for entry in entries:
        name, place = entry.filename, repr(entry.filename)[:60]
        # torch reads nothing of a folder, and unpickles what its memory held before.
        if not name or name.endswith('/') or entry.external_attr & 0x10:
            raise HostileContent(f'a folder or a record without a name, {place}')
        # A zero byte ends a name; and the only extra field is that for 64-bit numbers.
        if entry.orig_filename != name or entry.comment or entry.extra[:2] not in (
                b'', b'\1\0'):
            raise HostileContent(f'a record with two names, {place}')
        if entry.compress_type != zipfile.ZIP_STORED or (
                entry.file_size != entry.compress_size):
            raise RefusedContent(f'a compressed record, {place}')
        first, _, rest = name.partition('/')
        if first != folder or not rest:
            raise DamagedContent('records that are not in one folder')
        records[rest] = entry
    # torch does not tell capitals from small letters.
    if len({name.lower() for name in records}) != len(entries):
        raise HostileContent('two records of one name')
    if 'constants.pkl' in records:
        raise HostileContent('a TorchScript archive, which is a program')
    if 'data.pkl' not in records or min(entry.header_offset for entry in entries):
        raise DamagedContent('no data.pkl, or bytes in front of the archive')
    if records['data.pkl'].file_size > _MAX_PICKLE_BYTES:
        raise RefusedContent(f'{records["data.pkl"].file_size:,} bytes beside the weights')
    if sum(entry.file_size for entry in entries) > end:
        raise HostileContent('records that overlap')
    return records


# ---- The format before torch 1.6 --------------------------------------------------------


def _check_sequence(file: BinaryIO, end: int) -> None:
    with contextlib.suppress(tarfile.TarError):
        # torch looks for a tar archive first, whatever the first bytes are.
        tarfile.open(fileobj=file, mode='r:').close()
        raise HostileContent('a tar archive')
    file.seek(0)
    storages: dict[str, tuple[int, int]] = {}  # elements, and bytes of one
    left = BoundedUnpickler.limits(min(end, _MAX_PICKLE_BYTES))

    def find_storage(key: str, *size: int) -> None:
        storages[key] = size

    magic, *_, keys = (BoundedUnpickler(file, find_storage, left).load() for _ in range(5))
    if magic != _LEGACY_MAGIC:
        raise DamagedContent('a pickle that torch.save did not write')
    # torch would leave a storage that is not listed as the memory happens to be.
    if not isinstance(restore(keys), list) or sorted(keys) != sorted(storages):
        raise DamagedContent('storages that are named, and not there')
    for key in keys:
        count, item_size = storages[key]
        stored = int.from_bytes(file.read(8), 'little')  # in front of the elements
        held = end - file.tell()
        if stored != count or count * item_size > held:
            raise _not_held(key, count * item_size, held)
        file.seek(count * item_size, os.SEEK_CUR)
    if file.tell() != end:
        raise DamagedContent('bytes behind the last storage')
