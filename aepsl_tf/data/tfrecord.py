"""TFRecord files and `tf.train.Example`, without TensorFlow.

Workers that read and write shards would else spend seconds and half a gigabyte each on importing
it. A file is a row of frames: length (uint64), its checksum, the data, their checksum (uint32),
little endian; the checksum is CRC-32C, masked.
"""

import struct

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto


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


def write(path, records):
    """Writes serialised records (bytes) to a file; returns how many."""
    count = 0
    with open(path, "wb") as file:
        for count, record in enumerate(records, 1):  # noqa: B007
            length = struct.pack("<Q", len(record))
            file.write(length + _checksum(length) + record + _checksum(record))
    return count


def read(path):
    """Yields the records of a file as bytes.

    Raises:
      DamagedError: a frame is cut or its checksum is wrong.
      OSError: the file cannot be opened or read.
    """
    with open(path, "rb") as file:
        while header := file.read(12):
            if len(header) < 12 or _checksum(header[:8]) != header[8:]:
                raise DamagedError("a record's length is damaged")
            (length,) = struct.unpack("<Q", header[:8])
            body = file.read(length + 4)
            if len(body) != length + 4 or _checksum(body[:-4]) != body[-4:]:
                raise DamagedError("a record is cut or its checksum is wrong")
            yield body[:-4]
