"""Which pictures are asked for: files, folders, patterns, and a list of some of them."""

import glob
import os
import pathlib
import sys
import typing

from aepsl_tf.data import lists
from aepsl_tf.errors import InputError
from aepsl_tf.files import SYSTEMS_OWN, path_below, read_json, refuse_unreadable, walk

MADE = "predictions.json"
"""In an output folder: which file is made of which picture."""


class Picture(typing.NamedTuple):
    """A picture's path below the folder that was named, without suffix; that folder; the suffix.

    There may be a million: the folder is one text for all, and no picture is a `pathlib.Path`.
    """

    id: str
    folder: str
    suffix: str

    @classmethod
    def of(cls, file, folder):
        """Of two `pathlib.Path`s."""
        id_ = file.relative_to(folder).with_suffix("").as_posix()
        return cls(id_, str(folder), sys.intern(file.suffix))

    @property
    def name(self):
        """The ID with the file's suffix."""
        return self.id + self.suffix

    @property
    def file(self):
        """The file's path, a text."""
        return path_below(self.folder, self.name)


def find(images, recursive=False, ids_file="", output=""):
    """The `Picture`s of --images, each once; of these the ones in --ids_file, if it is given.

    Args:
      images: a file, a folder or a pattern, or several by commas; what is there under the whole
        text, commas and brackets included, is that.
      recursive: folders with what is below them, but for hidden folders.
      ids_file: a list as `lists.read` takes it; its order is the pictures'.
      output: a folder below one of `images`, in which nothing is an input; in any other place the
        files that an earlier prediction made there are none.

    Raises:
      InputError: there is nothing of that name, or no picture, or not one that is listed.
    """
    found = {}
    for part in [images] if os.path.lexists(images) else images.split(","):
        part = part if os.path.lexists(part) else part.strip()
        for picture in _of(part, images, recursive, output):
            found.setdefault((picture.id, os.path.realpath(picture.file)), picture)
    pictures = list(found.values())
    return _listed(pictures, ids_file) if ids_file else pictures


def _of(part, images, recursive, output):
    path = pathlib.Path(part)
    if os.path.isfile(part):
        return [Picture.of(path, path.parent)]
    if os.path.isdir(part):
        base, files, hint = path, _in_folder(path, recursive), "; for sub-folders: --recursive"
    elif any(sign in part for sign in "*?["):
        base, hint = _fixed(path), ""
        pattern = os.path.join(glob.escape(str(base)), path.relative_to(base))
        files = (file for file in map(pathlib.Path, glob.iglob(pattern, recursive=True))
                 if os.path.isfile(file) and SYSTEMS_OWN.isdisjoint(file.parts))  # fmt: skip
    else:
        raise InputError(
            f"--images={images}: expected a picture, a folder of pictures or a pattern of files"
            + (f"; {part!r} is not there" if part != images else "")
        )
    pictures = [Picture.of(file, base) for file in _without(files, base, output)
                if file.suffix.lower() in lists.PICTURES]  # fmt: skip
    if not pictures:
        held = f"holds no picture ({', '.join(lists.PICTURES)}){'' if recursive else hint}"
        raise InputError(f"{part}: {held}")
    # As paths are sorted: folder by folder.
    return sorted(pictures, key=lambda picture: picture.name.replace("/", "\0"))


def _in_folder(folder, recursive):
    for below, names in walk(folder, lambda path: recursive, refuse_unreadable):
        for name in names:
            path = pathlib.Path(below, name)
            # A link to nothing is named as unreadable; a pipe would be waited for without end.
            if not name.startswith(".") and (os.path.isfile(path) or not os.path.exists(path)):
                yield path


def _fixed(pattern):
    """The folder that a pattern's first sign is looked for in; a sign in the name of a folder that
    is there is none.
    """
    base = pathlib.Path()
    for part in pattern.parts[:-1]:
        if any(sign in part for sign in "*?[") and not os.path.isdir(base / part):
            break
        base /= part
    return base


def _without(files, base, output):
    """Files but those of an output folder that lies below the inputs' own, and those that an
    earlier prediction made in the output folder.
    """
    made = _made(output) if os.path.isdir(output) else ()
    base, output = (os.path.realpath(folder) for folder in (base, output))
    is_inside = output != base and _is_below(output, base)
    for file in files:
        real = os.path.realpath(file)
        if real not in made and not (is_inside and _is_below(real, output)):
            yield file


def _made(output):
    advice = "remove it, or give another --output"
    try:
        made = read_json(os.path.join(output, MADE), {str: str}, advice)
    except FileNotFoundError:
        made = ()
    return {os.path.join(os.path.realpath(output), name) for name in made}


def _is_below(path, folder):
    return os.path.commonpath([path, folder]) == folder


def _listed(pictures, ids_file):
    ids = lists.read(ids_file)
    position = {id_: number for number, id_ in enumerate(ids)}
    chosen = [picture for picture in pictures if picture.id in position]
    missing = position.keys() - {picture.id for picture in chosen}
    if missing:
        some = sorted(missing, key=position.get)[:5]
        raise InputError(
            f"--ids_file={ids_file}: {len(missing)} of {len(ids)} are not among the pictures: "
            f"{', '.join(some)}{', …' if len(missing) > 5 else ''}"
        )
    return sorted(chosen, key=lambda picture: position[picture.id])
