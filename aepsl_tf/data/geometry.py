"""To the network's size and back: the one place that knows what --input does to a picture.

`warp` resizes the whole picture to --input_size squared; `crop`, which training cuts at random,
pads the whole picture to 8k+1 pixels a side. Either way the network's cells lie on every 8th pixel
of its input (align-corners).
"""

import tensorflow as tf

from aepsl_tf.data import transforms


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

    def shrink():
        # Of uint8 as it is: a photograph in float32 would be four times its size.
        return tf.cast(tf.round(tf.image.resize(images, area, antialias=True)), tf.uint8)

    return tf.cond(tf.reduce_all(area == tf.shape(images)[1:3]), lambda: images, shrink)


def to_network(images, config, pixel_limit):
    """uint8 RGB `[B, H, W, 3]` → the network's input, float32, 8k+1 pixels a side.

    Args:
      config: a `config.Network`.
      pixel_limit: a picture that is not warped, and larger, is seen at this many pixels.
    """
    if config.input == "warp":  # as training warps it: from all its pixels, whatever their number
        return transforms.warp(images, config.input_size)
    return transforms.pad_to_cells(tf.cast(limited(images, pixel_limit), tf.float32))


def cell_positions(length, config):
    """Where the `length` pixels of a picture's side lie among the cells: float32 `[length]`, from
    0, the first cell, on.
    """
    pixels = tf.range(tf.cast(length, tf.float32))
    if config.input == "warp":
        size = float(config.input_size)
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
