"""TFRecord files and `tf.train.Example`, without TensorFlow.

Workers that read and write shards would else spend seconds and half a gigabyte each on importing
it. A file is a row of frames: length (uint64), its checksum, the data, their checksum (uint32),
little endian; the checksum is CRC-32C, masked.
"""

import os
import pathlib
import struct

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError  # noqa: F401  what a damaged `Example` raises

_FIELD = descriptor_pb2.FieldDescriptorProto
_HEADER = 12  # bytes before the data: their length and its checksum


class DamagedError(Exception):
    """A file that ends within a frame, or whose checksums do not agree."""


def _example_class():
    """tensorflow/core/example/example.proto, in a pool of its own beside TensorFlow's."""
    file = descriptor_pb2.FileDescriptorProto(
        name="aepsl_tf/example.proto", package="tensorflow", syntax="proto3"
    )

    def message(holder, name, *fields):
        made = holder.add(name=name)
        for number, (field, label, kind, type_name) in enumerate(fields, 1):
            made.field.add(name=field, number=number, label=label, type=kind, type_name=type_name)
        return made

    one, many = _FIELD.LABEL_OPTIONAL, _FIELD.LABEL_REPEATED
    text, nested = _FIELD.TYPE_STRING, _FIELD.TYPE_MESSAGE
    messages = file.message_type
    message(messages, "BytesList", ("value", many, _FIELD.TYPE_BYTES, None))
    message(messages, "FloatList", ("value", many, _FIELD.TYPE_FLOAT, None))
    message(messages, "Int64List", ("value", many, _FIELD.TYPE_INT64, None))
    feature = message(
        messages, "Feature",
        ("bytes_list", one, nested, ".tensorflow.BytesList"),
        ("float_list", one, nested, ".tensorflow.FloatList"),
        ("int64_list", one, nested, ".tensorflow.Int64List"),
    )  # fmt: skip
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message(
        messages, "Features", ("feature", many, nested, ".tensorflow.Features.FeatureEntry")
    )
    entry = message(
        features.nested_type, "FeatureEntry",
        ("key", one, text, None), ("value", one, nested, ".tensorflow.Feature"),
    )  # fmt: skip
    entry.options.map_entry = True
    message(messages, "Example", ("features", one, nested, ".tensorflow.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Example = _example_class()


def _checksum(data):
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _length(header):
    if len(header) < _HEADER or _checksum(header[:8]) != header[8:]:
        raise DamagedError("a record's length is damaged")
    return struct.unpack("<Q", header[:8])[0]


def _record(body, length):
    if len(body) != length + 4 or _checksum(body[:-4]) != body[-4:]:
        raise DamagedError("a record is cut or its checksum is wrong")
    return body[:-4]


def write(path, records):
    """Writes serialised records (bytes) to a file.

    Returns:
      Its index: where each record's frame begins, and the file's end; int64 `[records + 1]`.
    """
    offsets = [0]
    with open(path, "wb") as file:
        for record in records:
            length = struct.pack("<Q", len(record))
            file.write(length + _checksum(length) + record + _checksum(record))
            offsets.append(file.tell())
    return np.array(offsets, np.int64)


def read(path):
    """Yields the records of a file as bytes.

    Raises:
      DamagedError: a frame is cut or its checksum is wrong.
      OSError: the file cannot be opened or read.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        while header := file.read(_HEADER):
            length = _length(header)
            if length > size:  # so forged that its checksum is right
                raise DamagedError("a record is longer than its file")
            yield _record(file.read(length + 4), length)


def read_at(path, start, end):
    """The one record whose frame is the bytes start…end−1; raises as `read` does."""
    with open(path, "rb") as file:
        file.seek(start)
        frame = file.read(end - start)
    return _record(frame[_HEADER:], _length(frame[:_HEADER]))


def scan(path):
    """The index of a file, as `write` returns it, from one look at each frame's length."""
    offsets = [0]
    with open(path, "rb") as file:
        while header := file.read(_HEADER):
            offsets.append(offsets[-1] + _HEADER + _length(header) + 4)
            file.seek(offsets[-1])
    return np.array(offsets, np.int64)


def index_path(path):
    """Where the index of a file lies: beside it."""
    return pathlib.Path(path).with_suffix(".index")


def write_index(path, offsets):
    """Writes an index, int64 little endian."""
    offsets.astype("<i8").tofile(path)


def read_index(path):
    """The index of a records file, read from beside it or, where there is none, scanned.

    Raises:
      DamagedError: the file does not end where its index says, or that is no index.
    """
    try:
        offsets = np.fromfile(index_path(path), "<i8")
    except FileNotFoundError:  # the family is older than indexes are
        offsets = scan(path)
    if not len(offsets) or offsets[0] != 0 or np.diff(offsets).min(initial=_HEADER) < _HEADER:
        raise DamagedError("its index is damaged")
    if offsets[-1] != os.path.getsize(path):
        raise DamagedError("it does not end where its last record does")
    return offsets
