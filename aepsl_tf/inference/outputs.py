"""What prediction writes: the files of each picture, and those of all pictures in the folder.

Workers make the former without TensorFlow. The latter are made at the end from what lies in the
folder, so they hold the pictures of earlier predictions too; and those that are there are made anew
each time. So nothing in the folder tells of a mask that is not there any more.
"""

import csv
import io
import itertools
import json
import os
import pathlib
import typing

import numpy as np

from aepsl_tf.data import encoding, runners
from aepsl_tf.errors import InputError
from aepsl_tf.files import read_json, to_json, write_atomic
from aepsl_tf.inference import cells, coco, crf, drawing, voc_submission
from aepsl_tf.inference.inputs import MADE

AREAS, COCO = "areas.csv", "coco.json"
_OF_ALL = "all pictures of this folder"  # in place of a picture
_PAGE = "contact_sheet_"
_COLUMNS = ["image", "class", "pixels", "share", "score"]
_LONGEST = 250  # bytes of a name; file systems end at 255, and a suffix follows for a while
_SHEET = (6, 8, 180)  # columns, rows, pixels of a picture's side


# ------------------------------------------------------------------------------ of one picture


class Wanted(typing.NamedTuple):
    """What a worker makes of each picture.

    Attributes:
      preset: `crf.settings_of`, or None without the CRF.
      palette: uint8 `[256, 3]`.
      names: of the classes, background first.
      scores, voc: whether --scores and --voc_submission are asked for.
    """

    preset: dict | None
    palette: np.ndarray
    names: tuple
    scores: bool = False
    voc: bool = False

    @classmethod
    def of(cls, settings, classes):
        """What a `config.Predict` asks for of a run with these classes."""
        preset = crf.settings_of(settings) if settings.crf else None
        named = classes.palette(), classes.all_names()
        return cls(preset, *named, settings.scores, settings.voc_submission)

    def _forms(self):
        """What stands before and after an ID in the names of a picture's files."""
        forms = [("", ".png"), ("", "_overlay.png")]
        forms += [("", "_scores.npz")] if self.scores else []
        return forms + ([(f"{voc_submission.FOLDER}/", ".png")] if self.voc else [])

    def files(self, id_):
        """The names of a picture's files below the output folder, in the order of `files_of`."""
        return [before + id_ + after for before, after in self._forms()]

    def ids(self, name):
        """The IDs of which a file of this name could be."""
        return [name.removeprefix(before).removesuffix(after) for before, after in self._forms()
                if name.startswith(before) and name.endswith(after)]  # fmt: skip


def files_of(wanted, item):
    """A picture's files and areas, of (ID, (height, width), mask or None, `Cells`, v or None).

    The overlay is the picture's as the network sees it, the mask has the picture's own size.

    Returns:
      (ID, {name: bytes}, pixels of each class id, v).
    """
    id_, size, mask, one, scores = item
    if wanted.preset is not None:
        mask = cells.crf_mask(wanted.preset, one)
    elif mask is None:
        mask = cells.plain_mask(one)
    shown = encoding.resize_mask(mask, *one.picture.shape[:2])
    mask = encoding.resize_mask(mask, *size)
    contents = [encoding.palette_png(mask, wanted.palette),
                encoding.rgb_png(drawing.overlay(one.picture, shown, wanted.palette))]  # fmt: skip
    if wanted.scores:
        contents.append(_scores(wanted, one, scores))
    if wanted.voc:
        contents.append(voc_submission.mask_png(mask))
    files = dict(zip(wanted.files(id_), contents, strict=True))
    return id_, files, np.bincount(mask.ravel(), minlength=len(wanted.names)), scores


def _scores(wanted, one, scores):
    likely, possible = cells.probabilities(one)
    whole = np.zeros((*likely.shape[:2], len(wanted.names)), np.float16)
    whole[..., possible] = likely
    arrays = {"probabilities": whole, "names": np.array(wanted.names)}
    file = io.BytesIO()
    np.savez_compressed(file, **arrays | ({} if scores is None else {"scores": scores}))
    return file.getvalue()


# ---------------------------------------------------------------------------------- the folder


class Folder:
    """The output folder, in which nothing is written over that is not its own.

    There may be a million pictures, so little is kept of each: the names of its files and of what
    they are made of are found when they are asked for, and its areas are lines of a file already.

    Args:
      path: the folder; nothing is written before `begin`.
      pictures: `inputs.Picture`s.
      wanted: `Wanted`.
      sheets, with_coco: whether files of all pictures are asked for, beside areas.csv; those that
        an earlier prediction left are made anew in any case.

    Raises:
      InputError: a result would lie over a picture, over another one's result, or over a file that
        no earlier prediction made of this picture.
    """

    def __init__(self, path, pictures, wanted, sheets=False, with_coco=False):
        self.path = pathlib.Path(path)
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"--output={path}: there is a file of this name; name a folder")
        try:
            advice = "remove it, or give another --output"
            self._before = read_json(self.path / MADE, {str: str}, advice)
        except FileNotFoundError:
            self._before = {}
        there = {name for name, source in self._before.items()
                 if source == _OF_ALL and (self.path / name).exists()}  # fmt: skip
        self._coco = with_coco or COCO in there
        self._sheets = sheets or any(name.startswith(_PAGE) for name in there)
        self._wanted, self._given = wanted, {}
        self._of_all, self._left = set(), {}
        for picture in pictures:
            source = _source(picture)
            for name in wanted.files(picture.id):
                self._claim(name, source, picture.name)
            self._given[picture.id] = picture
            if left := self._left_of(picture.id, source):
                self._left[f"{picture.id}.png"] = left
        of_all = [AREAS, *([COCO] if self._coco else []), *(self._pages() if self._sheets else [])]
        of_all += [voc_submission.ARCHIVE] if wanted.voc else []
        for name in of_all:
            self._claim(name, _OF_ALL, "what is of all pictures")
            self._of_all.add(name)
        self._refuse_files_for_folders()
        self._before = {name: source for name, source in self._before.items()
                        if not self._made(name)}  # fmt: skip
        self._earlier, self._areas = _read_areas(self.path / AREAS), {}

    def _names(self):
        """The files that will be made."""
        for id_ in self._given:
            yield from self._wanted.files(id_)
        yield from self._of_all

    def _made(self, name):
        """Of which picture a file will be made, or None."""
        if name in self._of_all:
            return _OF_ALL
        ids = (id_ for id_ in self._wanted.ids(name) if id_ in self._given)
        return next((_source(self._given[id_]) for id_ in ids), None)

    def _recorded(self, name):
        """Of which picture a file is or will be made, or None."""
        return self._made(name) or self._before.get(name)

    def _claim(self, name, source, of):
        if len(os.fsencode(name.rpartition("/")[2])) > _LONGEST:
            raise InputError(f"{of}: {name[:40]}… would be too long a name: rename it")
        if made := self._made(name):
            other = pathlib.PurePath(made).name
            if other == of:  # of another folder
                other, of = made, source
            raise InputError(f"{other} and {of} would both be written as {name}: rename one")
        path, is_ours = self.path / name, self._before.get(name) == source
        if os.path.lexists(path) and (path.is_dir() or not is_ours):
            made_of = "by predict" if source == _OF_ALL else f"of this picture, {of}"
            raise InputError(
                f"--output={self.path}: {name} is there already and was not made {made_of}: give "
                "another folder"
            )

    def _left_of(self, id_, source):
        """What an earlier prediction made of a picture and this one does not: of another mask."""
        every = self._wanted._replace(scores=True, voc=True).files(id_)
        left = [name for name in every
                if self._before.get(name) == source and not self._made(name)]  # fmt: skip
        packed = voc_submission.ARCHIVE in self._before and any(
            name.startswith(voc_submission.FOLDER) for name in left
        )
        return left + [voc_submission.ARCHIVE] * packed

    def _refuse_files_for_folders(self):
        below = {folder for name in self._names() for folder in pathlib.PurePath(name).parents[:-1]}
        for folder in sorted(below):
            if self._made(str(folder)):
                raise InputError(f"{folder} would be both a mask and a folder of masks: rename the "
                                 "picture or the folder")  # fmt: skip
            if os.path.lexists(self.path / folder) and not os.path.isdir(self.path / folder):
                raise InputError(f"--output={self.path}: {folder} is a file: give another folder")

    def _pictures(self):
        """(ID, source) of every picture of which there is or will be a mask, by its ID."""
        for name in sorted(self._before.keys() | self._names()):
            id_, source = name.removesuffix(".png"), self._recorded(name)
            if self._recorded(f"{id_}_overlay.png") == source:  # else it is no mask
                yield id_, source

    def _pages(self):
        count, a_page = sum(1 for _ in self._pictures()), _SHEET[0] * _SHEET[1]
        return [f"{_PAGE}{i + 1:03}.png" for i in range(-(-count // a_page))]

    def begin(self):
        """Makes the folder and says in it what will be whose."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomic(self.path / MADE, self._record())
        except OSError as error:
            raise InputError(
                f"--output={self.path}: cannot be written to ({error.strerror})"
            ) from None
        if voc_submission.ARCHIVE in self._of_all:  # of other masks than it will be beside
            (self.path / voc_submission.ARCHIVE).unlink(missing_ok=True)

    def _record(self):
        """`to_json` of {file: source}, in pieces."""
        before = "{"
        for name in sorted(self._before.keys() | self._names()):
            yield f"{before}\n {json.dumps(name)}: {json.dumps(self._recorded(name))}"
            before = ","
        yield "\n}\n"

    def write(self, files):
        """Writes files: {name: content for `write_atomic`}."""
        for name, data in files.items():
            for left in self._left.get(name, ()):
                (self.path / left).unlink(missing_ok=True)
            try:
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                write_atomic(self.path / name, data)
            except OSError as error:
                raise InputError(
                    f"{self.path / name}: cannot be written ({error.strerror})"
                ) from None

    def count(self, id_, pixels, scores):
        """Keeps the areas of a picture that was read: pixels of each class id, v or None."""
        self._earlier.pop(_shown(id_), None)
        self._areas[id_] = _csv(_rows(id_, pixels, scores, self._wanted.names))

    def finish(self, workers):
        """Writes what is of all pictures."""
        areas = self._areas
        if self._earlier:
            there = {_shown(id_) for id_, _ in self._pictures()
                     if (self.path / f"{id_}.png").exists()}  # fmt: skip
            areas = {id_: self._earlier[id_] for id_ in self._earlier.keys() & there} | areas
        lines = (areas[id_] for id_ in sorted(areas, key=_shown))
        self.write({AREAS: itertools.chain([_csv([_COLUMNS])], lines)})
        if self._coco:
            found = runners.ordered_map(_annotated, self._there(".png"), workers)
            self.write({COCO: to_json(coco.document(found, self._wanted.names))})
        if self._sheets:
            self._write_sheets(workers)

    def _there(self, suffix):
        """[(the picture's name, its file)] of the masks, or the overlays, that are there."""
        named = [(self._given[id_].name if id_ in self._given
                  else id_ + pathlib.PurePath(source).suffix,
                  self.path / (id_ + suffix)) for id_, source in self._pictures()]  # fmt: skip
        return [(_shown(name), path) for name, path in named if path.exists()]

    def _write_sheets(self, workers):
        columns, rows, side = _SHEET
        shown = runners.ordered_map(_small, self._there("_overlay.png"), workers)
        for name in self._pages():
            page = list(itertools.islice(shown, columns * rows))
            lines = [page[i : i + columns] for i in range(0, len(page), columns)]
            if lines:
                self.write({name: encoding.rgb_png(drawing.panel(lines, side))})
            else:  # pictures of an earlier prediction are gone
                (self.path / name).unlink(missing_ok=True)


def _source(picture):
    return _shown(os.path.realpath(picture.file))


def _pixels(path):
    """A PNG of ours as an array: class ids of a mask, RGB of an overlay."""
    try:
        picture, _ = encoding.picture_in(path.read_bytes(), 1 << 31)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read any more ({error}): predict its picture again"
        ) from None
    return np.asarray(picture)


def _annotated(item):
    name, path = item
    mask = _pixels(path)
    return name, mask.shape, coco.annotations(mask)


def _small(item):
    name, path = item
    return name, drawing.thumbnail(_pixels(path), _SHEET[2])


# ----------------------------------------------------------------------------------- areas.csv


def _shown(name):
    """A name as UTF-8 can hold it."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _rows(id_, pixels, scores, names):
    """Rows of areas.csv: of one picture, every class that is in its mask."""
    for class_id in np.flatnonzero(pixels):
        score = "" if scores is None or class_id == 0 else f"{scores[class_id - 1]:.4f}"
        share = f"{pixels[class_id] / pixels.sum():.6f}"
        yield [_shown(id_), names[class_id], str(pixels[class_id]), share, score]


def _csv(rows):
    file = io.StringIO(newline="")
    for row in rows:
        # A carriage return, which Python leaves as it is, would end the line for who reads it.
        quoting = csv.QUOTE_ALL if any("\r" in cell for cell in row) else csv.QUOTE_MINIMAL
        csv.writer(file, lineterminator="\n", quoting=quoting).writerow(row)
    return file.getvalue().encode()


def _read_areas(path):
    """{the picture as it is shown: its lines} of an earlier prediction's areas.csv."""
    areas = {}
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.reader(file, strict=True)
            if next(rows, None) != _COLUMNS:
                raise ValueError
            for id_, *found in rows:
                if len(found) != len(_COLUMNS) - 1:
                    raise ValueError
                areas[id_] = areas.get(id_, b"") + _csv([[id_, *found]])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, csv.Error):
        raise InputError(
            f"{path}: is not as it was written: remove it, or give another --output"
        ) from None
    return areas
