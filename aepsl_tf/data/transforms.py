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


def random_crop(image, size, seed, mask=None):
    """A random `size`² crop; smaller pictures are first padded below and to the right.

    The same `seed` (int `[2]`) gives the same crop: no state. Padding is the input mean for
    pictures, VOID for masks.

    Returns:
      float32 `[size, size, 3]`, and the mask's crop uint8 `[size, size]` or None.
    """
    image = tf.cast(image, tf.float32) - INPUT_MEAN  # so that padding with zeros is the mean
    height, width = tf.unstack(tf.shape(image)[:2])
    pad_h, pad_w = tf.maximum(size - height, 0), tf.maximum(size - width, 0)
    free = tf.stack([tf.maximum(height - size, 0), tf.maximum(width - size, 0)]) + 1
    corner = tf.random.stateless_uniform([2], seed, maxval=2**30, dtype=tf.int32) % free
    image = tf.pad(image, [[0, pad_h], [0, pad_w], [0, 0]])
    image = image[corner[0] :, corner[1] :][:size, :size]
    image = tf.ensure_shape(image, [size, size, 3]) + INPUT_MEAN
    if mask is not None:
        mask = tf.pad(mask, [[0, pad_h], [0, pad_w]], constant_values=VOID)
        mask = tf.ensure_shape(mask[corner[0] :, corner[1] :][:size, :size], [size, size])
    return image, mask


def random_mirror(image, seed, mask=None):
    """Mirrors picture and mask left to right in half of all draws of `seed` (int `[2]`)."""
    mirrored = tf.random.stateless_uniform([], seed) < 0.5
    image = tf.where(mirrored, image[:, ::-1], image)
    if mask is not None:
        mask = tf.where(mirrored, mask[:, ::-1], mask)
    return image, mask


def network_mask(mask):
    """Labels at network resolution: with 8k+1 pixels align-corners is exactly every 8th pixel."""
    return mask[..., ::8, ::8]


def multi_hot(labels, num_classes):
    """Class ids 1..C `[L]` → float32 `[C]` of 0 and 1."""
    return tf.minimum(tf.reduce_sum(tf.one_hot(labels - 1, num_classes), axis=0), 1.0)


def pad_to_cells(images):
    """Pads `[B, H, W, 3]` below and to the right with the input mean to 8k+1 pixels a side."""
    height, width = tf.unstack(tf.shape(images)[1:3])
    pads = [[0, 0], [0, -(height - 1) % 8], [0, -(width - 1) % 8], [0, 0]]
    return tf.pad(images - INPUT_MEAN, pads) + INPUT_MEAN
