"""Files as every room writes and names them: whole or not at all, JSON, and what is inside."""

import concurrent.futures
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import pathlib
import shutil
import time

from aepsl_tf.errors import InputError


def write_atomic(path, text):
    """Writes a text file so that it is either the old one or the whole new one."""
    path = pathlib.Path(path)
    beside = path.with_name(path.name + ".tmp")
    with open(beside, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


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


def digest(path):
    """sha256 of a file, or of a folder's relative names and file contents."""
    path = pathlib.Path(path)
    if path.is_file():
        return _of_lines([(path.name, _sha256(path))])
    return _of_lines((name, _sha256(path / name)) for name in _files_below(path))


class Content:
    """What a setting names, known by what it holds and not by where it lies.

    A file is known by its sha256. Of a folder, what counts is the files that are read: their
    names below it and their sha256s. A folder has a stamp too, of names, sizes and times: while
    it stays the same, gigabytes need not be read again to see that nobody touched them.

    Args:
      given: the setting's value; "" where a default stands.
      path: the file or the folder.
      names: of a folder, the files that are read, relative to it, or a function that tells them
        where finding out costs time; its stamp is then one of the whole folder.
    """

    def __init__(self, given, path, names=None):
        self.given, self.path, self._names = given, pathlib.Path(path), names

    @functools.cached_property
    def names(self):
        return sorted(self._names() if callable(self._names) else self._names)

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
        with concurrent.futures.ThreadPoolExecutor() as threads:
            for first in range(0, len(self.names), 1000):  # each waits in memory, done or not
                some = self.names[first : first + 1000]
                digests = threads.map(_sha256, map(self.path.joinpath, some))
                yield from zip(some, digests, strict=True)

    @functools.cached_property
    def stamp(self):
        """Of a folder: changes with a name, a size or a time; None for a file."""
        if self._names is None or not self.there:
            return None
        names = _files_below(self.path) if callable(self._names) else self.names
        return _of_lines((name, _size_and_time(self.path / name)) for name in names)

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
        return self.sha256 == recorded["sha256"]

    def renewed(self, recorded):
        """`recorded`, which is the same content, with the place and the times of today."""
        if not isinstance(recorded, dict) or not self.there:
            return recorded
        return recorded | {"path": self.given} | self._stamped()

    def _stamped(self):
        return {"stamp": self.stamp} if self.stamp else {}


def _files_below(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return [str(p.relative_to(folder)) for p in files]


def _same_path(one, other):
    return os.path.normpath(one) == os.path.normpath(other)


def _of_lines(pairs):
    total = hashlib.sha256()
    for name, what in pairs:
        total.update(f"{name}\0{what}\n".encode())
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
    return f"{status.st_size} {status.st_mtime_ns}"
