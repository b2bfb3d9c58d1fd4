"""To the network's size and back: the one place that knows what --input does to a picture.

`warp` resizes the whole picture to --input_size squared; `crop`, which training cuts at random,
pads the whole picture to 8k+1 pixels a side. Either way the network's cells lie on every 8th pixel
of its input (align-corners).
"""

import typing

import numpy as np
import tensorflow as tf

from aepsl_tf.data import transforms


class View(typing.NamedTuple):
    """How a network is shown a picture: at another size, and left to right."""

    scale: float = 1.0
    mirrored: bool = False


PLAIN = View()


def limited_area(area, pixel_limit):
    """int32 `[2]`: the size (height, width) of a picture at `pixel_limit` pixels, if any."""
    if pixel_limit is None:
        return area
    height, width = tf.unstack(tf.cast(area, tf.float32))
    factor = tf.minimum(tf.sqrt(pixel_limit / (height * width)), 1.0)
    return tf.cast(tf.maximum(tf.floor(tf.stack([height, width]) * factor), 1), tf.int32)


def limited(images, pixel_limit):
    """uint8 pictures `[B, H, W, 3]` at `pixel_limit` pixels at most; smaller ones as they are."""
    images = tf.convert_to_tensor(images)
    if pixel_limit is None:
        return images
    area = limited_area(tf.shape(images)[1:3], pixel_limit)
    same = tf.reduce_all(area == tf.shape(images)[1:3])
    return tf.cond(same, lambda: images, lambda: _shrunk(images, area))


def within(image, max_side):
    """A uint8 picture `[H, W, 3]` whose sides have `max_side` pixels at most; 0 is no limit."""
    area, longest = np.array(image.shape[:2]), max(image.shape[:2])
    if not 0 < max_side < longest:
        return image
    return _shrunk(image[None], np.maximum(area * max_side // longest, 1))[0]


def _shrunk(images, area):
    # Of uint8 as it is: a photograph in float32 would be four times its size.
    return tf.cast(tf.round(tf.image.resize(images, area, antialias=True)), tf.uint8)


def to_network(images, config, pixel_limit, view=PLAIN):
    """uint8 RGB `[B, H, W, 3]` → the network's input, float32, 8k+1 pixels a side.

    Args:
      config: a `config.Network`.
      pixel_limit: a picture that is not warped, and larger, is seen at this many pixels; so is one
        that a view makes larger.
    """
    if view.mirrored:
        images = tf.reverse(images, [2])
    if config.input == "warp":  # as training warps it: from all its pixels, whatever their number
        return transforms.warp(images, _warped_side(config, view))
    images = tf.cast(limited(images, pixel_limit), tf.float32)
    if view.scale != 1:
        area = _covered(tf.shape(images)[1:3], config, pixel_limit, view)
        images = tf.image.resize(images, area, antialias=True)
    return transforms.pad_to_cells(images)


def _warped_side(config, view):
    return 8 * max(round((config.input_size - 1) * view.scale / 8), 1) + 1


def _covered(area, config, pixel_limit, view):
    """int32 `[2]`: how many pixels of the network's input a picture of `area` covers."""
    if config.input == "warp":
        return tf.fill([2], _warped_side(config, view))
    scaled = tf.round(tf.cast(area, tf.float32) * view.scale)
    return limited_area(tf.maximum(scaled, 1), pixel_limit)


def view_positions(area, config, pixel_limit, view):
    """Where a picture's pixels lie among a view's cells: float32 `[H]` and `[W]`, for its (H, W)
    at `pixel_limit`.
    """
    covered = (None, None) if view.scale == 1 else _covered(area, config, pixel_limit, view)
    rows, columns = (
        cell_positions(length, config, pixels) for length, pixels in zip(area, covered, strict=True)
    )
    return rows, columns[::-1] if view.mirrored else columns


def cell_positions(length, config, covered=None):
    """Where the `length` pixels of a picture's side lie among the cells: float32 `[length]`, from
    0, the first cell, on.

    Args:
      covered: pixels of the network's input that the side covers, where a view scales it.
    """
    pixels = tf.range(tf.cast(length, tf.float32))
    if config.input == "warp" and covered is None:
        covered = config.input_size
    if covered is not None:
        size = tf.cast(covered, tf.float32)
        pixels = (pixels + 0.5) * (size / tf.cast(length, tf.float32)) - 0.5
        pixels = tf.clip_by_value(pixels, 0.0, size - 1)
    return pixels / 8


def from_network(cells, area, config):
    """Cells `[B, h, w, D]` → the picture's pixels, float32 `[B, H, W, D]`, for `area` (H, W).

    Bilinear. For a warped picture it equals zooming to the network's input and resizing that: what
    is linear between cells is linear between the input's pixels, as every cell is one of them.
    """
    height, width = tf.unstack(area)
    cells = _interpolated(cells, cell_positions(height, config), 1)
    return _interpolated(cells, cell_positions(width, config), 2)


def _interpolated(cells, positions, axis):
    # Elementwise, and so the same bits however many pictures and classes go together.
    low = tf.floor(positions)
    share = tf.reshape(positions - low, [-1] + [1] * (3 - axis))
    index = tf.cast(low, tf.int32)
    before = tf.gather(cells, index, axis=axis)
    after = tf.gather(cells, tf.minimum(index + 1, tf.shape(cells)[axis] - 1), axis=axis)
    return before + share * (after - before)
