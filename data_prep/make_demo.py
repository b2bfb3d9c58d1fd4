"""Draws the demo set: a small PASCAL-VOC-like devkit of painted animals.

The scenes are made so that adversarial erasing has something to show. The evidence for a class
comes in levels: a small vivid head (HEAD), a coat whose tint and pattern are strong next to the
head (FRONT) and fade away from it (HIND), and a background that goes only mildly with the class.
A classifier looks at the head first; erase it, and the next one has to find the coat.
"""

import csv
import dataclasses
import functools
import itertools
import json
import logging
import os
import pathlib
import shutil
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

from aepsl_tf import config, config_flags
from aepsl_tf.classes import ClassSet
from aepsl_tf.errors import InputError

VERSION = 1
"""Of the drawings: raise it when a change alters any image, so that old folders are refused."""

SUPERSAMPLING = 3
JPEG_QUALITY = 92
TWO_ANIMALS = 0.25
"""Share of scenes that hold two different classes."""
FAVOURITE = 0.5
"""Chance that a scene gets its animal's favourite background; else it is any of the six."""
AREA = (0.15, 0.33)
"""Range of the image share that a single animal aims at, before it has to fit the frame."""
PORTRAIT = 0.3
"""Share of the one-animal scenes that stand upright."""
GRAIN = 1.5
"""Standard deviation of the paper's grain, in grey levels."""
COAT = (0.72, 0.28)
"""Strength of the class tint and pattern next to the head, and farthest from it (0..1)."""

PATTERN = 0.36
"""How much the pattern darkens a coat of strength 1."""

HEAD, FRONT, HIND = 1, 2, 3
"""Part ids of `draw_parts`, in the order in which erasing should find them."""

INK = (84, 66, 62)
"""Outline colour, a warm dark brown."""
FUR = (205, 196, 184)
"""The coat of every class where its own tint has faded."""
WHITE = (252, 250, 244)
BLACK = (44, 36, 40)


# --- Outlines: float64 [N, 2] polygons (x, y), y down, feet on y = 0, the head to the right -------


def _ellipse(x, y, rx, ry, degrees=0.0):
    """Polygon of an ellipse around (x, y), turned clockwise by `degrees`."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([rx * np.cos(angle), ry * np.sin(angle)], 1) @ _turn(degrees).T + (x, y)


def _blob(*knots):
    """Polygon of the closed Catmull-Rom spline through the knots."""
    p = np.asarray(knots, float)
    return _spline(np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0))


def _band(knots, start, end):
    """Polygon of a rounded stroke along a spline; the half width goes from `start` to `end`."""
    p = np.asarray(knots, float)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    spine = np.concatenate([_spline(p[:-3], p[1:-2], p[2:-1], p[3:]), p[-2:-1]])
    along = np.gradient(spine, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = along[:, ::-1] * (-1, 1) * np.linspace(start, end, len(spine))[:, None]
    bend = np.linspace(0, np.pi, 9)[1:-1, None]
    tip = spine[-1] + np.cos(bend) * across[-1] + np.sin(bend) * along[-1] * end
    root = spine[0] - np.cos(bend) * across[0] - np.sin(bend) * along[0] * start
    return np.concatenate([spine + across, tip, (spine - across)[::-1], root])


def _spline(before, start, end, after, samples=8):
    """Points of the Catmull-Rom segments from `start[i]` up to `end[i]`; all `[N, 2]`."""
    t = np.linspace(0, 1, samples, endpoint=False)[:, None]
    before, start, end, after = (p[:, None] for p in (before, start, end, after))
    points = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return points.reshape(-1, 2)


def _turn(degrees):
    """Rotation matrix; clockwise on screen, since y points down."""
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])


# --- Animals --------------------------------------------------------------------------------------


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
      scene: favourite background, a key of `SCENES`.
      face: (x, y) that the coat's strength fades away from.
      draw: (head colour, sway in -1..1) -> (body shapes, head shapes), each painted in order.
      pattern: frame coordinates x, y (float32 arrays) -> how much the coat is darkened, 0..1.
      floats: whether it need not stand on the ground.
    """

    name: str
    color: tuple
    tint: tuple
    scene: str
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
        Shape(_ellipse(x, y, size, size * 1.12), iris),
        _mark(_ellipse(x, y, size * 0.6, size * 0.78), BLACK),
        _mark(_ellipse(x + 0.32 * size, y - 0.38 * size, size * 0.34, size * 0.36), WHITE),
        _mark(_ellipse(x - 0.30 * size, y + 0.42 * size, size * 0.16, size * 0.16), WHITE),
    ]


def _smile(x, y, width):
    """A small upward curve centred on (x, y)."""
    knots = [(x - width / 2, y), (x, y + width * 0.3), (x + width / 2, y)]
    return _mark(_band(knots, 0.018, 0.018), INK)


def _moved(shapes, to, size):
    """Shapes drawn around the origin, `size` times as large and moved to the point `to`."""
    return [dataclasses.replace(s, outline=np.add(size * s.outline, to)) for s in shapes]


def _cat(color, sway):
    tail = [(-0.8, -0.9), (-1.2, -0.95), (-1.42, -1.3), (-1.3 + 0.2 * sway, -1.7)]
    body = [
        Shape(_band(tail, 0.14, 0.1)),
        Shape(_band([(-0.42, -0.5), (-0.40 - 0.06 * sway, -0.1)], 0.15, 0.12), tone=0.84),
        Shape(_band([(0.36, -0.5), (0.40 + 0.06 * sway, -0.1)], 0.15, 0.12), tone=0.84),
        Shape(
            _blob(
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
        Shape(_band([(-0.72, -0.5), (-0.72 + 0.06 * sway, -0.1)], 0.2, 0.14)),
        Shape(_band([(0.6, -0.5), (0.62 - 0.06 * sway, -0.1)], 0.17, 0.13)),
    ]
    dark, pink = (190, 78, 16), (240, 150, 150)
    head = []
    for side in (-1, 1):
        x = 0.24 * side
        ear = [(x - 0.13, -0.2), (x + 0.08 * side, -0.5), (x + 0.14, -0.16), (x, -0.06)]
        head.append(Shape(_blob(*ear), color))
        head.append(_mark(_ellipse(x + 0.03 * side, -0.28, 0.05, 0.1, 12 * side), pink))
    head.append(Shape(_ellipse(0, 0, 0.4, 0.32), color))
    for x in (-0.1, 0, 0.1):
        head.append(_mark(_band([(x, -0.29), (0.8 * x, -0.18)], 0.03, 0.015), dark))
    for side in (-1, 1):
        head += _eye(0.17 * side, 0, 0.085, (150, 214, 110))
        head.append(_mark(_ellipse(0.08 * side, 0.16, 0.11, 0.075), WHITE))
        for y in (0.14, 0.2):
            whisker = [(0.16 * side, y), (0.5 * side, y - 0.05)]
            head.append(_mark(_band(whisker, 0.012, 0.006), WHITE))
    head += [_mark(_ellipse(0, 0.11, 0.05, 0.035), (226, 96, 110)), _smile(0, 0.18, 0.14)]
    return body, _moved(head, (0.82, -1.22), 0.87)


def _fish(color, sway):
    flank = _blob(
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
            _blob(
                (-0.85, -0.8),
                (-1.25, -1.22 + flap),
                (-1.52, -1.24 + flap),
                (-1.32, -0.8),
                (-1.52, -0.36 + flap),
                (-1.25, -0.38 + flap),
            ),
            tone=0.92,
        ),
        Shape(_blob((0.2, -1.3), (-0.15, -1.7), (-0.55, -1.6), (-0.6, -1.1)), tone=0.92),
        Shape(_blob((0.1, -0.3), (-0.25, 0.0), (-0.5, -0.08), (-0.4, -0.4)), tone=0.92),
        Shape(flank),
        Shape(_blob((0.1, -0.78), (-0.3, -0.58 + flap), (-0.42, -0.78), (-0.2, -0.9)), tone=0.86),
    ]
    pale, blush = (120, 208, 250), (246, 150, 170)
    face = flank[flank[:, 0] > 0.44]
    gill = _spline(*(np.array([p]) for p in [(0.9, -0.3), face[-1], face[0], (0.9, -1.3)]))
    head = [
        Shape(np.concatenate([face, gill]), color),
        _mark(_band([(0.56, -1.06), (0.48, -0.8), (0.56, -0.52)], 0.03, 0.03), pale),
        _mark(_ellipse(0.66, -0.62, 0.07, 0.05), blush),
        *_eye(0.67, -0.89, 0.11, WHITE),
        _mark(_band([(0.9, -0.72), (0.82, -0.66), (0.74, -0.68)], 0.022, 0.018), BLACK),
    ]
    return body, head


def _bird(color, sway):
    lift = 0.1 * sway
    leg = (206, 140, 84)
    body = [
        Shape(_blob((-0.5, -0.85), (-1.4, -1.15 + lift), (-1.5, -0.93 + lift), (-0.6, -0.5))),
        Shape(_band([(-0.1, -0.3), (-0.06, -0.03), (0.12, -0.03)], 0.03, 0.03), leg),
        Shape(_band([(0.2, -0.3), (0.26, -0.03), (0.44, -0.03)], 0.03, 0.03), leg),
        Shape(_ellipse(-0.08, -0.78, 0.86, 0.6, -16)),
        Shape(
            _blob(
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
        Shape(_blob((-0.2, -0.2), (-0.3, -0.57), (-0.08, -0.46), (0.08, -0.6), (0.16, -0.2)), dark),
        Shape(_blob((0.28, -0.1), (0.62, 0.08), (0.28, 0.16)), beak),
        Shape(_ellipse(0, 0, 0.37, 0.34), color),
        _mark(_ellipse(-0.08, 0.15, 0.15, 0.12), WHITE),
        _mark(_ellipse(-0.08, 0.15, 0.07, 0.05), blush),
        *_eye(0.12, -0.06, 0.09),
    ]
    return body, _moved(head, (0.58, -1.28), 0.88)


def _snail(color, sway):
    turns = np.linspace(0, 5 * np.pi, 60)
    radius = 0.62 * (turns / turns[-1]) ** 0.8
    spiral = np.stack([-0.3 + radius * np.cos(turns), -0.9 + radius * np.sin(turns)], 1)[3:]
    body = [
        Shape(
            _blob(
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
        Shape(_ellipse(-0.3, -0.9, 0.74, 0.74)),
        Shape(_band(spiral, 0.035, 0.05), tone=0.72, line=False),
    ]
    dark, blush = (206, 146, 0), (246, 140, 110)
    head = []
    for x in (0.84, 1.16):
        tip = (x + 0.05 * sway, -1.5)
        head.append(Shape(_band([(0.4 * x + 0.6, -0.95), tip], 0.06, 0.05), color))
        head += [Shape(_ellipse(*tip, 0.12, 0.12), WHITE), *_eye(*tip, 0.075)]
    head += [
        Shape(_ellipse(1.02, -0.88, 0.32, 0.3), color),
        *(_mark(_ellipse(x, y, 0.04, 0.035), dark) for x, y in [(0.86, -1.05), (0.98, -1.1)]),
        _mark(_ellipse(0.86, -0.82, 0.065, 0.045), blush),
        _mark(_ellipse(1.22, -0.82, 0.055, 0.045), blush),
        _smile(1.06, -0.86, 0.22),
    ]
    return body, head


def _turtle(color, sway):
    step = 0.08 * sway
    body = [
        Shape(_blob((-0.95, -0.4), (-1.4, -0.2), (-0.95, -0.2)), tone=0.94),
        Shape(_band([(-0.45, -0.35), (-0.5 + step, -0.12)], 0.2, 0.17), tone=0.8),
        Shape(_band([(0.3, -0.35), (0.42 - step, -0.12)], 0.2, 0.17), tone=0.8),
        Shape(
            _blob(
                (-1.08, -0.36),
                (-0.95, -0.85),
                (-0.5, -1.24),
                (0.05, -1.24),
                (0.5, -0.9),
                (0.72, -0.36),
                (-0.1, -0.22),
            )
        ),
        Shape(_band([(-1.08, -0.36), (-0.2, -0.25), (0.72, -0.36)], 0.09, 0.09), tone=0.82),
        Shape(_band([(-0.75, -0.3), (-0.85 - step, -0.1)], 0.19, 0.15)),
        Shape(_band([(0.55, -0.3), (0.7 + step, -0.1)], 0.19, 0.15)),
    ]
    dark, light = (16, 120, 50), (214, 236, 80)
    head = [
        Shape(_band([(-0.4, 0.45), (-0.13, 0.2)], 0.14, 0.17), color),
        Shape(_ellipse(0, 0, 0.34, 0.3), color),
        *(
            _mark(_ellipse(x, y, 0.05, 0.04), dark)
            for x, y in [(-0.13, -0.22), (0, -0.25), (-0.22, -0.11)]
        ),
        _mark(_band([(-0.31, 0.06), (-0.15, 0.12), (-0.05, 0.1)], 0.035, 0.02), light),
        _mark(_band([(-0.27, 0.2), (-0.13, 0.22)], 0.03, 0.02), light),
        *_eye(0.08, -0.06, 0.095),
        _smile(0.15, 0.14, 0.2),
    ]
    return body, _moved(head, (1.0, -0.86), 0.87)


def _owl(color, sway):
    spread = 0.08 + 0.06 * sway
    claw = (206, 160, 96)
    body = [
        Shape(_blob((-0.3, -0.4), (-0.2, -0.04), (0, 0.06), (0.2, -0.04), (0.3, -0.4)), tone=0.84),
        Shape(_ellipse(0, -0.9, 0.76, 0.88)),
        *(Shape(_ellipse(x, -0.06, 0.12, 0.07), claw) for x in (-0.3, 0.3)),
    ]
    for side in (-1, 1):
        wing = [(0.5, -1.45), (0.84 + spread, -0.9), (0.64 + spread, -0.26), (0.44, -0.6)]
        body.append(Shape(_blob(*((side * x, y) for x, y in wing)), tone=0.86))
    dark, disk, gold = (88, 30, 156), (226, 206, 246), (250, 180, 40)
    head = []
    for side in (-1, 1):
        tuft = [(0.14, -0.24), (0.47, -0.5), (0.43, -0.1)]
        head.append(Shape(_blob(*((side * x, y) for x, y in tuft)), dark))
    head.append(Shape(_ellipse(0, 0, 0.48, 0.35), color))
    for side in (-1, 1):
        head.append(_mark(_ellipse(0.19 * side, 0.01, 0.2, 0.22), disk))
        head += _eye(0.18 * side, 0, 0.125, gold)
    head.append(Shape(_blob((-0.07, 0.06), (0, 0.04), (0.07, 0.06), (0, 0.24)), gold))
    return body, _moved(head, (0, -1.72), 0.87)


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


# --- Backgrounds: float32 [H, W, 3] RGB, 0..255, at the supersampled size -------------------------


@dataclasses.dataclass(frozen=True)
class Scene:
    """One background: a sky, two rows of hills and some low-contrast decoration.

    Attributes:
      sky: RGB at the top and at the horizon.
      far: RGB of the far hills.
      near: RGB of the near ground, at its crest and at the bottom edge.
      above, below: (canvas, rng, horizon row) -> None, decorate sky and ground in place.
    """

    sky: tuple
    far: tuple
    near: tuple
    above: Callable
    below: Callable


def _gradient(rows, top, bottom):
    """float32 `[len(rows), 1, 3]`; `rows` in 0..1."""
    top, bottom = np.float32(top), np.float32(bottom)
    return top + np.float32(np.clip(rows, 0, 1))[:, None, None] * (bottom - top)


def _hills(canvas, rng, crest, swing, top, bottom):
    """Paints rolling hills below row `crest`, in place; `swing` is their height in pixels."""
    height, width = canvas.shape[:2]
    x = np.linspace(0, 2 * np.pi, width)
    phases, speeds = rng.uniform(0, 2 * np.pi, 2), rng.uniform(0.5, 1.6, 2)
    edge = crest + swing * (
        np.sin(speeds[0] * x + phases[0]) + 0.4 * np.sin(2.3 * speeds[1] * x + phases[1])
    )
    rows = np.arange(height)
    color = _gradient((rows - crest) / max(height - crest, 1), top, bottom)
    np.copyto(canvas, color, where=(rows[:, None] >= edge)[:, :, None])


def _spots(rng, canvas, count, top, bottom):
    """`count` random (x, y, size) with rows in top..bottom; size grows toward the viewer."""
    height, width = canvas.shape[:2]
    x, y = rng.uniform(0, width, count), rng.uniform(top, max(bottom, top + 1), count)
    size = height / 120 * rng.uniform(0.8, 1.4, count) * (0.6 + y / height)
    return zip(x, y, size, strict=True)


def _dot(canvas, x, y, rx, ry, color):
    cv2.ellipse(canvas, (int(x), int(y)), (max(1, int(rx)), max(1, int(ry))), 0, 0, 360, color, -1)


def _clouds(canvas, rng, horizon):
    for x, y, s in _spots(rng, canvas, 3, 0.05 * horizon, 0.6 * horizon):
        for dx, dy, r in ((-9, 0, 6), (0, -3, 8), (9, 0, 6), (0, 2, 12)):
            _dot(canvas, x + dx * s, y + dy * s, r * s, 0.55 * r * s, (246, 246, 242))


def _bubbles(canvas, rng, horizon):
    for x in rng.uniform(0, canvas.shape[1], 3):
        lean = canvas.shape[1] * 0.15
        beam = [(x, 0), (x + lean * 0.6, 0), (x - lean * 0.2, horizon), (x - lean, horizon)]
        cv2.fillPoly(canvas, [np.int32(beam)], (150, 200, 214))
    for x, y, s in _spots(rng, canvas, 9, 0, horizon):
        cv2.circle(canvas, (int(x), int(y)), int(2.6 * s), (214, 238, 242), max(1, int(0.7 * s)))


def _flakes(canvas, rng, horizon):
    for x, y, s in _spots(rng, canvas, 34, 0, horizon * 1.2):
        _dot(canvas, x, y, 1.2 * s, 1.2 * s, (255, 255, 255))


def _stars(canvas, rng, horizon):
    for x, y, s in _spots(rng, canvas, 30, 0, horizon):
        _dot(canvas, x, y, 0.8 * s, 0.8 * s, (236, 228, 190))
    (x, y, s), *_ = _spots(rng, canvas, 1, 0.15 * horizon, 0.4 * horizon)
    _dot(canvas, x, y, 11 * s, 11 * s, (255, 250, 220))


def _sun(canvas, rng, horizon):
    (x, y, s), *_ = _spots(rng, canvas, 1, 0.2 * horizon, 0.6 * horizon)
    _dot(canvas, x, y, 16 * s, 16 * s, (252, 238, 208))


def _trunks(canvas, rng, horizon):
    height, width = canvas.shape[:2]
    for x in np.sort(rng.uniform(0, width, 7)):
        half = width * rng.uniform(0.012, 0.03)
        foot = horizon + rng.uniform(0, 0.12) * height
        trunk = [(x - half, 0), (x + half, 0), (x + 1.4 * half, foot), (x - 1.4 * half, foot)]
        cv2.fillPoly(canvas, [np.int32(trunk)], (104, 106, 88))


def _flowers(canvas, rng, horizon):
    petals = [(250, 244, 240), (240, 200, 210), (246, 226, 160)]
    for x, y, s in _spots(rng, canvas, 22, 1.15 * horizon, canvas.shape[0]):
        _dot(canvas, x, y, 1.5 * s, 1.1 * s, petals[rng.integers(3)])


def _weeds(canvas, rng, horizon):
    for x, y, s in _spots(rng, canvas, 9, 1.05 * horizon, canvas.shape[0]):
        _dot(canvas, x, y, 1.2 * s, 9 * s, (92, 150, 136))
        _dot(canvas, x + 3 * s, y + 2 * s, 1.1 * s, 6 * s, (92, 150, 136))


def _pebbles(canvas, rng, horizon):
    for x, y, s in _spots(rng, canvas, 16, 1.1 * horizon, canvas.shape[0]):
        _dot(canvas, x, y, 2.2 * s, 1.3 * s, (176, 150, 124))


def _drifts(canvas, rng, horizon):
    for x, y, s in _spots(rng, canvas, 8, 1.1 * horizon, canvas.shape[0]):
        _dot(canvas, x, y, 16 * s, 2.2 * s, (248, 250, 254))


def _tufts(canvas, rng, horizon):
    for x, y, s in _spots(rng, canvas, 14, 1.1 * horizon, canvas.shape[0]):
        for lean in (-2, 0, 2):
            tip = (int(x + lean * s), int(y - 4 * s))
            cv2.line(canvas, (int(x), int(y)), tip, (70, 100, 70), max(1, int(0.9 * s)))


SCENES = {
    "meadow": Scene(
        ((176, 212, 230), (234, 238, 224)),
        (166, 196, 148),
        ((146, 182, 116), (108, 148, 88)),
        _clouds,
        _flowers,
    ),
    "sea": Scene(
        ((128, 190, 206), (70, 136, 168)),
        (78, 138, 160),
        ((150, 168, 156), (112, 140, 140)),
        _bubbles,
        _weeds,
    ),
    "sand": Scene(
        ((214, 226, 226), (246, 226, 204)),
        (226, 196, 160),
        ((224, 190, 146), (190, 152, 112)),
        _sun,
        _pebbles,
    ),
    "snow": Scene(
        ((176, 190, 216), (226, 222, 232)),
        (198, 210, 226),
        ((234, 240, 248), (200, 212, 230)),
        _flakes,
        _drifts,
    ),
    "forest": Scene(
        ((140, 160, 130), (190, 200, 164)),
        (112, 138, 104),
        ((106, 124, 84), (72, 92, 66)),
        _trunks,
        _tufts,
    ),
    "night": Scene(
        ((36, 40, 78), (88, 86, 128)),
        (66, 70, 108),
        ((62, 72, 96), (38, 46, 70)),
        _stars,
        _tufts,
    ),
}


def _background(rng, scene, height, width):
    """A painted scene, float32 `[height, width, 3]`."""
    horizon = height * rng.uniform(0.38, 0.56)
    rows = np.arange(height) / horizon
    canvas = np.repeat(_gradient(rows, *scene.sky), width, axis=1)
    _decorate(canvas, scene.above, rng, horizon)
    haze = 0.5 * (np.float32(scene.far) + np.float32(scene.near[0]))
    _hills(canvas, rng, horizon - 0.04 * height, 0.035 * height, scene.far, haze)
    _hills(canvas, rng, horizon + 0.06 * height, 0.03 * height, *scene.near)
    _decorate(canvas, scene.below, rng, horizon + 0.06 * height)
    return canvas


def _decorate(canvas, decoration, rng, horizon, opacity=0.5):
    """Draws a decoration half transparent, so that it stays texture."""
    over = canvas.copy()
    decoration(over, rng, horizon)
    cv2.addWeighted(canvas, 1 - opacity, over, opacity, 0, dst=canvas)


# --- Painting an animal into a scene --------------------------------------------------------------


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


def _polygon(shape, outline, thickness=0):
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
        area |= _polygon(area.shape, np.add(shape.outline, (2, 3)) * scale)
    return area.sum() / scale**2


def _place(rng, animal, share, box):
    """Poses an animal at random inside a box.

    Args:
      share: the area it aims at, in pixels.
      box: (left, top, right, bottom) in pixels that its outline stays inside.

    Returns:
      `Placed`.
    """
    body, head = animal.draw(animal.color, rng.uniform(-1, 1))
    matrix = _turn(rng.uniform(-9, 9)) @ np.diag([rng.choice([-1.0, 1.0]), 1.0])
    low, high = Placed(animal, body, head, matrix, np.zeros(2)).bounds()
    room = np.subtract(box[2:], box[:2])
    scale = min(np.sqrt(share / _frame_area(animal)), *(room / (high - low)))
    slack = room - scale * (high - low)
    # Feet belong on the ground, so walkers keep to the lower part of their box.
    drop = (rng.uniform(), rng.uniform(0.0 if animal.floats else 0.5, 1))
    return Placed(animal, body, head, scale * matrix, box[:2] + slack * drop - scale * low)


def _shadow(canvas, placed):
    """Darkens the ground under an animal, in place."""
    (left, top), (right, bottom) = placed.bounds()
    half = (right - left) / 2
    hover = 0.15 * (bottom - top) if placed.animal.floats else -0.02 * half
    ground = min(bottom + hover, 0.97 * canvas.shape[0])
    spot = _ellipse((left + right) / 2, ground, 0.86 * half, 0.14 * half)
    shade = 0.36 * _polygon(canvas.shape[:2], spot).astype(np.float32)
    canvas *= 1 - cv2.blur(cv2.blur(shade, (15, 9)), (15, 9))[..., None]


def _coat(placed, fur, x, y):
    """The coat over a grid of pixels.

    Args:
      fur: RGB, float32 `[3]`, of the coat where the class's tint has faded.
      x, y: float32 `[h, w]`, in pixels.

    Returns:
      Colour, float32 `[h, w, 3]`, and whether a pixel is FRONT or HIND, uint8 `[h, w]`.
    """
    animal = placed.animal
    u, v = placed.frame(x, y)
    away = np.hypot(u - animal.face[0], v - animal.face[1])
    fade = np.clip((away - 0.35) / 1.5, 0, 1)
    strength = COAT[0] + fade * (COAT[1] - COAT[0])
    color = fur + strength[..., None] * (np.float32(animal.tint) - fur)
    color *= 1 - PATTERN * (strength * animal.pattern(u, v))[..., None]
    return color, np.where(fade < 0.5, FRONT, HIND).astype(np.uint8)


def _paint(rng, canvas, mask, parts, placed, class_id):
    """Paints one animal over canvas, mask and parts, all in place and of the same size."""
    fur = np.float32(FUR) * np.float32(rng.uniform(0.86, 1.08))
    jitter = np.float32(rng.uniform(0.94, 1.06) * rng.uniform(0.98, 1.02, 3))
    for number, shape in enumerate(placed.body + placed.head):
        outline = placed.pixels(shape.outline)
        # All work happens in a window around the shape; the line needs some pixels more.
        (left, top), (right, bottom) = outline.min(0), outline.max(0)
        window = np.s_[
            max(int(top) - 3, 0) : int(bottom) + 4, max(int(left) - 3, 0) : int(right) + 4
        ]
        y, x = (np.float32(a) for a in np.mgrid[window])
        inside = _polygon(x.shape, outline - (x[0, 0], y[0, 0]))
        line = _polygon(x.shape, outline - (x[0, 0], y[0, 0]), SUPERSAMPLING) & shape.line
        coat, levels = _coat(placed, fur, x, y)
        color = coat if shape.fill is None else np.float32(shape.fill)
        # Light falls from above: each shape is brighter at its top than at its bottom.
        light = shape.tone * (1.1 - 0.24 * (y - np.float32(top)) / np.float32(bottom - top))
        np.copyto(canvas[window], color * jitter * light[..., None], where=inside[..., None])
        np.copyto(canvas[window], np.float32(INK), where=line[..., None])
        mask[window][inside | line] = class_id
        part = levels if number < len(placed.body) else np.uint8(HEAD)
        np.copyto(parts[window], part, where=inside | line)


# --- Scenes ---------------------------------------------------------------------------------------


def _random(seed, split, index):
    """The scene's own generator, so that no scene depends on how many are drawn."""
    return np.random.default_rng([seed, zlib.crc32(split.encode()), index])


def _cast(rng, index):
    """Class ids of a scene, one or two; the first goes round, so that classes are balanced."""
    first = index % len(CLASSES) + 1
    if rng.uniform() >= TWO_ANIMALS:
        return [first]
    others = [i for i in range(1, len(CLASSES) + 1) if i != first]
    return [int(i) for i in rng.permutation([first, rng.choice(others)])]


def _boxes(rng, height, width, count):
    """A box (left, top, right, bottom) for each of the `count` animals, one or two."""
    left, top, right, bottom = 0.03 * width, 0.1 * height, 0.97 * width, 0.96 * height
    if count == 1:
        return [(left, top, right, bottom)]
    # The boxes share a strip, so that two animals can overlap a little.
    cut, half_strip = width * rng.uniform(0.46, 0.54), 0.04 * width
    return [(left, top, cut + half_strip, bottom), (cut - half_strip, top, right, bottom)]


def _size(rng, portrait):
    """(height, width) of an image; the sides are 3 : 4 or 4 : 3."""
    short, long = np.array([3, 4]) * rng.integers(40, 49)
    return (int(long), int(short)) if portrait else (int(short), int(long))


def _draw(seed, split, index):
    """RGB uint8 `[H, W, 3]`, class ids uint8 `[H, W]`, part ids uint8 `[H, W]`, scene name."""
    rng = _random(seed, split, index)
    ids = _cast(rng, index)
    animals = [ANIMALS[i - 1] for i in ids]
    # Two animals side by side want a landscape.
    height, width = _size(rng, portrait=len(ids) == 1 and rng.uniform() < PORTRAIT)
    favourite = animals[rng.integers(len(animals))].scene
    name = favourite if rng.uniform() < FAVOURITE else str(rng.choice(list(SCENES)))

    big = (height * SUPERSAMPLING, width * SUPERSAMPLING)
    canvas = _background(rng, SCENES[name], *big)
    mask, parts = np.zeros(big, np.uint8), np.zeros(big, np.uint8)
    for class_id, animal, box in zip(ids, animals, _boxes(rng, *big, len(ids)), strict=True):
        placed = _place(rng, animal, rng.uniform(*AREA) * mask.size, box)
        _shadow(canvas, placed)
        _paint(rng, canvas, mask, parts, placed, class_id)

    image = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
    image *= np.float32(rng.uniform(0.95, 1.05, 3))
    image += rng.normal(0, GRAIN, (height, width, 1)).astype(np.float32)
    image = np.clip(np.round(image), 0, 255).astype(np.uint8)
    middle = slice(SUPERSAMPLING // 2, None, SUPERSAMPLING)
    return image, mask[middle, middle].copy(), parts[middle, middle].copy(), name


def draw_scene(seed: int, split: str, index: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Draws one scene, which depends on nothing but the three arguments.

    Returns:
      Image, uint8 RGB `[H, W, 3]`; mask of class ids 0..C, uint8 `[H, W]`; the sorted class ids
      that the mask holds.
    """
    image, mask, _, _ = _draw(seed, split, index)
    return image, mask, [int(i) for i in np.unique(mask) if i]


def draw_parts(seed: int, split: str, index: int) -> np.ndarray:
    """The parts of the same scene's animals: uint8 `[H, W]` of 0, HEAD, FRONT and HIND."""
    return _draw(seed, split, index)[2]


def scene_name(seed: int, split: str, index: int) -> str:
    """The background of the same scene, a key of `SCENES`."""
    return _draw(seed, split, index)[3]


# --- The devkit -----------------------------------------------------------------------------------


def _recipe(settings):
    """What the files of a devkit follow from; written to its demo.json."""
    names = ("demo_train", "demo_val", "seed")
    return {"version": VERSION, **{name: getattr(settings, name) for name in names}}


def _is_there(root, settings):
    """Whether `root` holds this very devkit; refuses a folder that holds anything else."""
    if not root.exists():
        return False
    try:
        found = json.loads((root / "demo.json").read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(
            f"{root} exists and is no demo set; remove it, or choose another --demo_root"
        ) from error
    for name, value in _recipe(settings).items():
        if found.get(name) != value:
            raise InputError(
                f"{root} was made with {name} = {found.get(name)}, now {name} = {value}; "
                f"remove {root}, or choose another --demo_root"
            )
    return True


def _write_scene(root, name, image, mask):
    """Writes one image and its palette mask."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    cv2.imwrite(str(root / f"JPEGImages/{name}.jpg"), image[..., ::-1], quality)
    picture = Image.fromarray(mask, "P")
    picture.putpalette(CLASSES.palette().tobytes())
    picture.save(root / f"SegmentationClass/{name}.png")


def _write(root, settings):
    """Writes a whole devkit into an empty folder."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    labels = []
    for split, count in (("train", settings.demo_train), ("val", settings.demo_val)):
        names = [f"demo_{split}_{index:04d}" for index in range(1, count + 1)]
        for index, name in enumerate(names, start=1):
            image, mask, ids = draw_scene(settings.seed, split, index)
            _write_scene(root, name, image, mask)
            labels.append((name, " ".join(CLASSES.names[i - 1] for i in ids)))
        listing = root / f"ImageSets/Segmentation/{split}.txt"
        listing.write_text("".join(f"{name}\n" for name in names))
    with open(root / "image_labels.csv", "w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("image", "labels"), *labels])
    (root / "classes.json").write_text(json.dumps(CLASSES.to_json(), indent=1))
    (root / "demo.json").write_text(json.dumps(_recipe(settings), indent=1))


def run(settings) -> pathlib.Path:
    """Writes the devkit to `settings.demo_root`, unless it is there already.

    Args:
      settings: `config.MakeDemo`, or anything with its fields.

    Returns:
      The devkit's folder.
    """
    if not settings.demo_root:
        raise InputError("--demo_root: name a folder to write the demo set to")
    root = pathlib.Path(settings.demo_root)
    if _is_there(root, settings):
        logging.info("%s: already there", root)
        return root
    # Written aside and renamed when whole: a folder of that name is never half a devkit.
    partial = root.with_name(root.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    _write(partial, settings)
    os.replace(partial, root)
    logging.info("%s: drew %d + %d scenes", root, settings.demo_train, settings.demo_val)
    return root


def main(argv):
    del argv
    run(config_flags.read(config.MakeDemo))


if __name__ == "__main__":
    config_flags.run_app(main)
