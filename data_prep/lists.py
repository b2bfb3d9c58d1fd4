"""Lists of image ids, as they are in the wild."""

import pathlib
import re

from aepsl_tf.errors import InputError
from aepsl_tf.files import read_text

_LONGEST = 240  # bytes; file systems end at 255, and a suffix follows


def read(path):
    """The image ids of a list, in its order.

    A line is an id, which may hold spaces; an id and, as in ImageSets/Main, 1, 0 or -1; or a pair
    of paths (`/JPEGImages/X.jpg /SegmentationClassAug/X.png`), whose picture gives the id. Empty
    lines are left out. In any encoding of `read_text`.

    Raises:
      InputError: a line that is none of these, an id twice, no id; with the line's number.
    """
    lines = [(number, line.strip()) for number, line in
             enumerate(read_text(path).split("\n"), start=1)]  # fmt: skip
    lines = [(number, line) for number, line in lines if line]
    # One look at all lines: `IMG 1` is an id, and `X 1` in a Main list an id and its flag.
    flagged = all(re.search(r"\s(-1|0|1)$", line) for _, line in lines)
    main = flagged and any(re.search(r"\s-1$", line) for _, line in lines)
    ids = {}
    for number, line in lines:
        id_ = _id_of(line, main)
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


def _id_of(line, main):
    if main:
        return line.rsplit(None, 1)[0]
    pair = re.fullmatch(r"\S*/(\S+)\.\w+\s+\S*/\S+\.\w+", line)
    if pair:
        return pathlib.PurePosixPath(pair[1]).name
    return line


def wrong_in(id_):
    """Why a text can be no image's id, in words, or None.

    An id may have folders before its name, but none above the one that holds the pictures.
    """
    parts = id_.split("/")
    if any(part in ("", ".", "..") for part in parts):
        return "a path that leaves its folder or names none"
    if any(part != part.strip() for part in parts):
        return "a space at the end of a name"
    if not all(c.isprintable() for c in id_) or "\\" in id_:
        return "characters that file names should not hold"
    if any(len(part.encode()) > _LONGEST for part in parts) or len(id_.encode()) > 1000:
        return f"a name of more than {_LONGEST} bytes"
    return None
