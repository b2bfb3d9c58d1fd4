"""Masks of a split as people draw them: class ids or colours, upright or as the camera lay."""

import dataclasses
import pathlib
import re

import numpy as np
from absl import logging
from PIL import Image

from aepsl_tf.classes import BACKGROUND, VOID, voc_palette
from aepsl_tf.data import encoding
from aepsl_tf.errors import InputError
from aepsl_tf.files import read_text
from data_prep import tags

_CREAM = (224, 224, 192)  # VOC's void


@dataclasses.dataclass(frozen=True)
class Masks:
    """How the masks of a split are read; picklable.

    Attributes:
      num_classes: C; ids are 0..C and 255.
      colors: {what they are called: {(r, g, b): id}}; None in place of an id where two share a
        colour. A mask's must be those of one of them, and mean the same in all that have them.
      max_pixels: --max_pixels.
    """

    num_classes: int
    colors: dict
    max_pixels: int

    @classmethod
    def of(cls, folder, classes, max_pixels):
        """For a folder of masks."""
        if path := labelmap(folder):
            return cls(len(classes), {str(path): _colors_in(path, classes)}, max_pixels)
        base = [((0, 0, 0), BACKGROUND), (_CREAM, VOID)]
        own = [(tuple(c), id_) for id_, c in enumerate(classes.colors, start=1)]
        voc = [(tuple(map(int, c)), id_) for id_, c in enumerate(voc_palette()[: len(classes) + 1])]
        colors = {
            "the classes' colours": _table(base + own), "VOC's colours": _table(base + voc[1:])
        }  # fmt: skip
        return cls(len(classes), colors, max_pixels)

    def read(self, path, picture):
        """Class ids, uint8 `[H, W]`, in the size of the upright picture.

        Args:
          path: the mask; `picture`: the file it belongs to.

        Raises:
          InputError: no mask, an unknown id or colour, another size; in one line.
        """
        mask = self._ids(path)
        counts = np.bincount(mask.ravel(), minlength=256)
        wrong = [int(c) for c in np.flatnonzero(counts) if self.num_classes < c < VOID]
        if wrong:
            raise InputError(
                f"{path}: holds class id {wrong[0]}; expected 0..{self.num_classes} or {VOID}: "
                "mend the mask or give the right --classes_file"
            )
        return self._fitted(mask, path, picture)

    def _ids(self, path):
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        try:
            picture, png = encoding.picture_in(data, self.max_pixels)
        except ValueError as error:
            raise InputError(
                f"{path}: cannot be read as a PNG ({error}); save the mask again as a palette PNG"
            ) from None
        if png is None:
            raise InputError(f"{path}: expected a PNG, found {picture.format}, which loses ids")
        # Pillow stretches greyscale of 1, 2 and 4 bits to 0..255, which would change the ids.
        if picture.mode == "P" or (picture.mode, png.depth) == ("L", 8):
            return np.array(picture, dtype=np.uint8)
        if picture.mode == "RGBA" and picture.getextrema()[3] == (255, 255):
            picture = picture.convert("RGB")
        if picture.mode == "RGB" and png.depth == 8:
            return self._of_colors(np.asarray(picture), path)
        raise InputError(
            f"{path}: expected a PNG of class ids or of their colours, got mode {picture.mode} "
            f"with {png.depth} bits a channel"
        )

    def _of_colors(self, pixels, path):
        packed = pixels.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
        seen, index = np.unique(packed, return_inverse=True)
        seen = [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in seen]
        fitting = {
            name: np.array([ids[color] for color in seen], np.uint8)
            for name, ids in self.colors.items()
            if all(ids.get(color) is not None for color in seen)
        }
        if fitting:
            first, *others = fitting.values()
            if any((other != first).any() for other in others):
                raise InputError(
                    f"{path}: its colours mean one thing by {' and another by '.join(fitting)}: "
                    "give a labelmap.txt beside the masks"
                )
            return first[index].reshape(packed.shape)
        for name, ids in self.colors.items():
            if twice := [color for color in seen if color in ids and ids[color] is None]:
                raise InputError(f"{path}: {twice[0]} is the colour of two classes by {name}")
        name, ids = max(self.colors.items(), key=lambda item: sum(c in item[1] for c in seen))
        color = next(color for color in seen if color not in ids)
        raise InputError(
            f"{path}: colour {color} is none of {name}: give a labelmap.txt beside the masks, the "
            "right colours in --classes_file, or save the class ids"
        )

    def _fitted(self, mask, path, picture):
        size, raw, turned = _size_of(picture)
        if mask.shape == size:
            return mask
        if mask.shape == raw:  # drawn on the pixels as the camera wrote them
            return np.asarray(encoding.upright(Image.fromarray(mask), turned))
        raise InputError(
            f"{path}: {mask.shape[1]} × {mask.shape[0]} pixels, its picture {picture} has "
            f"{size[1]} × {size[0]}: draw the mask on that picture"
        )


def _size_of(picture):
    """((H, W) of the upright picture, of the pixels as they lie, EXIF orientation)."""
    try:
        with Image.open(picture, formats=encoding.FORMATS) as opened:
            turned, (width, height) = encoding.orientation(opened), opened.size
            if opened.format == "TIFF" and turned >= 5:  # which Pillow turns by itself
                width, height = height, width
    except Exception:  # whoever reads it as a picture says what is wrong
        raise InputError(f"{picture}: not a readable picture; replace or leave out") from None
    raw = height, width
    return (raw[::-1] if turned >= 5 else raw), raw, turned


def _table(pairs):
    """Colour → id, None where two ids share it."""
    found = {}
    for color, id_ in pairs:
        found[color] = id_ if found.get(color, id_) == id_ else None
    return found


def labelmap(folder):
    """CVAT's `labelmap.txt` in a folder of masks or beside it: its path, or None."""
    folder = pathlib.Path(folder)
    found = (place / "labelmap.txt" for place in (folder, folder.parent))
    return next((path for path in found if path.is_file()), None)


def _colors_in(path, classes):
    """Colours of a labelmap.txt: `name:r,g,b:parts:actions` a line."""
    found = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = re.fullmatch(r"(.+?):(\d+),(\d+),(\d+)(:.*)?", line.strip())
        color = tuple(int(part) for part in parts.groups()[1:4]) if parts else ()
        if not parts or max(color) > 255:
            raise InputError(f"{path}: line {number}: expected `name:r,g,b::`")
        name = parts[1].strip()
        known = {"background": BACKGROUND, "void": VOID, "ignore": VOID}.get(name.casefold())
        id_ = tags.find(name, classes) if known is None else known
        if id_ is not None:
            found.append((color, id_))
    return _table(found)


def warn_of_palette(paths, classes):
    """A word in the log where palette masks' colours are not those of the classes they hold."""
    for path in paths:
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.mode != "P":
                continue
            palette = np.array(picture.getpalette("RGB")).reshape(-1, 3)
            used = [int(i) for i in np.unique(np.asarray(picture))]
        used = [i for i in used if 0 < i <= min(len(classes), len(palette) - 1)]
        other = [i for i in used if tuple(palette[i]) != tuple(classes.colors[i - 1])]
        grey = all(len(set(color)) == 1 for color in palette[used].tolist())
        if other and not grey:
            logging.warning(
                "%s: its palette paints id %d %s, the classes say %s is %s: are the ids those of "
                "--classes_file?", path, other[0], tuple(palette[other[0]].tolist()),
                classes.names[other[0] - 1], classes.colors[other[0] - 1],
            )  # fmt: skip
            return
