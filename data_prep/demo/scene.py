"""One scene: who is in it and where, painted over a backdrop.

All of it follows from (seed, split, index), and every random draw comes from one generator, in
the order in which the code below asks for it: to change that order is to change every picture.
"""

import dataclasses
import functools
import itertools
import zlib

import cv2
import numpy as np

from data_prep.demo import scenery
from data_prep.demo.animals import ANIMALS, INK, Animal
from data_prep.demo.outlines import ellipse, turn

SUPERSAMPLING = 3
TWO_ANIMALS = 0.25
"""Share of scenes that hold two different classes."""
FAVOURITE = 0.5
"""Chance that a scene gets its animal's favourite backdrop; else it is any of the six."""
AREA = (0.15, 0.33)
"""Range of the image share that a single animal aims at, before it has to fit the frame."""
PORTRAIT = 0.3
"""Share of the one-animal scenes that stand upright."""
GRAIN = 1.5
"""Standard deviation of the paper's grain, in grey levels."""
FUR = (205, 196, 184)
"""The coat of every class where its own tint has faded."""
COAT = (0.72, 0.28)
"""Strength of the class tint and pattern next to the head, and farthest from it (0..1)."""
PATTERN = 0.36
"""How much the pattern darkens a coat of strength 1."""


def draw_scene(seed: int, split: str, index: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Draws one scene, which depends on nothing but the three arguments.

    Returns:
      Image, uint8 RGB `[H, W, 3]`; mask of class ids 0..C, uint8 `[H, W]`; the sorted class ids
      that the mask holds.
    """
    rng = generator(seed, split, index)
    plan = cast(rng, index)
    big = (plan.height * SUPERSAMPLING, plan.width * SUPERSAMPLING)
    canvas = scenery.paint(rng, scenery.BACKDROPS[plan.backdrop], *big)
    mask = np.zeros(big, np.uint8)
    for class_id, box in zip(plan.ids, _boxes(rng, *big, len(plan.ids)), strict=True):
        placed = place(rng, ANIMALS[class_id - 1], rng.uniform(*AREA) * mask.size, box)
        _shadow(canvas, placed)
        paint(rng, canvas, mask, placed, class_id)

    image = cv2.resize(canvas, (plan.width, plan.height), interpolation=cv2.INTER_AREA)
    image *= np.float32(rng.uniform(0.95, 1.05, 3))
    image += rng.normal(0, GRAIN, (plan.height, plan.width, 1)).astype(np.float32)
    image = np.clip(np.round(image), 0, 255).astype(np.uint8)
    middle = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    mask = mask[middle, middle].copy()
    return image, mask, [int(i) for i in np.unique(mask) if i]


# --- Casting --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Cast:
    """What a scene shows.

    Attributes:
      ids: class ids of its animals from left to right, one or two.
      height, width: of the picture.
      backdrop: a key of `scenery.BACKDROPS`.
    """

    ids: list
    height: int
    width: int
    backdrop: str


def generator(seed, split, index):
    """The scene's own generator, so that no scene depends on how many are drawn."""
    return np.random.default_rng([seed, zlib.crc32(split.encode()), index])


def cast(rng, index):
    """A scene's `Cast`, the first that its generator is asked for."""
    ids = _ids(rng, index)
    # Two animals side by side want a landscape.
    height, width = _size(rng, portrait=len(ids) == 1 and rng.uniform() < PORTRAIT)
    favourite = ANIMALS[ids[rng.integers(len(ids))] - 1].backdrop
    any_backdrop = list(scenery.BACKDROPS)
    backdrop = favourite if rng.uniform() < FAVOURITE else str(rng.choice(any_backdrop))
    return Cast(ids, height, width, backdrop)


def _ids(rng, index):
    """Class ids, one or two; the first goes round, so that classes are balanced."""
    first = index % len(ANIMALS) + 1
    if rng.uniform() >= TWO_ANIMALS:
        return [first]
    others = [i for i in range(1, len(ANIMALS) + 1) if i != first]
    return [int(i) for i in rng.permutation([first, rng.choice(others)])]


def _size(rng, portrait):
    """(height, width) of an image; the sides are 3 : 4 or 4 : 3."""
    short, long = np.array([3, 4]) * rng.integers(40, 49)
    return (int(long), int(short)) if portrait else (int(short), int(long))


# --- Placing --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Placed:
    """A posed animal; a point p of its frame lies at canvas pixel `matrix` @ p + `offset`."""

    animal: Animal
    body: list
    head: list
    matrix: np.ndarray
    offset: np.ndarray

    def pixels(self, outline):
        """Canvas coordinates of frame points, both `[N, 2]`."""
        return outline @ self.matrix.T + self.offset

    def frame(self, x, y):
        """Frame coordinates of canvas pixels, float32 arrays like `x` and `y`."""
        inverse = np.linalg.inv(self.matrix).astype(np.float32)
        x, y = x - np.float32(self.offset[0]), y - np.float32(self.offset[1])
        return (row[0] * x + row[1] * y for row in inverse)

    def bounds(self):
        """(left, top), (right, bottom) of the whole animal, in pixels."""
        points = np.concatenate([self.pixels(s.outline) for s in self.body + self.head])
        return points.min(0), points.max(0)


def polygon(shape, outline, thickness=0):
    """Rasterizes a polygon, or its line where a thickness is given: bool of the given shape."""
    raster = np.zeros(shape, np.uint8)
    points = [np.int32(np.round(outline * 16))]
    if thickness:
        cv2.polylines(raster, points, True, 1, thickness, shift=4)
    else:
        cv2.fillPoly(raster, points, 1, shift=4)
    return raster > 0


@functools.cache
def _frame_area(animal):
    """Area of an animal in the units of its frame."""
    scale, area = 100, np.zeros((400, 400), bool)
    for shape in itertools.chain(*animal.draw(animal.color, 0.0)):
        area |= polygon(area.shape, np.add(shape.outline, (2, 3)) * scale)
    return area.sum() / scale**2


def _boxes(rng, height, width, count):
    """A box (left, top, right, bottom) for each of the `count` animals, one or two."""
    left, top, right, bottom = 0.03 * width, 0.1 * height, 0.97 * width, 0.96 * height
    if count == 1:
        return [(left, top, right, bottom)]
    # The boxes share a strip, so that two animals can overlap a little.
    cut, half_strip = width * rng.uniform(0.46, 0.54), 0.04 * width
    return [(left, top, cut + half_strip, bottom), (cut - half_strip, top, right, bottom)]


def place(rng, animal, share, box):
    """Poses an animal at random inside a box.

    Args:
      share: the area it aims at, in pixels.
      box: (left, top, right, bottom) in pixels that its outline stays inside.

    Returns:
      `Placed`.
    """
    body, head = animal.draw(animal.color, rng.uniform(-1, 1))
    matrix = turn(rng.uniform(-9, 9)) @ np.diag([rng.choice([-1.0, 1.0]), 1.0])
    low, high = Placed(animal, body, head, matrix, np.zeros(2)).bounds()
    room = np.subtract(box[2:], box[:2])
    scale = min(np.sqrt(share / _frame_area(animal)), *(room / (high - low)))
    slack = room - scale * (high - low)
    # Feet belong on the ground, so walkers keep to the lower part of their box.
    drop = (rng.uniform(), rng.uniform(0.0 if animal.floats else 0.5, 1))
    return Placed(animal, body, head, scale * matrix, box[:2] + slack * drop - scale * low)


# --- Painting -------------------------------------------------------------------------------------


def _shadow(canvas, placed):
    """Darkens the ground under an animal, in place."""
    (left, top), (right, bottom) = placed.bounds()
    half = (right - left) / 2
    hover = 0.15 * (bottom - top) if placed.animal.floats else -0.02 * half
    ground = min(bottom + hover, 0.97 * canvas.shape[0])
    spot = ellipse((left + right) / 2, ground, 0.86 * half, 0.14 * half)
    shade = 0.36 * polygon(canvas.shape[:2], spot).astype(np.float32)
    canvas *= 1 - cv2.blur(cv2.blur(shade, (15, 9)), (15, 9))[..., None]


def strength(animal, u, v):
    """How much of its class a coat shows: strong next to the head, faded away from it.

    Args:
      u, v: frame coordinates, float32 `[h, w]`.

    Returns:
      Float32 `[h, w]`, from COAT[1] to COAT[0].
    """
    away = np.hypot(u - animal.face[0], v - animal.face[1])
    fade = np.clip((away - 0.35) / 1.5, 0, 1)
    return COAT[0] + fade * (COAT[1] - COAT[0])


def _coat(placed, fur, x, y):
    """Colour of the coat over a grid of pixels, float32 `[h, w, 3]`.

    Args:
      fur: RGB, float32 `[3]`, of the coat where the class's tint has faded.
      x, y: float32 `[h, w]`, in pixels.
    """
    animal = placed.animal
    u, v = placed.frame(x, y)
    shown = strength(animal, u, v)
    color = fur + shown[..., None] * (np.float32(animal.tint) - fur)
    color *= 1 - PATTERN * (shown * animal.pattern(u, v))[..., None]
    return color


def paint(rng, canvas, mask, placed, class_id):
    """Paints one animal over canvas and mask, both in place and of the same size."""
    fur = np.float32(FUR) * np.float32(rng.uniform(0.86, 1.08))
    jitter = np.float32(rng.uniform(0.94, 1.06) * rng.uniform(0.98, 1.02, 3))
    for shape in placed.body + placed.head:
        outline = placed.pixels(shape.outline)
        # All work happens in a window around the shape; the line needs some pixels more.
        (left, top), (right, bottom) = outline.min(0), outline.max(0)
        window = np.s_[
            max(int(top) - 3, 0) : int(bottom) + 4, max(int(left) - 3, 0) : int(right) + 4
        ]
        y, x = (np.float32(a) for a in np.mgrid[window])
        inside = polygon(x.shape, outline - (x[0, 0], y[0, 0]))
        line = polygon(x.shape, outline - (x[0, 0], y[0, 0]), SUPERSAMPLING) & shape.line
        color = _coat(placed, fur, x, y) if shape.fill is None else np.float32(shape.fill)
        # Light falls from above: each shape is brighter at its top than at its bottom.
        light = shape.tone * (1.1 - 0.24 * (y - np.float32(top)) / np.float32(bottom - top))
        np.copyto(canvas[window], color * jitter * light[..., None], where=inside[..., None])
        np.copyto(canvas[window], np.float32(INK), where=line[..., None])
        mask[window][inside | line] = class_id
