"""Refuses ONNX graphs that may not end, or that read other files.

ONNX Runtime runs whatever a graph contains, and the package onnx is not installed where a
model runs. This reads the few fields of ``onnx.proto`` that matter: every occurrence of
each, so that nothing that a parser would merge or overwrite is missed.
"""

from collections.abc import Iterator

from ...errors import HRI30Error

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Numbers of fields in onnx.proto.
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH = 5, 6
_ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 10, 11
_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 22, 23
_TENSOR_EXTERNAL, _TENSOR_LOCATION = 13, 14

_DOMAINS = (b'', b'ai.onnx')


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
    """Yields number and value of each field of a message.

    Raises:
        IndexError, ValueError: not a protobuf message.
    """
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


def _check_tensor(data: memoryview) -> None:
    if any(number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value)
           for number, value in _fields(data)):
        raise HRI30Error('its numbers are in another file')


def _check_node(data: memoryview) -> None:
    for number, value in _fields(data):
        if number == _NODE_DOMAIN and value not in _DOMAINS:
            raise HRI30Error('an operator of another domain than ai.onnx')
        if number != _NODE_ATTRIBUTE:
            continue
        for inner, content in _fields(value):
            if inner in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                raise HRI30Error('control flow (an operator with a graph within)')
            if inner in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
                raise HRI30Error('sparse numbers')
            if inner in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                _check_tensor(content)


def check_graph(data: bytes) -> None:
    """Checks the bytes of an ONNX model.

    Raises:
        HRI30Error: it has control flow, functions or operators of other domains, or keeps
            numbers in other files.
        IndexError, ValueError: it is not a protobuf message of this form.
    """
    for number, graph in _fields(memoryview(data)):
        if number == _MODEL_FUNCTIONS:
            raise HRI30Error('functions of its own')
        if number != _MODEL_GRAPH:
            continue
        for inner, value in _fields(graph):
            if inner == _GRAPH_NODE:
                _check_node(value)
            elif inner == _GRAPH_INITIALIZER:
                _check_tensor(value)
            elif inner == _GRAPH_SPARSE:
                raise HRI30Error('sparse numbers')
