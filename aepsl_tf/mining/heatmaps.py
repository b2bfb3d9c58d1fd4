"""Heatmaps of pictures by a trained classifier, from its cells to a picture's pixels."""

import numpy as np

from aepsl_tf.data import geometry
from aepsl_tf.mining import cam


def cells(model):
    """`cells(features)`: features of the frozen part → {"heatmaps": H^c of every class, float32
    `[B, h, w, C]`, "scores": v, float32 `[B, C]`}.
    """

    def of(features):
        fc7, logits = model.maps(features)
        heatmaps = cam.class_activation_map(fc7, model.class_weights())
        return {"heatmaps": heatmaps, "scores": model.scores(logits)}

    return of


def at_size(heatmaps, labels, area, config):
    """H^c of some classes at a picture's size.

    Args:
      heatmaps: `[h, w, C]` of one picture's cells.
      labels: class ids `[L]`.
      area: (H, W).
      config: the classifier's.

    Returns:
      float32 `[L, H, W]`.
    """
    chosen = heatmaps[None, ..., np.array(labels, int) - 1]
    return np.moveaxis(geometry.from_network(chosen, area, config)[0].numpy(), -1, 0)


def of_picture(model, image, labels, pixel_limit=None):
    """H^c of one picture for some classes; phases, which look at many, take a `Reader`.

    Args:
      model: a `Classifier`, as `model_dir.load` gives it.
      image: uint8 RGB `[H, W, 3]`.
      labels: class ids `[L]`, 1 the first.
      pixel_limit: a larger picture is seen, and its heatmaps stay, at this many pixels.

    Returns:
      float32 `[L, H, W]`, of any sign; a region is what is above δ of the largest
      (`erasing.discriminative_region`).
    """
    inputs = geometry.to_network(image[None], model.config, pixel_limit)
    found = cells(model)(model.frozen(inputs, training=False))["heatmaps"][0].numpy()
    area = tuple(geometry.limited_area(image.shape[:2], pixel_limit))
    return at_size(found, labels, area, model.config)
