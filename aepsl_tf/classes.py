"""Class sets: names, colours, indoor flags. The only module that knows PASCAL VOC's twenty."""

import dataclasses
import difflib
import json
import unicodedata

import numpy as np

from aepsl_tf.errors import InputError
from aepsl_tf.files import read_text

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
_RESERVED = ("background", "void")
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
        for name in self.names:
            if name.strip() != name or not name or name.casefold() in _RESERVED:
                raise InputError(
                    f"classes: {name!r} can be no class: expected a name without spaces around it, "
                    f"and none of {', '.join(_RESERVED)}"
                )
            if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in name):
                raise InputError(f"classes: {name!r} holds characters that are no text")
            if len(name) > 200:
                raise InputError(f"classes: {name[:40]!r}… has more than 200 characters")
        if len(set(self.names)) != len(self.names):
            twice = sorted({n for n in self.names if self.names.count(n) > 1})
            raise InputError(f"classes: names must be unique, found twice: {', '.join(twice)}")

    def __len__(self):
        return len(self.names)

    def unknown(self, name):
        """In words, a tag name that is no class's: the nearest that is, and all there are."""
        plain = {known.casefold(): known for known in self.names}
        near = difflib.get_close_matches(name[:200].casefold(), plain, 1)
        hint = f"nearest: {plain[near[0]]}; " if near else ""
        return f"unknown tag {name[:100]!r}; {hint}this run's classes are: {', '.join(self.names)}"

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
    def of_names(cls, names):
        """Classes with VOC's colours by position; indoor are those that VOC's namesakes are."""
        return cls.from_json([{"name": name} for name in names])

    @classmethod
    def from_json(cls, rows, where="classes"):
        """From a list of {"name", "color", "indoor"}, or of names; what is left out has defaults.

        Raises:
          InputError: something else, with `where`.
        """
        rows = [{"name": row} if isinstance(row, str) else row for row in rows]
        try:
            taken = [row["color"] for row in rows if "color" in row]
            free = [color for color in voc_palette()[1:].tolist() if color not in taken]
            colors = voc_palette()[1:].tolist()
            # One by position where that is free, so that a list keeps its colours.
            colors = [
                c if c not in taken else free[-1 - i] for i, c in enumerate(colors[: len(rows)])
            ]
            for row, color in zip(rows, colors, strict=False):
                if not isinstance(row["name"], str) or row.keys() - {"name", "color", "indoor"}:
                    raise TypeError(f"found {str(row)[:100]}")
                wrong = [
                    x for x in row.get("color", color) if type(x) is not int or not 0 <= x < 256
                ]
                if wrong or len(row.get("color", color)) != 3:
                    raise TypeError(f"{row['name']}: a color is three whole numbers from 0 to 255")
                if not isinstance(row.get("indoor", False), bool):
                    raise TypeError(f"{row['name']}: indoor is true or false")
            return cls(
                names=tuple(row["name"] for row in rows),
                colors=tuple(
                    tuple(row.get("color", c)) for row, c in zip(rows, colors, strict=False)
                ),
                indoor=tuple(row.get("indoor", row["name"] in _VOC_INDOOR) for row in rows),
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f'{where}: expected a JSON list of {{"name": str, "color": [r, g, b], "indoor": '
                f"bool}}, or of names ({error})"
            ) from None

    @classmethod
    def load(cls, path):
        """The class set in a JSON file, or in a text file of one name a line."""
        text = read_text(path).strip()
        try:
            return cls._of_text(text, path)
        except InputError as error:
            told = str(error)
            raise InputError(told if str(path) in told else f"{path}: {told}") from None

    @classmethod
    def _of_text(cls, text, path):
        if not text.startswith(("[", "{")):
            return cls.of_names([line.strip() for line in text.split("\n") if line.strip()])
        try:
            rows = json.loads(text)
        except (ValueError, RecursionError) as error:
            first = str(error).splitlines()[0]
            raise InputError(f"{path}: cannot be read as a class list ({first})") from None
        if not isinstance(rows, list):
            raise InputError(f"{path}: expected a list of classes")
        return cls.from_json(rows, path)


VOC = ClassSet(
    names=tuple(_VOC_NAMES),
    colors=tuple(tuple(int(x) for x in c) for c in voc_palette()[1:21]),
    indoor=tuple(name in _VOC_INDOOR for name in _VOC_NAMES),
)
