"""Masks of a split as people draw them: class ids or colours, upright or as the camera lay."""

import dataclasses
import pathlib

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
      colors: {what they are called: {(r, g, b): id}}, tried in this order.
      max_pixels: --max_pixels.
    """

    num_classes: int
    colors: dict
    max_pixels: int

    @classmethod
    def of(cls, folder, classes, max_pixels):
        """For a folder of masks; CVAT's `labelmap.txt`, in it or beside it, counts."""
        colors = {}
        for path in (
            pathlib.Path(folder) / "labelmap.txt",
            pathlib.Path(folder).parent / "labelmap.txt",
        ):
            if path.is_file():
                colors[str(path)] = _labelmap(path, classes)
                break
        base = {(0, 0, 0): BACKGROUND, _CREAM: VOID}
        own = {tuple(c): id_ for id_, c in enumerate(classes.colors, start=1)}
        voc = {tuple(map(int, c)): id_ for id_, c in enumerate(voc_palette()[: len(classes) + 1])}
        colors |= {"the classes' colours": base | own, "VOC's colours": base | voc}
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
            data = pathlib.Path(path).read_bytes()
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
        for ids in self.colors.values():
            if all(color in ids for color in seen):
                return np.array([ids[color] for color in seen], np.uint8)[index].reshape(
                    packed.shape
                )
        name, ids = max(self.colors.items(), key=lambda item: sum(c in item[1] for c in seen))
        color = next(color for color in seen if color not in ids)
        raise InputError(
            f"{path}: colour {color} is none of {name}: give a labelmap.txt beside the masks, the "
            "right colours in --classes_file, or save the class ids"
        )

    def _fitted(self, mask, path, picture):
        size, turned = _size_of(picture)
        raw = size[::-1] if turned >= 5 else size
        if mask.shape == size:
            return mask
        if mask.shape == raw:  # drawn on the pixels as the camera wrote them
            return np.asarray(encoding.upright(Image.fromarray(mask), turned))
        raise InputError(
            f"{path}: {mask.shape[1]} × {mask.shape[0]} pixels, its picture {picture} has "
            f"{size[1]} × {size[0]}: draw the mask on that picture"
        )


def _size_of(picture):
    """((H, W) of the upright picture, EXIF orientation), by its header."""
    try:
        with Image.open(picture) as opened:
            turned, (width, height) = encoding.orientation(opened), opened.size
    except Exception:  # whoever reads it as a picture says what is wrong
        raise InputError(f"{picture}: not a readable picture; replace or leave out") from None
    return ((width, height) if turned >= 5 else (height, width)), turned


def _labelmap(path, classes):
    """Colours of CVAT's labelmap.txt: `name:r,g,b:parts:actions` a line."""
    found = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, color, *_ = line.split(":")
            color = tuple(int(part) for part in color.split(","))
            if len(color) != 3 or not all(0 <= part <= 255 for part in color):
                raise ValueError
        except ValueError:
            raise InputError(f"{path}: line {number}: expected `name:r,g,b::`") from None
        known = {"background": BACKGROUND, "void": VOID, "ignore": VOID}.get(name.casefold())
        id_ = tags.find(name, classes) if known is None else known
        if id_ is not None:
            found[color] = id_
    return found


def warn_of_palette(path, classes):
    """A word in the log where a palette mask's colours are not those of the classes it holds."""
    with Image.open(path) as picture:
        if picture.mode != "P":
            return
        palette = np.array(picture.getpalette("RGB")).reshape(-1, 3)
        used = [int(i) for i in np.unique(np.asarray(picture)) if 0 < i <= len(classes)]
    other = [
        i for i in used if i < len(palette) and tuple(palette[i]) != tuple(classes.colors[i - 1])
    ]
    grey = all(len(set(color)) == 1 for color in palette[used].tolist())
    if other and not grey:
        logging.warning(
            "%s: its palette paints id %d %s, the classes say %s is %s: are the ids those of "
            "--classes_file?", path, other[0], tuple(palette[other[0]].tolist()),
            classes.names[other[0] - 1], classes.colors[other[0] - 1],
        )  # fmt: skip
