"""Lists of image ids, as they are in the wild."""

import pathlib
import re
import unicodedata

from aepsl_tf.errors import InputError
from aepsl_tf.files import read_text

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""Suffixes of pictures, in any case."""
_NO_TEXT = ("Cc", "Cs", "Zl", "Zp")  # controls, half characters, ends of lines
_LONGEST = 240  # bytes; file systems end at 255, and a suffix follows


def read(path):
    """The image ids of a list, in its order.

    A line is an id, which may hold spaces; an id and, as in ImageSets/Main, 1, 0 or -1; or a path
    or a pair of them (`/JPEGImages/X.jpg /SegmentationClassAug/X.png`), whose picture gives the id.
    A picture's suffix is left out, and so are empty lines. In any encoding of `read_text`.

    Raises:
      InputError: a line that is none of these, an id twice, no id; with the line's number.
    """
    lines = [(number, line.strip()) for number, line in
             enumerate(read_text(path).split("\n"), start=1)]  # fmt: skip
    lines = [(number, line) for number, line in lines if line]
    # One look at all lines: `IMG 1` is an id, and `X 1` in a Main list an id and its flag.
    flagged = all(re.search(r"\s(-1|0|1)$", line) for _, line in lines)
    main = flagged and (
        any(re.search(r"\s-1$", line) for _, line in lines)
        or all(re.search(r"\S\s{2,}[01]$", line) for _, line in lines)  # as VOC sets its columns
    )
    ids = {}
    for number, line in lines:
        id_, mask = _ids_of(line, main)
        if mask is not None and pathlib.PurePosixPath(mask).name != pathlib.PurePosixPath(id_).name:
            raise InputError(
                f"{path}: line {number}: {line[:100]!r} names the mask of another picture"
            )
        if wrong := wrong_in(id_):
            raise InputError(f"{path}: line {number}: {line[:100]!r} is no image id: {wrong}")
        if id_ in ids:
            raise InputError(
                f"{path}: {id_} is listed twice, in lines {ids[id_]} and {number}; remove one"
            )
        ids[id_] = number
    if not ids:
        raise InputError(f"{path} names no image: the split is empty")
    return list(ids)


def _ids_of(line, main):
    """(id, the mask's where a line names one)."""
    if main:
        return line.rsplit(None, 1)[0], None
    pair = re.fullmatch(r"(\S*/.+?\.\w{3,4})\s+(\S*/.+\.\w{3,4})", line)
    if pair:
        return _below(pair[1]), _below(pair[2])
    return (_below(line) if _suffix(line) in PICTURES else line), None


def _suffix(path):
    return pathlib.PurePosixPath(path).suffix.lower()


def _below(path):
    """`/JPEGImages/X.jpg` → `X`."""
    path = path[: -len(_suffix(path))].removeprefix("/")
    return path.rpartition("JPEGImages/")[2]


def wrong_in(id_):
    """Why a text can be no image's id, in words, or None.

    An id may have folders before its name, but none above the one that holds the pictures.
    """
    parts = id_.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "a path that leaves its folder or names none"
    if any(part != part.strip() for part in parts):
        return "a space at the end of a name"
    if any(unicodedata.category(c) in _NO_TEXT or c in "\\\ufeff" for c in id_):
        return "characters that file names should not hold"
    if any(len(part.encode()) > _LONGEST for part in parts) or len(id_.encode()) > 1000:
        return f"a name of more than {_LONGEST} bytes"
    return None
