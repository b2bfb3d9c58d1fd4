"""One array out of a struct in a MATLAB 5 file, as SBD keeps its masks.

Written down here because `scipy.io.loadmat` ends the process on some damaged files and unpacks
whatever a file claims to hold. Format: "MAT-File Format", MathWorks, the chapter on level 5.
"""

import math
import struct
import zlib

import numpy as np

MAX_BYTES = 16 << 20
"""What a packed variable may unpack to; a mask of SBD and its boundaries take under .5 MB."""

_HEADER = 128  # its last two bytes tell the byte order
_MATRIX, _PACKED = 14, 15
_STRUCT = 2
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8",
          13: "u8"}  # fmt: skip
_NUMBERS = range(6, 16)  # classes of full arrays of numbers


def read_field(data, variable, field):
    """The array `variable.field`.

    Args:
      data: the file's bytes.
      variable: name of a 1×1 struct.
      field: name of a full, real array of numbers in it.

    Returns:
      The array, of the shape that MATLAB shows and the type it is stored in.

    Raises:
      ValueError: there is no such array, or the file is damaged.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[_HEADER - 2 : _HEADER])
    if order is None:
        raise ValueError("not a MATLAB 5 file")
    try:
        for kind, content in _elements(data[_HEADER:], order):
            if kind == _PACKED:
                kind, content = next(_elements(_unpack(content), order))
            if kind == _MATRIX:
                class_, shape, name, parts = _matrix(content, order)
                if name == variable:
                    return _array(_pick(class_, shape, parts, field, order), order)
    except (struct.error, zlib.error, IndexError, StopIteration) as error:
        raise ValueError(f"damaged: {error or 'it is cut'}") from error
    raise ValueError(f"no variable {variable}")


def _elements(data, order):
    """Yields (type, content) of elements that follow one another."""
    at = 0
    while at < len(data):
        kind, size = struct.unpack_from(f"{order}II", data, at)
        start, room = at + 8, size if kind == _PACKED else size + -size % 8
        if kind >> 16:  # up to four bytes in the tag's own second half
            kind, size, start, room = kind & 0xFFFF, kind >> 16, at + 4, 4
        at = start + room
        if start + size > len(data) or size > room:
            raise ValueError("damaged: it is cut")
        yield kind, data[start : start + size]


def _unpack(packed):
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(packed, MAX_BYTES)
    if not unpacker.eof:
        raise ValueError(f"damaged, or it unpacks to more than {MAX_BYTES} bytes")
    return data


def _matrix(content, order):
    """(class, shape, name, the remaining elements) of an array."""
    (_, flags), (_, shape), (_, name), *parts = _elements(content, order)
    shape = struct.unpack(f"{order}{len(shape) // 4}i", shape)
    if not shape or min(shape) < 0:
        raise ValueError("damaged: no shape")
    return struct.unpack_from(f"{order}I", flags)[0] & 0xFF, shape, name.decode("latin-1"), parts


def _pick(class_, shape, parts, field, order):
    """The content of a struct's field."""
    if class_ != _STRUCT or math.prod(shape) != 1:
        raise ValueError("the variable is no single struct")
    (_, width), (_, names), *values = parts
    (width,) = struct.unpack(f"{order}i", width)
    if width < 1:
        raise ValueError("damaged: no field names")
    names = [names[i : i + width].split(b"\0")[0] for i in range(0, len(names), width)]
    if field.encode() not in names:
        raise ValueError(f"no field {field}")
    return values[names.index(field.encode())][1]


def _array(content, order):
    class_, shape, _, parts = _matrix(content, order)
    if class_ not in _NUMBERS or len(parts) != 1 or parts[0][0] not in _TYPES:
        raise ValueError("the field is no array of numbers")
    kind, values = parts[0]
    return np.frombuffer(values, f"{order}{_TYPES[kind]}").reshape(shape, order="F")
