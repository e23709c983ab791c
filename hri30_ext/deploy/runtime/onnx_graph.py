"""Refuses ONNX graphs that may not end, or that read other files.

ONNX Runtime runs whatever a graph contains, and the package onnx is not installed where a
model runs. This reads the few fields of ``onnx.proto`` that matter: every occurrence of
each, so that nothing that a parser would merge or overwrite is missed.
"""

from collections.abc import Iterator, Mapping

from ...errors import HRI30Error

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Messages of onnx.proto: what a field, by its number, means here. A mapping: a message of
# that form. A text: the reason to refuse a graph with this field, unless its value is one
# of the allowed ones.
_TENSOR = {13: ('its numbers are in another file', ()),
           14: ('its numbers are in another file', (0, b''))}
_CONTROL = ('control flow (an operator with a graph within)', ())
_SPARSE = ('sparse numbers', ())
_ATTRIBUTE = {5: _TENSOR, 10: _TENSOR, 6: _CONTROL, 11: _CONTROL, 22: _SPARSE, 23: _SPARSE}
_NODE = {5: _ATTRIBUTE,
         7: ('an operator of another domain than ai.onnx', (b'', b'ai.onnx'))}
_GRAPH = {1: _NODE, 5: _TENSOR, 15: _SPARSE}
_MODEL = {7: _GRAPH, 25: ('functions of its own', ())}


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7f) << shift
        if byte < 0x80:
            return value, at
    raise ValueError('a number of more than 10 bytes')


def _fields(data: memoryview | int) -> Iterator[tuple[int, memoryview | int]]:
    """Yields number and value of each field of a message."""
    if not isinstance(data, memoryview):
        raise ValueError('a number, expected a message')
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind, value = key & 7, 0
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _BYTES:
            length, at = _varint(data, at)
            value, at = data[at:at + length], at + length
        else:
            raise ValueError(f'a field of kind {kind}')
        if at > len(data):
            raise ValueError('it is cut off')
        yield key >> 3, value


def check_graph(data: bytes | memoryview, message: Mapping = _MODEL) -> None:
    """Checks the bytes of an ONNX model.

    Raises:
        HRI30Error: it has control flow, functions or operators of other domains, or keeps
            numbers in other files.
        IndexError, ValueError: it is not a protobuf message of this form.
    """
    for number, value in _fields(memoryview(data) if isinstance(data, bytes) else data):
        rule = message.get(number)
        if isinstance(rule, Mapping):
            check_graph(value, rule)
        elif rule is not None and value not in rule[1]:
            raise HRI30Error(rule[0])
