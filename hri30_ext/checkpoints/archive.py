"""What torch does not check of a checkpoint file, in both of its formats.

A file is a ZIP archive, as torch has written since 1.6, or a sequence of pickles with the
data of the storages behind. torch and Python each have a reader of archives. An archive
must have a form in which both find the same records, and :func:`check_checkpoint` asks
both.
"""

import contextlib
import io
import os
import struct
import tarfile
import zipfile
from typing import BinaryIO

import torch

from .unpickling import (
    BoundedUnpickler,
    Budget,
    DamagedContent,
    HostileContent,
    RefusedContent,
    restore,
)

_ZIP_START = b'PK\x03\x04'
_LEGACY_MAGIC = 0x1950a86a20f9469cfc6c
_MAX_PICKLE_BYTES = 64 << 20
_MAX_RECORDS = 100_000
_MAX_DIRECTORY_BYTES = 16 << 20


def check_checkpoint(file: BinaryIO) -> None:
    """Refuses a file that torch would not load as its content suggests.

    To be called within :func:`torch.serialization.safe_globals` of
    :data:`~hri30_ext.checkpoints.unpickling.STAND_INS`.

    Args:
        file (BinaryIO): A regular file or bytes in memory; it is left at its start.

    Raises:
        RefusedContent: it holds something else than tensors and plain data, claims data
            that it does not have, or takes much more memory or time than its size.
        DamagedContent: it is truncated, or torch.save did not write it.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    try:
        if start == _ZIP_START:
            _check_archive(file, end)
        elif start[:1] == b'\x80':
            _check_sequence(file, end)
        else:
            raise DamagedContent('neither a ZIP archive nor a pickle')
    finally:
        file.seek(0)


# ---- Archives ---------------------------------------------------------------------------


def _check_archive(file: BinaryIO, end: int) -> None:
    count, directory = _find_directory(file, end)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) != count or archive.start_dir != directory or archive.comment:
            raise HostileContent('an archive with more than one directory')
        records = _check_entries(entries, file, end)
        # torch compares no checksums. This reads every record, by its name in both places.
        damaged = archive.testzip()
        if damaged is not None:
            raise DamagedContent(f'the checksum of {damaged!r:.60} is wrong')
        pickled = archive.read(records['data.pkl'])
    file.seek(0)
    reader = torch._C.PyTorchFileReader(file)
    if sorted(reader.get_all_records()) != sorted(records) or any(
            reader.get_record_offset(name) != _data_offset(file, entry)
            or reader.get_record_size(name) != entry.file_size
            for name, entry in records.items()) or reader.get_record('data.pkl') != pickled:
        raise HostileContent('records that torch finds elsewhere')

    def find_storage(key: str, count: int, item_size: int) -> None:
        entry = records.get(f'data/{key}')
        held = entry.file_size if entry else 0
        if entry is None or held != count * item_size:
            raise DamagedContent(f'the storage {key!r:.40} of {count * item_size:,} bytes, '
                                 f'and {held:,} of them')

    BoundedUnpickler(io.BytesIO(pickled), Budget(len(pickled)), find_storage).load()


def _find_directory(file: BinaryIO, end: int) -> tuple[int, int]:
    """Finds the directory of an archive where every reader finds it.

    Readers differ in what they believe: zipfile takes the directory in front of the end
    record, and torch the one at the offset in that record. Here both must be the same.

    Returns:
        tuple[int, int]: How many records it has, and its offset in bytes.
    """
    file.seek(max(0, end - 98))
    tail = file.read().rjust(98, b'\0')
    if tail[76:80] != b'PK\5\6' or tail[96:] != b'\0\0':
        raise DamagedContent('no end of the archive at the end of the file')
    disk, first_disk, here, count, size, offset = struct.unpack('<4H2L', tail[80:96])
    behind = end - 22
    if tail[56:60] == b'PK\6\7':  # 64-bit numbers, as torch always writes them
        behind = end - 98
        locator_disk, place, disks = struct.unpack('<LQL', tail[60:76])
        length, _, _, disk, first_disk, here, count, size, offset = struct.unpack(
            '<Q2H2L4Q', tail[4:56])
        if tail[:4] != b'PK\6\6' or (place, locator_disk, disks, length) != (
                behind, 0, 1, 44):
            raise HostileContent('an archive with more than one end')
    if disk or first_disk or here != count or offset + size != behind:
        raise HostileContent('an archive with more than one directory')
    if count > _MAX_RECORDS or size > _MAX_DIRECTORY_BYTES:
        raise RefusedContent(f'{count:,} records in a directory of {size:,} bytes')
    return count, offset


def _check_entries(entries: list[zipfile.ZipInfo], file: BinaryIO, end: int
                   ) -> dict[str, zipfile.ZipInfo]:
    """Checks the directory of an archive.

    Returns:
        dict[str, zipfile.ZipInfo]: By name, without the folder that all records are in.
    """
    folder = entries[0].filename.partition('/')[0] if entries else ''
    records = {}
    for entry in entries:
        name = entry.filename
        # torch reads nothing of a folder, and unpickles what its memory held before.
        if not name or name.endswith('/') or entry.external_attr & 0x10:
            raise HostileContent(f'a folder or a record without a name, {name!r:.60}')
        if entry.orig_filename != name or entry.volume or entry.comment or not (
                _has_plain_extra(entry.extra)):
            raise HostileContent(f'a record with two names, {name!r:.60}')
        # torch stores records as they are; a compressed one may expand without end.
        if entry.compress_type != zipfile.ZIP_STORED or (
                entry.file_size != entry.compress_size):
            raise RefusedContent(f'a compressed record, {name!r:.60}')
        first, _, rest = name.partition('/')
        if first != folder or not rest:
            raise DamagedContent('records that are not in one folder')
        records[rest] = entry
    # torch does not tell capitals from small letters.
    if len({name.lower() for name in records}) != len(entries):
        raise HostileContent('two records of one name')
    if 'constants.pkl' in records:
        raise HostileContent('a TorchScript archive, which is a program')
    if 'data.pkl' not in records:
        raise DamagedContent('no data.pkl')
    if records['data.pkl'].file_size > _MAX_PICKLE_BYTES:
        raise RefusedContent(f'{records["data.pkl"].file_size:,} bytes beside the weights')
    if sum(entry.file_size for entry in entries) > end:
        raise HostileContent('records that overlap')
    return records


def _has_plain_extra(extra: bytes) -> bool:
    """Whether a record has no extra field, or only the one for 64-bit numbers.

    Some of the others give a record a second name.
    """
    return not extra or (extra[:2] == b'\1\0'
                         and 4 + int.from_bytes(extra[2:4], 'little') == len(extra))


def _data_offset(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Returns where zipfile reads the content of a record, in bytes."""
    file.seek(entry.header_offset)
    header = file.read(30)
    method, = struct.unpack('<H', header[8:10])
    if header[:4] != _ZIP_START or method != zipfile.ZIP_STORED:
        raise HostileContent(f'two headers of the record {entry.filename!r:.60}')
    return entry.header_offset + 30 + sum(struct.unpack('<2H', header[26:30]))


# ---- The format before torch 1.6 --------------------------------------------------------


def _check_sequence(file: BinaryIO, end: int) -> None:
    with contextlib.suppress(tarfile.TarError):
        # torch looks for a tar archive first, whatever the first bytes are.
        tarfile.open(fileobj=file, mode='r:').close()
        raise HostileContent('a tar archive')
    file.seek(0)
    storages: dict[str, tuple[int, int]] = {}  # elements, and bytes of one
    budget = Budget(end)

    def find_storage(key: str, count: int, item_size: int) -> None:
        storages[key] = count, item_size

    magic, *_, keys = (BoundedUnpickler(file, budget, find_storage).load()
                       for _ in range(5))
    if magic != _LEGACY_MAGIC:
        raise DamagedContent('a pickle that torch.save did not write')
    # torch would leave a storage that is not listed as the memory happens to be.
    if not isinstance(restore(keys), list) or sorted(keys) != sorted(storages):
        raise DamagedContent('storages that are named, and not there')
    for key in keys:
        count, item_size = storages[key]
        left = end - file.tell() - 8
        # In front of the elements is their number.
        if int.from_bytes(file.read(8), 'little') != count or count * item_size > left:
            raise DamagedContent(f'the storage {key!r:.40} of {count * item_size:,} bytes, '
                                 f'and {max(0, left):,} of them')
        file.seek(count * item_size, os.SEEK_CUR)
    if file.tell() != end:
        raise DamagedContent('bytes behind the last storage')
