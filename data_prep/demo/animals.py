"""The six animals: the shapes of head and body, and the pattern of the coat.

An animal is drawn in a frame of its own: y points down, the feet are on y = 0, the head is to the
right.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from aepsl_tf.classes import ClassSet
from data_prep.demo.outlines import band, blob, ellipse, spline

INK = (84, 66, 62)
"""Outline colour, a warm dark brown."""
WHITE = (252, 250, 244)
BLACK = (44, 36, 40)


@dataclasses.dataclass(frozen=True)
class Shape:
    """One painted outline.

    Attributes:
      outline: polygon in the animal's frame.
      fill: RGB, or None for the animal's coat.
      tone: brightness factor.
      line: whether the outline is inked.
    """

    outline: np.ndarray
    fill: tuple | None = None
    tone: float = 1.0
    line: bool = True


@dataclasses.dataclass(frozen=True)
class Animal:
    """One class.

    Attributes:
      name: tag name.
      color: RGB of the head, and of the class in masks.
      tint: RGB of the coat where it is strongest.
      backdrop: favourite background, a key of `scenery.BACKDROPS`.
      face: (x, y) that the coat's strength fades away from.
      draw: (head colour, sway in -1..1) -> (body shapes, head shapes), each painted in order.
      pattern: frame coordinates x, y (float32 arrays) -> how much the coat is darkened, 0..1.
      floats: whether it need not stand on the ground.
    """

    name: str
    color: tuple
    tint: tuple
    backdrop: str
    face: tuple
    draw: Callable
    pattern: Callable
    floats: bool = False


def _mark(outline, color):
    """A flat detail without an inked line."""
    return Shape(outline, color, line=False)


def _eye(x, y, size, iris=BLACK):
    """A friendly eye: iris, pupil and two glints."""
    return [
        Shape(ellipse(x, y, size, size * 1.12), iris),
        _mark(ellipse(x, y, size * 0.6, size * 0.78), BLACK),
        _mark(ellipse(x + 0.32 * size, y - 0.38 * size, size * 0.34, size * 0.36), WHITE),
        _mark(ellipse(x - 0.30 * size, y + 0.42 * size, size * 0.16, size * 0.16), WHITE),
    ]


def _smile(x, y, width):
    """A small upward curve centred on (x, y)."""
    knots = [(x - width / 2, y), (x, y + width * 0.3), (x + width / 2, y)]
    return _mark(band(knots, 0.018, 0.018), INK)


def _moved(shapes, to, size):
    """Shapes drawn around the origin, `size` times as large and moved to the point `to`."""
    return [dataclasses.replace(s, outline=np.add(size * s.outline, to)) for s in shapes]


def _cat(color, sway):
    tail = [(-0.8, -0.9), (-1.2, -0.95), (-1.42, -1.3), (-1.3 + 0.2 * sway, -1.7)]
    body = [
        Shape(band(tail, 0.14, 0.1)),
        Shape(band([(-0.42, -0.5), (-0.40 - 0.06 * sway, -0.1)], 0.15, 0.12), tone=0.84),
        Shape(band([(0.36, -0.5), (0.40 + 0.06 * sway, -0.1)], 0.15, 0.12), tone=0.84),
        Shape(
            blob(
                (-1.0, -0.7),
                (-0.8, -1.12),
                (-0.3, -1.2),
                (0.3, -1.2),
                (0.72, -1.08),
                (0.82, -0.7),
                (0.55, -0.36),
                (-0.1, -0.32),
                (-0.75, -0.3),
            )
        ),
        Shape(band([(-0.72, -0.5), (-0.72 + 0.06 * sway, -0.1)], 0.2, 0.14)),
        Shape(band([(0.6, -0.5), (0.62 - 0.06 * sway, -0.1)], 0.17, 0.13)),
    ]
    dark, pink = (190, 78, 16), (240, 150, 150)
    head = []
    for side in (-1, 1):
        x = 0.24 * side
        ear = [(x - 0.13, -0.2), (x + 0.08 * side, -0.5), (x + 0.14, -0.16), (x, -0.06)]
        head.append(Shape(blob(*ear), color))
        head.append(_mark(ellipse(x + 0.03 * side, -0.28, 0.05, 0.1, 12 * side), pink))
    head.append(Shape(ellipse(0, 0, 0.4, 0.32), color))
    for x in (-0.1, 0, 0.1):
        head.append(_mark(band([(x, -0.29), (0.8 * x, -0.18)], 0.03, 0.015), dark))
    for side in (-1, 1):
        head += _eye(0.17 * side, 0, 0.085, (150, 214, 110))
        head.append(_mark(ellipse(0.08 * side, 0.16, 0.11, 0.075), WHITE))
        for y in (0.14, 0.2):
            whisker = [(0.16 * side, y), (0.5 * side, y - 0.05)]
            head.append(_mark(band(whisker, 0.012, 0.006), WHITE))
    head += [_mark(ellipse(0, 0.11, 0.05, 0.035), (226, 96, 110)), _smile(0, 0.18, 0.14)]
    return body, _moved(head, (0.82, -1.22), 0.87)


def _fish(color, sway):
    flank = blob(
        (-1.0, -0.8),
        (-0.7, -1.1),
        (-0.1, -1.38),
        (0.5, -1.24),
        (0.95, -0.8),
        (0.5, -0.36),
        (-0.1, -0.22),
        (-0.7, -0.5),
    )
    flap = 0.12 * sway
    body = [
        Shape(
            blob(
                (-0.85, -0.8),
                (-1.25, -1.22 + flap),
                (-1.52, -1.24 + flap),
                (-1.32, -0.8),
                (-1.52, -0.36 + flap),
                (-1.25, -0.38 + flap),
            ),
            tone=0.92,
        ),
        Shape(blob((0.2, -1.3), (-0.15, -1.7), (-0.55, -1.6), (-0.6, -1.1)), tone=0.92),
        Shape(blob((0.1, -0.3), (-0.25, 0.0), (-0.5, -0.08), (-0.4, -0.4)), tone=0.92),
        Shape(flank),
        Shape(blob((0.1, -0.78), (-0.3, -0.58 + flap), (-0.42, -0.78), (-0.2, -0.9)), tone=0.86),
    ]
    pale, blush = (120, 208, 250), (246, 150, 170)
    face = flank[flank[:, 0] > 0.44]
    gill = spline(*(np.array([p]) for p in [(0.9, -0.3), face[-1], face[0], (0.9, -1.3)]))
    head = [
        Shape(np.concatenate([face, gill]), color),
        _mark(band([(0.56, -1.06), (0.48, -0.8), (0.56, -0.52)], 0.03, 0.03), pale),
        _mark(ellipse(0.66, -0.62, 0.07, 0.05), blush),
        *_eye(0.67, -0.89, 0.11, WHITE),
        _mark(band([(0.9, -0.72), (0.82, -0.66), (0.74, -0.68)], 0.022, 0.018), BLACK),
    ]
    return body, head


def _bird(color, sway):
    lift = 0.1 * sway
    leg = (206, 140, 84)
    body = [
        Shape(blob((-0.5, -0.85), (-1.4, -1.15 + lift), (-1.5, -0.93 + lift), (-0.6, -0.5))),
        Shape(band([(-0.1, -0.3), (-0.06, -0.03), (0.12, -0.03)], 0.03, 0.03), leg),
        Shape(band([(0.2, -0.3), (0.26, -0.03), (0.44, -0.03)], 0.03, 0.03), leg),
        Shape(ellipse(-0.08, -0.78, 0.86, 0.6, -16)),
        Shape(
            blob(
                (0.3, -0.98),
                (-0.1, -1.12),
                (-0.65, -0.92),
                (-1.12, -0.6 + lift),
                (-0.6, -0.46),
                (0.0, -0.52),
            ),
            tone=0.86,
        ),
    ]
    dark, beak, blush = (150, 16, 48), (250, 190, 50), (250, 170, 170)
    head = [
        Shape(blob((-0.2, -0.2), (-0.3, -0.57), (-0.08, -0.46), (0.08, -0.6), (0.16, -0.2)), dark),
        Shape(blob((0.28, -0.1), (0.62, 0.08), (0.28, 0.16)), beak),
        Shape(ellipse(0, 0, 0.37, 0.34), color),
        _mark(ellipse(-0.08, 0.15, 0.15, 0.12), WHITE),
        _mark(ellipse(-0.08, 0.15, 0.07, 0.05), blush),
        *_eye(0.12, -0.06, 0.09),
    ]
    return body, _moved(head, (0.58, -1.28), 0.88)


def _snail(color, sway):
    turns = np.linspace(0, 5 * np.pi, 60)
    radius = 0.62 * (turns / turns[-1]) ** 0.8
    spiral = np.stack([-0.3 + radius * np.cos(turns), -0.9 + radius * np.sin(turns)], 1)[3:]
    body = [
        Shape(
            blob(
                (-1.45, -0.02),
                (-1.0, -0.26),
                (0.2, -0.34),
                (0.6, -0.62),
                (0.85, -0.9),
                (1.1, -0.7),
                (1.02, -0.25),
                (0.8, -0.02),
            ),
            tone=1.06,
        ),
        Shape(ellipse(-0.3, -0.9, 0.74, 0.74)),
        Shape(band(spiral, 0.035, 0.05), tone=0.72, line=False),
    ]
    dark, blush = (206, 146, 0), (246, 140, 110)
    head = []
    for x in (0.84, 1.16):
        tip = (x + 0.05 * sway, -1.5)
        head.append(Shape(band([(0.4 * x + 0.6, -0.95), tip], 0.06, 0.05), color))
        head += [Shape(ellipse(*tip, 0.12, 0.12), WHITE), *_eye(*tip, 0.075)]
    head += [
        Shape(ellipse(1.02, -0.88, 0.32, 0.3), color),
        *(_mark(ellipse(x, y, 0.04, 0.035), dark) for x, y in [(0.86, -1.05), (0.98, -1.1)]),
        _mark(ellipse(0.86, -0.82, 0.065, 0.045), blush),
        _mark(ellipse(1.22, -0.82, 0.055, 0.045), blush),
        _smile(1.06, -0.86, 0.22),
    ]
    return body, head


def _turtle(color, sway):
    step = 0.08 * sway
    body = [
        Shape(blob((-0.95, -0.4), (-1.4, -0.2), (-0.95, -0.2)), tone=0.94),
        Shape(band([(-0.45, -0.35), (-0.5 + step, -0.12)], 0.2, 0.17), tone=0.8),
        Shape(band([(0.3, -0.35), (0.42 - step, -0.12)], 0.2, 0.17), tone=0.8),
        Shape(
            blob(
                (-1.08, -0.36),
                (-0.95, -0.85),
                (-0.5, -1.24),
                (0.05, -1.24),
                (0.5, -0.9),
                (0.72, -0.36),
                (-0.1, -0.22),
            )
        ),
        Shape(band([(-1.08, -0.36), (-0.2, -0.25), (0.72, -0.36)], 0.09, 0.09), tone=0.82),
        Shape(band([(-0.75, -0.3), (-0.85 - step, -0.1)], 0.19, 0.15)),
        Shape(band([(0.55, -0.3), (0.7 + step, -0.1)], 0.19, 0.15)),
    ]
    dark, light = (16, 120, 50), (214, 236, 80)
    head = [
        Shape(band([(-0.4, 0.45), (-0.13, 0.2)], 0.14, 0.17), color),
        Shape(ellipse(0, 0, 0.34, 0.3), color),
        *(
            _mark(ellipse(x, y, 0.05, 0.04), dark)
            for x, y in [(-0.13, -0.22), (0, -0.25), (-0.22, -0.11)]
        ),
        _mark(band([(-0.31, 0.06), (-0.15, 0.12), (-0.05, 0.1)], 0.035, 0.02), light),
        _mark(band([(-0.27, 0.2), (-0.13, 0.22)], 0.03, 0.02), light),
        *_eye(0.08, -0.06, 0.095),
        _smile(0.15, 0.14, 0.2),
    ]
    return body, _moved(head, (1.0, -0.86), 0.87)


def _owl(color, sway):
    spread = 0.08 + 0.06 * sway
    claw = (206, 160, 96)
    body = [
        Shape(blob((-0.3, -0.4), (-0.2, -0.04), (0, 0.06), (0.2, -0.04), (0.3, -0.4)), tone=0.84),
        Shape(ellipse(0, -0.9, 0.76, 0.88)),
        *(Shape(ellipse(x, -0.06, 0.12, 0.07), claw) for x in (-0.3, 0.3)),
    ]
    for side in (-1, 1):
        wing = [(0.5, -1.45), (0.84 + spread, -0.9), (0.64 + spread, -0.26), (0.44, -0.6)]
        body.append(Shape(blob(*((side * x, y) for x, y in wing)), tone=0.86))
    dark, disk, gold = (88, 30, 156), (226, 206, 246), (250, 180, 40)
    head = []
    for side in (-1, 1):
        tuft = [(0.14, -0.24), (0.47, -0.5), (0.43, -0.1)]
        head.append(Shape(blob(*((side * x, y) for x, y in tuft)), dark))
    head.append(Shape(ellipse(0, 0, 0.48, 0.35), color))
    for side in (-1, 1):
        head.append(_mark(ellipse(0.19 * side, 0.01, 0.2, 0.22), disk))
        head += _eye(0.18 * side, 0, 0.125, gold)
    head.append(Shape(blob((-0.07, 0.06), (0, 0.04), (0.07, 0.06), (0, 0.24)), gold))
    return body, _moved(head, (0, -1.72), 0.87)


# --- Coats: frame coordinates, float32 arrays -> how much the coat is darkened, 0..1 --------------


def _waves(phase, sharpness=2.0):
    """A 2 pi-periodic soft stripe profile in 0..1, one crest a period."""
    return (0.5 + 0.5 * np.cos(phase)) ** sharpness


def _tabby(x, y):
    return _waves(2 * np.pi * (x + 0.08 * np.sin(5 * y)) / 0.34)


def _scales(x, y):
    row = np.floor(y / 0.2)
    across = (x / 0.26 + 0.5 * row) % 1 - 0.5
    return np.clip(1 - np.abs(np.hypot(across * 1.5, y / 0.2 - row) - 0.85) / 0.22, 0, 1)


def _flecks(x, y):
    return _waves(2 * np.pi * (x + 0.5 * y) / 0.3) * _waves(2 * np.pi * (y - 0.3 * x) / 0.26)


def _freckles(x, y):
    return _waves(2 * np.pi * x / 0.24, 3) * _waves(2 * np.pi * y / 0.24, 3)


def _plates(x, y):
    """Hexagonal plates: the distance to the nearest line of three families."""
    edges = [_waves(2 * np.pi * (x * c + y * s) / 0.42, 8) for c, s in ((1, 0), (0.5, 0.87))]
    return np.maximum(np.maximum(*edges), _waves(2 * np.pi * (0.5 * x - 0.87 * y) / 0.42, 8))


def _chevrons(x, y):
    return _waves(2 * np.pi * (y - 0.5 * np.abs((x / 0.3) % 1 - 0.5)) / 0.26)


ANIMALS = (
    Animal("cat", (240, 122, 30), (236, 172, 118), "meadow", (0.84, -1.24), _cat, _tabby),
    Animal("fish", (30, 112, 226), (124, 178, 226), "sea", (0.7, -0.8), _fish, _scales, True),
    Animal("bird", (214, 34, 62), (222, 138, 142), "snow", (0.6, -1.28), _bird, _flecks),
    Animal("snail", (252, 206, 20), (232, 208, 112), "forest", (1.02, -0.95), _snail, _freckles),
    Animal("turtle", (40, 178, 66), (142, 194, 130), "sand", (1.05, -0.9), _turtle, _plates),
    Animal("owl", (132, 62, 206), (184, 154, 216), "night", (0.0, -1.8), _owl, _chevrons),
)

CLASSES = ClassSet(
    names=tuple(a.name for a in ANIMALS),
    colors=tuple(a.color for a in ANIMALS),
    indoor=(False,) * len(ANIMALS),
)
