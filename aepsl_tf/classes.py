"""Class sets: names, colours, indoor flags. The only module that knows PASCAL VOC's twenty."""

import dataclasses
import json
import pathlib

import numpy as np

from aepsl_tf.errors import InputError

BACKGROUND = 0
VOID = 255
"""Class id of pixels that no loss and no metric counts."""
MAX_CLASSES = 254
"""Foreground classes that fit between BACKGROUND and VOID in a uint8 mask."""

_VOC_NAMES = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]
# The paper names sofa and table and stops there (§4.1, "indoor scenes"); the rest is our guess.
_VOC_INDOOR = {"bottle", "chair", "diningtable", "pottedplant", "sofa", "tvmonitor"}


def voc_palette(size=256):
    """PASCAL VOC's colour map, uint8 RGB `[size, 3]`: an id's bits spread over the channels."""
    ids = np.arange(size)
    palette = np.zeros((size, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(
                np.uint8
            )
    return palette


@dataclasses.dataclass(frozen=True)
class ClassSet:
    """The foreground classes of a run; class id = position + 1, id 0 is the background.

    Attributes:
      names: tag names, unique, at most `MAX_CLASSES`.
      colors: one RGB triple 0..255 a class.
      indoor: whether a class marks an indoor scene (lower background threshold, §4.1).
    """

    names: tuple
    colors: tuple
    indoor: tuple

    def __post_init__(self):
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise InputError(
                f"classes: expected 1 to {MAX_CLASSES} foreground classes, got {len(self.names)}"
            )
        if len(set(self.names)) != len(self.names):
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            raise InputError(f"classes: names must be unique, found twice: {', '.join(twice)}")

    def __len__(self):
        return len(self.names)

    def id_of(self, name):
        """Class id (1..C) of a tag name."""
        try:
            return self.names.index(name) + 1
        except ValueError:
            raise InputError(
                f"unknown tag {name!r}; this run's classes are: {', '.join(self.names)}"
            ) from None

    def all_names(self):
        """Names by class id, the background first."""
        return ("background", *self.names)

    def palette(self):
        """uint8 `[256, 3]`: black, the class colours, and VOC's cream for void."""
        palette = voc_palette()
        palette[1 : len(self) + 1] = self.colors
        return palette

    def to_json(self):
        rows = zip(self.names, self.colors, self.indoor, strict=True)
        return [{"name": n, "color": list(c), "indoor": i} for n, c, i in rows]

    @classmethod
    def from_json(cls, rows):
        try:
            return cls(
                names=tuple(str(r["name"]) for r in rows),
                colors=tuple(tuple(int(x) for x in r["color"]) for r in rows),
                indoor=tuple(bool(r["indoor"]) for r in rows),
            )
        except (TypeError, KeyError) as error:
            raise InputError(
                'classes: expected a JSON list of {"name": str, "color": [r, g, b], '
                f'"indoor": bool}}, got something else ({error})'
            ) from error

    @classmethod
    def load(cls, path):
        """The class set in a JSON file."""
        try:
            return cls.from_json(json.loads(pathlib.Path(path).read_text()))
        except (OSError, json.JSONDecodeError) as error:
            raise InputError(f"{path}: cannot be read as a class list ({error})") from error


VOC = ClassSet(
    names=tuple(_VOC_NAMES),
    colors=tuple(tuple(int(x) for x in c) for c in voc_palette()[1:21]),
    indoor=tuple(name in _VOC_INDOOR for name in _VOC_NAMES),
)
