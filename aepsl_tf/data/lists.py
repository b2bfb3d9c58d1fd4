"""Lists of image ids, as they are in the wild."""

import itertools
import os
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
    text = read_text(path)
    # One look at all lines: `IMG 1` is an id, and `X 1` in a Main list an id and its flag.
    flagged = all(re.search(r"\s(-1|0|1)$", line) for _, line in _lines(text))
    main = flagged and (
        any(re.search(r"\s-1$", line) for _, line in _lines(text))
        or all(re.search(r"\S\s{2,}[01]$", line) for _, line in _lines(text))  # VOC's columns
    )
    ids, wrong = [], None
    for number, line in _lines(text):
        id_, mask = _ids_of(line, main)
        if mask is not None and os.path.basename(mask) != os.path.basename(id_):
            wrong = f"line {number}: {line[:100]!r} names the mask of another picture"
        elif why := wrong_in(id_):
            wrong = f"line {number}: {line[:100]!r} is no image id: {why}"
        if wrong:
            break
        ids.append(id_)
    _refuse_twice(path, ids, text)  # in lines before a wrong one
    if wrong:
        raise InputError(f"{path}: {wrong}")
    if not ids:
        raise InputError(f"{path} names no image: the split is empty")
    return ids


def _lines(text):
    """Yields (number, line) of the lines that hold something; a million at once are large."""
    for number, line in enumerate(re.finditer("^.*$", text, re.MULTILINE), start=1):
        if line := line[0].strip():
            yield number, line


def twice(ids):
    """Whether an id is there twice, without a set, which takes as much room as a million ids do."""
    return any(one == other for one, other in itertools.pairwise(sorted(ids)))


def _refuse_twice(path, ids, text):
    if not twice(ids):
        return
    lines = {}
    for id_, (number, _) in zip(ids, _lines(text), strict=False):
        if id_ in lines:
            raise InputError(
                f"{path}: {id_} is listed twice, in lines {lines[id_]} and {number}; remove one"
            )
        lines[id_] = number


def _ids_of(line, main):
    """(id, the mask's where a line names one)."""
    if main:
        return line.rsplit(None, 1)[0], None
    pair = re.fullmatch(r"(\S*/.+?\.\w{3,4})\s+(\S*/.+\.\w{3,4})", line)
    if pair:
        return _below(pair[1]), _below(pair[2])
    return (_below(line) if _suffix(line) in PICTURES else line), None


def _suffix(path):
    return os.path.splitext(path)[1].lower()


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
