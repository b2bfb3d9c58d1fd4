"""Heatmaps of single pictures by a trained classifier."""

import tensorflow as tf

from aepsl_tf.data import transforms
from aepsl_tf.mining import cam


class Heatmaps:
    """H^c of any picture by one classifier, at image size."""

    def __init__(self, model):
        self.model = model
        self._frozen = tf.function(model.frozen, reduce_retracing=True)
        self._tuned = tf.function(model.maps, reduce_retracing=True)

    def of(self, image, labels, features=None):
        """Heatmaps float32 `[L, H, W]` of uint8 `[H, W, 3]` for class ids `labels`."""
        height, width = image.shape[:2]
        config = self.model.config
        if config.input == "warp":
            if features is None:
                features = self._frozen(transforms.warp(image, config.input_size)[None])[0]
            area = height, width
        else:
            padded = transforms.pad_to_cells(tf.cast(image, tf.float32)[None])[0]
            features = self._frozen(padded[None])[0]
            area = padded.shape[:2]
        fc7, _ = self._tuned(features[None])
        maps = cam.class_activation_map(fc7, self.model.class_weights())[0]
        return [cam.upsample(maps[..., c - 1], *area).numpy()[:height, :width] for c in labels]
