"""Files as every room writes and names them: whole or not at all, JSON, and what is inside."""

import codecs
import concurrent.futures
import contextlib
import fcntl
import functools
import hashlib
import itertools
import json
import math
import os
import pathlib
import re
import shutil
import time

from absl import logging

from aepsl_tf.errors import InputError

SYSTEMS_OWN = {"__MACOSX", "lost+found", "System Volume Information", "$RECYCLE.BIN"}
"""Folders beside people's own: of archives from a Mac, of disks."""


def walk(folder, enter=lambda path: True, onerror=None):
    """Yields (path, file names) of a folder and all below it: links followed, no folder twice,
    without hidden folders and `SYSTEMS_OWN`.

    Args:
      enter: whether a sub-folder, by its path, is walked too.
      onerror: `os.walk`'s.
    """
    seen = set()
    for below, folders, names in os.walk(folder, onerror=onerror, followlinks=True):
        if (real := os.path.realpath(below)) in seen:  # a link back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(
            name for name in folders
            if not name.startswith(".") and name not in SYSTEMS_OWN
            and enter(os.path.join(below, name))
        )  # fmt: skip
        yield below, names


def refuse_unreadable(error):
    """For `walk`: a folder that cannot be listed is an error, for what lies there would be lost."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):  # there is nothing
        raise InputError(
            f"{error.filename}: cannot be read ({error.strerror}): make it readable or move it away"
        ) from None


def path_below(folder, name):
    """`str(folder / name)` where a million names pass: pathlib would intern every one of them."""
    return os.path.join(folder, name).removeprefix("./")


def write_atomic(path, content):
    """Writes a file so that it is either the old one or the whole new one.

    Args:
      path: the file.
      content: text or bytes, or an iterable of such.
    """
    path = pathlib.Path(path)
    beside = path.with_name(path.name + ".tmp")
    pieces = iter([content] if isinstance(content, str | bytes) else content)
    first = next(pieces, b"")
    is_text = isinstance(first, str)
    with open(beside, "w" if is_text else "wb", encoding="utf-8" if is_text else None) as file:
        file.writelines(itertools.chain([first], pieces))
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def files_of(path):
    """Paths of all files of a folder, sorted; of a file itself."""
    path = pathlib.Path(path)
    if path.is_file():
        return [path]
    walked = os.walk(path, onerror=refuse_unreadable)
    found = sorted(pathlib.Path(below, name) for below, _, names in walked for name in names)
    return [file for file in found if file.is_file()]


def settle(path):
    """Brings a file, or all files of a folder, to the disk: there they outlive the machine."""
    for file in files_of(path):
        with open(file, "rb") as written:
            os.fsync(written.fileno())


def safe_name(text):
    """A text as a file's name on any system, without a suffix: itself where it is one already.

    Else what cannot stand in a name becomes _, and a digest keeps different texts apart.
    """
    kept = "".join(c if c.isprintable() and c not in '/\\:*?"<>|%' else "_" for c in text)
    kept = kept.lstrip(".").rstrip(". ")
    while len(kept.encode()) > 100:
        kept = kept[:-1]
    return kept if kept == text else f"{kept}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@contextlib.contextmanager
def alone(lock, message, patience=0.0):
    """Holds a lock file; the kernel frees it when its holder dies.

    Args:
      lock: the file; made if need be.
      message: of the error.
      patience: seconds until another holder is one.

    Raises:
      InputError: another process holds it.
    """
    patience += time.monotonic()
    with open(lock, "w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= patience:
                    raise InputError(message) from None
                time.sleep(0.2)
            except OSError as error:  # some network drives know no locks
                raise InputError(f"{lock}: cannot be locked ({error.strerror})") from None
        yield


def remove_at_once(folder):
    """Removes a folder at one stroke: who still writes there finds it gone, and not half empty."""
    gone = folder.with_name(f"{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.replace(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def to_json(value):
    """JSON as this project writes it: readable, and the same bytes for the same value."""
    return json.dumps(value, indent=1, sort_keys=True) + "\n"


_SEAL = "seal"


def sealed(value):
    """`to_json` of a dictionary with a seal, by which `read_json` notices any damage."""
    return to_json(value | {_SEAL: _seal_of(value)})


def _seal_of(value):
    return hashlib.sha256(to_json(value).encode()).hexdigest()[:16]


def read_json(path, shape, advice):
    """A JSON file, checked; what `sealed` added is taken off.

    Args:
      path: the file.
      shape: what it must hold: a type; a list of one shape, for a list of such; a tuple, for one
        of several; a dictionary of field → shape (a "?" behind a field: it may lack), or of `str`
        → shape for any fields; None for null.
      advice: what to do where it is damaged.

    Raises:
      InputError: it is damaged, or holds something else; in one line.
      FileNotFoundError: it is not there.
    """
    try:
        value = json.loads(
            pathlib.Path(path).read_bytes(), parse_constant=_refuse, parse_float=_finite
        )
    except FileNotFoundError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read ({why}): {advice}") from error
    if isinstance(value, dict) and _SEAL in value and value.pop(_SEAL) != _seal_of(value):
        raise InputError(f"{path}: damaged, it is not as it was written: {advice}")
    if wrong := _misfit(value, shape, ""):
        raise InputError(f"{path}: {wrong}: {advice}")
    return value


def _refuse(name):
    raise ValueError(f"{name} is no number")


def _finite(text):
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false",
          dict: "an object", list: "a list", None: "null"}  # fmt: skip


def _misfit(value, shape, where):
    """What does not fit, in words, or None."""
    at = f" at {where}" if where else ""
    if shape is object:
        return None
    if isinstance(shape, tuple):
        misfits = [_misfit(value, one, where) for one in shape]
        return None if None in misfits else misfits[-1]
    if shape is None:
        return None if value is None else f"expected null{at}"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"expected a list{at}"
        found = (_misfit(one, shape[0], f"{where}[{i}]") for i, one in enumerate(value))
        return next(filter(None, found), None)
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"expected an object{at}"
        return _misfit_of_fields(value, shape, where)
    # Python takes True for a whole number, and a whole number will do for a number.
    fits = isinstance(value, (int, float) if shape is float else shape)
    if not fits or (isinstance(value, bool) and shape is not bool):
        return f"expected {_NAMES[shape]}{at}"
    return None


def _below(where, name):
    name = name if name.isprintable() else repr(name)
    return f"{where}.{name}".lstrip(".")[:200]


def _misfit_of_fields(value, shape, where):
    if str in shape:
        found = (_misfit(one, shape[str], _below(where, name)) for name, one in value.items())
        return next(filter(None, found), None)
    known = {name.removesuffix("?"): (one, name[-1] == "?") for name, one in shape.items()}
    for name in value.keys() - known.keys():
        return f"expected no {name[:80]!r} at {where or 'its top'}"
    for name, (one, optional) in known.items():
        if name not in value:
            if not optional:
                return f"expected {name!r} at {where or 'its top'}"
        elif found := _misfit(value[name], one, _below(where, name)):
            return found
    return None


def read_text(path):
    """A text file that people made: UTF-8, UTF-16 or, with a word in the log, Latin-1.

    A byte-order mark is left out, and lines end with `\\n`.

    Raises:
      InputError: it cannot be read, or is no text; in one line.
    """
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    text, encoding = _decoded(data)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if found := _NO_TEXT.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise InputError(f"{path}: is no text: line {line} holds {found[0]!r}; save it as UTF-8")
    if encoding == "latin-1":
        logging.warning("%s is not UTF-8: read as Latin-1; save it as UTF-8 if names look wrong",
                        path)  # fmt: skip
    return text


_NO_TEXT = re.compile("[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f\\ufffd\\ufffe]")
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"),
          (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF16_LE, "utf-16-le"),
          (codecs.BOM_UTF16_BE, "utf-16-be"))  # fmt: skip


def _decoded(data):
    """(text, encoding); what is no text in any of them keeps characters that no text holds."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.removeprefix(mark).decode(encoding, "replace"), encoding
    with contextlib.suppress(UnicodeDecodeError):
        if b"\0" not in data:
            return data.decode("utf-8"), "utf-8"
    # UTF-16 without a mark: every other byte of Latin letters is 0.
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        half = data[first::2]
        if len(data) % 2 == 0 and half and half.count(0) > 0.7 * len(half):
            return data.decode(encoding, "replace"), encoding
    with contextlib.suppress(UnicodeDecodeError):  # Windows' Latin-1, whose quotes are no controls
        return data.decode("cp1252"), "latin-1"
    return data.decode("latin-1"), "latin-1"


def digest(path, name=None):
    """sha256 of a file's name and content, or of a folder's relative names and file contents.

    Args:
      name: the name that a file had when its digest was taken, if another.
    """
    path = pathlib.Path(path)
    if path.is_file():
        return _of_lines([(name or path.name, _sha256(path))])
    return _of_lines((name, _sha256(path / name)) for name in _files_below(path))


class Content:
    """What a setting names, known by what it holds and not by where it lies.

    A file is known by its sha256. Of a folder, what counts is the files that are read: their
    names below it and their sha256s. A folder has a stamp too, of names, sizes and times: while
    it stays the same, gigabytes need not be read again to see that nobody touched them.

    Args:
      given: the setting's value; "" where a default stands.
      path: the file or the folder.
      names: of a folder, the files that are read, relative to it: a list; or what gives them in
        their order whenever it is iterated over, where all at once would fill the memory; or a
        function that tells them where finding out costs time; the stamp is then one of the whole
        folder.
      older: the `Content` that older versions recorded in its place, which read less.
    """

    def __init__(self, given, path, names=None, older=None):
        self.given, self.path, self._names = given, pathlib.Path(path), names
        self._older = older

    @functools.cached_property
    def names(self):
        names = self._names() if callable(self._names) else self._names
        return sorted(names) if isinstance(names, list) else names

    @functools.cached_property
    def there(self):
        """Whether it can be looked at: the file, or every folder in which there is one to read."""
        if self._names is None:
            return self.path.is_file()
        if callable(self._names):
            return self.path.is_dir()
        folders = {os.path.dirname(name) for name in self.names}
        return bool(folders) and all((self.path / folder).is_dir() for folder in folders)

    @functools.cached_property
    def sha256(self):
        """The digest as hex; None where there is nothing to look at."""
        if not self.there:
            return None
        if self._names is None:
            return _sha256(self.path)
        return _of_lines(self._digests())

    def _digests(self):
        names = iter(self.names)
        with concurrent.futures.ThreadPoolExecutor() as threads:
            while some := list(itertools.islice(names, 100)):  # each waits in memory, done or not
                digests = threads.map(_sha256, (path_below(self.path, name) for name in some))
                yield from zip(some, digests, strict=True)

    @functools.cached_property
    def stamp(self):
        """Of a folder: changes with a name, a size or a time; None for a file."""
        if self._names is None or not self.there:
            return None
        names = _files_below(self.path) if callable(self._names) else self.names
        return _of_lines((name, _size_and_time(path_below(self.path, name))) for name in names)

    def to_json(self):
        """What a manifest keeps."""
        stamped = self._stamped()  # first: what changes while it is read has another stamp
        return {"path": self.given, "sha256": self.sha256} | stamped

    def is_same(self, recorded):
        """Whether `recorded`, of `to_json`, is the same content; None is none.

        Where there is nothing to look at, the same path is taken for the same; a default, then,
        for whatever it was. So it is where all that was recorded is a path, as older versions did.
        """
        if recorded is None:
            return not self.there and not self.given
        if isinstance(recorded, str):
            return _same_path(recorded, self.given)
        if not self.there:
            return _same_path(recorded["path"], self.given)
        if self.stamp and self.stamp == recorded.get("stamp"):
            return True
        if self.sha256 == recorded["sha256"]:
            return True
        return self._older is not None and self._older.is_same(recorded)

    def renewed(self, recorded):
        """`recorded`, which is the same content, with the place and the times of today."""
        if not isinstance(recorded, dict) or not self.there:
            return recorded
        return recorded | {"path": self.given} | self._stamped()

    def _stamped(self):
        return {"stamp": self.stamp} if self.stamp else {}


def _files_below(folder):
    return [str(p.relative_to(folder)) for p in files_of(folder)]


def _same_path(one, other):
    return os.path.normpath(one) == os.path.normpath(other)


def _of_lines(pairs):
    total = hashlib.sha256()
    for name, what in pairs:
        total.update(os.fsencode(f"{name}\0{what}\n"))
    return total.hexdigest()


def _sha256(path):
    try:
        with open(path, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def _size_and_time(path):
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return f"{status.st_size} {status.st_mtime_ns}"
