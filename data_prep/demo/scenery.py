"""The six backdrops: a sky, two rows of hills and some decoration that stays texture.

A canvas is RGB, float32 `[H, W, 3]`, 0..255.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np


@dataclasses.dataclass(frozen=True)
class Backdrop:
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


BACKDROPS = {
    "meadow": Backdrop(
        ((176, 212, 230), (234, 238, 224)),
        (166, 196, 148),
        ((146, 182, 116), (108, 148, 88)),
        _clouds,
        _flowers,
    ),
    "sea": Backdrop(
        ((128, 190, 206), (70, 136, 168)),
        (78, 138, 160),
        ((150, 168, 156), (112, 140, 140)),
        _bubbles,
        _weeds,
    ),
    "sand": Backdrop(
        ((214, 226, 226), (246, 226, 204)),
        (226, 196, 160),
        ((224, 190, 146), (190, 152, 112)),
        _sun,
        _pebbles,
    ),
    "snow": Backdrop(
        ((176, 190, 216), (226, 222, 232)),
        (198, 210, 226),
        ((234, 240, 248), (200, 212, 230)),
        _flakes,
        _drifts,
    ),
    "forest": Backdrop(
        ((140, 160, 130), (190, 200, 164)),
        (112, 138, 104),
        ((106, 124, 84), (72, 92, 66)),
        _trunks,
        _tufts,
    ),
    "night": Backdrop(
        ((36, 40, 78), (88, 86, 128)),
        (66, 70, 108),
        ((62, 72, 96), (38, 46, 70)),
        _stars,
        _tufts,
    ),
}


def paint(rng, backdrop, height, width):
    """A canvas `[height, width, 3]` with the backdrop on it."""
    horizon = height * rng.uniform(0.38, 0.56)
    rows = np.arange(height) / horizon
    canvas = np.repeat(_gradient(rows, *backdrop.sky), width, axis=1)
    _decorate(canvas, backdrop.above, rng, horizon)
    haze = 0.5 * (np.float32(backdrop.far) + np.float32(backdrop.near[0]))
    _hills(canvas, rng, horizon - 0.04 * height, 0.035 * height, backdrop.far, haze)
    _hills(canvas, rng, horizon + 0.06 * height, 0.03 * height, *backdrop.near)
    _decorate(canvas, backdrop.below, rng, horizon + 0.06 * height)
    return canvas


def _decorate(canvas, decoration, rng, horizon, opacity=0.5):
    """Draws a decoration half transparent, so that it stays texture."""
    over = canvas.copy()
    decoration(over, rng, horizon)
    cv2.addWeighted(canvas, 1 - opacity, over, opacity, 0, dst=canvas)
