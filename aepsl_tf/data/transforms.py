"""One function a transform; each takes and returns tensors and works eagerly and in tf.data.

Pictures are float32 RGB `[H, W, 3]` in 0..255, masks uint8 `[H, W]`, until the network's own
first layer makes BGR minus mean of them (`backbones.CaffeInput`).
"""

import tensorflow as tf

from aepsl_tf.classes import VOID

INPUT_MEAN = (122.675, 116.669, 104.008)
"""RGB mean of the network's input (DeepLab prototxt): what pictures are padded with."""


def decode_image(encoded):
    """JPEG or PNG bytes → uint8 RGB `[H, W, 3]`.

    The one decoder of training, prediction and the exported model. The exact inverse DCT makes
    it agree with libjpeg's default, so a picture converted to PNG keeps its pixels.
    """
    return tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE")


def decode_mask(png):
    """Greyscale PNG bytes → uint8 `[H, W]`."""
    return tf.io.decode_png(png, channels=1)[..., 0]


def erase(image, erased_png, fill):
    """I \\ F (Algorithm 1, line 11): fills the erased pixels with `fill`, RGB `[3]`, 0..255."""
    erased = decode_mask(erased_png) > 0
    return tf.where(erased[..., None], tf.cast(fill, image.dtype), image)


def warp(image, size):
    """Whole pictures `[…, H, W, 3]` resized to `[…, size, size, 3]` float32, bilinear."""
    image = tf.image.resize(image, [size, size], antialias=False)
    return tf.ensure_shape(tf.cast(image, tf.float32), [*image.shape[:-3], size, size, 3])


def warp_mask(mask, size):
    """The mask that belongs to `warp`: nearest neighbour, uint8 `[size, size]`."""
    mask = tf.image.resize(mask[..., None], [size, size], method="nearest")[..., 0]
    return tf.ensure_shape(mask, [size, size])


def crop(image, size, draws):
    """A `size`² crop at scale 1; smaller pictures are first padded below and to the right.

    Args:
      draws: int `[2]`, not negative; the corner is their remainder by the free height and width,
        so a picture and its mask are cut alike.

    Returns:
      float32 `[size, size, 3]`; padding is the input mean.
    """
    image = tf.cast(image, tf.float32) - INPUT_MEAN  # so that padding with zeros is the mean
    return tf.ensure_shape(_cut(image, size, draws, 0.0), [size, size, 3]) + INPUT_MEAN


def crop_mask(mask, size, draws):
    """The mask that belongs to `crop`: uint8 `[size, size]`, padded with VOID."""
    return tf.ensure_shape(_cut(mask[..., None], size, draws, VOID)[..., 0], [size, size])


def _cut(image, size, draws, padding):
    area = tf.shape(image)[:2]
    corner = draws % (tf.maximum(area - size, 0) + 1)
    pads = tf.stack([tf.zeros(2, tf.int32), tf.maximum(size - area, 0)], axis=1)
    image = tf.pad(image, tf.concat([pads, [[0, 0]]], axis=0), constant_values=padding)
    return image[corner[0] :, corner[1] :][:size, :size]


def mirror(image, mirrored):
    """A picture `[H, W, C]` or mask `[H, W]`, left to right where the bool `mirrored` says so."""
    # A slice by −1, or a choice between both, would take about ten times as long (321², on a CPU).
    return tf.cond(
        tf.convert_to_tensor(mirrored), lambda: tf.reverse(image, [1]), lambda: tf.identity(image)
    )


def network_mask(mask):
    """Labels at network resolution: with 8k+1 pixels align-corners is exactly every 8th pixel."""
    return mask[..., ::8, ::8]


def multi_hot(labels, num_classes):
    """Class ids 1..C `[L]` → float32 `[C]` of 0 and 1."""
    return tf.minimum(tf.reduce_sum(tf.one_hot(labels - 1, num_classes), axis=0), 1.0)


def pad_to_cells(images):
    """Pads `[B, H, W, 3]` below and to the right with the input mean to 8k+1 pixels a side."""
    height, width = tf.unstack(tf.shape(images)[1:3])
    # −(n − 1) mod 8, of numbers that are not negative: ONNX's converter rounds others otherwise.
    pads = [[0, 0], [0, 7 * (height - 1) % 8], [0, 7 * (width - 1) % 8], [0, 0]]
    return tf.pad(images - INPUT_MEAN, pads) + INPUT_MEAN
