"""Outlines: polygons as float64 `[N, 2]` arrays of (x, y), y down."""

import numpy as np


def ellipse(x, y, rx, ry, degrees=0.0):
    """Polygon of an ellipse around (x, y), turned clockwise by `degrees`."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([rx * np.cos(angle), ry * np.sin(angle)], 1) @ turn(degrees).T + (x, y)


def blob(*knots):
    """Polygon of the closed Catmull-Rom spline through the knots."""
    p = np.asarray(knots, float)
    return spline(np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0))


def band(knots, start, end):
    """Polygon of a rounded stroke along a spline; the half width goes from `start` to `end`."""
    p = np.asarray(knots, float)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    spine = np.concatenate([spline(p[:-3], p[1:-2], p[2:-1], p[3:]), p[-2:-1]])
    along = np.gradient(spine, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    across = along[:, ::-1] * (-1, 1) * np.linspace(start, end, len(spine))[:, None]
    bend = np.linspace(0, np.pi, 9)[1:-1, None]
    tip = spine[-1] + np.cos(bend) * across[-1] + np.sin(bend) * along[-1] * end
    root = spine[0] - np.cos(bend) * across[0] - np.sin(bend) * along[0] * start
    return np.concatenate([spine + across, tip, (spine - across)[::-1], root])


def spline(before, start, end, after, samples=8):
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


def turn(degrees):
    """Rotation matrix; clockwise on screen, since y points down."""
    a = np.deg2rad(degrees)
    return np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
