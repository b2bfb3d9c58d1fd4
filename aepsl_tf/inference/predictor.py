"""From a picture of any size to a mask: one path for evaluation, prediction and export."""

import numpy as np
import tensorflow as tf

from aepsl_tf import config
from aepsl_tf.data import geometry
from aepsl_tf.inference.cells import Cells, Seen
from aepsl_tf.models import losses


def class_weights(scores, p, policy="weights"):
    """The test policy (§3.2): scores below p become 0, the others weigh their class's map.

    Args:
      scores: v `[B, C]`.
      p: the prohibited threshold.
      policy: --test_policy; the paper's is "weights".

    Returns:
      [1, v] with prohibited scores as 0: float32 `[B, C+1]`, for `losses.weigh`.
    """
    if policy == "none":
        kept = tf.ones_like(scores)
    else:
        weights = {
            "weights": lambda: scores,
            "threshold": lambda: tf.ones_like(scores),
            "max": lambda: tf.math.divide_no_nan(scores, tf.reduce_max(scores, -1, True)),
        }[policy]()
        kept = tf.where(scores < p, 0.0, weights)
    return tf.concat([tf.ones_like(kept[..., :1]), kept], axis=-1)


def views_of(multi_scale, flip):
    """The views of a picture: at each of some scales (--multi_scale), with --flip mirrored too."""
    scales, sides = config.scales(multi_scale), (False, True)[: 1 + flip]
    return tuple(geometry.View(scale, mirrored) for scale in scales for mirrored in sides)


def scores_of(views):
    """v `[C]`, the mean over the cells of a picture's views; None without a branch."""
    return np.mean([cells["scores"] for cells in views], 0) if "scores" in views[0] else None


class Predictor:
    """A segmenter as a function of pictures.

    Args:
      model: a `Segmenter`; one without a classification branch prohibits nothing.
      settings: p, test_policy and pixel_limit of a `config.Segmentation`. Pictures larger than
        the limit are segmented at this many pixels; their probabilities stay at that size, the
        mask is scaled back.
      views: what a `Reader` shows the network of a picture; scores and probabilities are means
        over them.
      portable: `segment` takes only operations that TFLite and ONNX have too. It knows no limit
        then, and its logarithms are float32's.
    """

    def __init__(self, model, settings, views=(geometry.PLAIN,), portable=False):
        self.model, self.portable = model, portable
        self.pixel_limit = None if portable else settings.pixel_limit
        self.views, self.is_plain = views, views == (geometry.PLAIN,)
        self._policy = settings.p, settings.test_policy

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)], autograph=False)
    def segment(self, images):
        """uint8 RGB `[B, H, W, 3]` → {"mask" uint8 `[B, H, W]`, "probabilities" float32
        `[B, H', W', C+1]` before prohibition, "scores" float32 `[B, C]`}; H' = H up to the limit.
        The weights are those of the first call.
        """
        config, size = self.model.config, tf.shape(images)[1:3]
        if self.portable:  # the others resize no uint8
            images = tf.cast(images, tf.float32)
        inputs = geometry.to_network(images, config, self.pixel_limit)
        with self.model.fixed():
            cells = self.model.cells(self.model.frozen(inputs, training=False))
        area = geometry.limited_area(size, self.pixel_limit)
        logits = geometry.from_network(cells.pop("logits"), area, config)
        weighed = logits
        if self.model.has_scores:
            weights = class_weights(cells["scores"], *self._policy)
            precision = tf.float32 if self.portable else tf.float64
            weighed = losses.weigh(logits, weights, precision)
        mask = tf.argmax(weighed, axis=-1, output_type=tf.int32)
        mask = tf.cast(mask, tf.uint8) if self.portable else _resized(mask, size)
        return {"mask": mask, "probabilities": tf.nn.softmax(logits)} | cells

    def weights(self, *views):
        """What weighs the classes of one picture, of the cells of its views: float32 `[C+1]`."""
        if not self.model.has_scores:
            return np.ones(self.model.num_classes + 1, np.float32)
        return class_weights(scores_of(views), *self._policy).numpy()

    def mask_of(self, cells, size):
        """The mask uint8 `[H, W]` of one picture's cells; `size` is its (H, W)."""
        return self.mask(cells["logits"], self.weights(cells), size).numpy()

    def to_worker(self, picture, weights, *logits):
        """What a worker needs for a mask: `Cells`, of a picture at --pixel_limit and the logits of
        each view.
        """
        size, views = picture.shape[:2], []
        for view, one in zip(self.views, logits, strict=True):
            places = geometry.view_positions(size, self.model.config, self.pixel_limit, view)
            views.append(Seen(one, *(place.numpy() for place in places)))
        return Cells(picture, weights, tuple(views))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None, None], tf.float32),
            tf.TensorSpec([None], tf.float32),
            tf.TensorSpec([2], tf.int32),
        ],
        autograph=False,
    )
    def mask(self, logits, weights, size):
        """The mask of one picture by given weights, bit for bit that of `segment` by its own.

        Args:
          logits: `[h, w, C+1]`.
          weights: `[C+1]`; classes of weight 0 are left out of the work.
          size: the picture's (H, W).

        Returns:
          uint8 `[H, W]`.
        """
        possible = tf.where(weights > 0)[:, 0]
        area = geometry.limited_area(size, self.pixel_limit)
        logits = tf.gather(logits, possible, axis=-1)[None]
        logits = geometry.from_network(logits, area, self.model.config)
        winner = tf.argmax(losses.weigh(logits, tf.gather(weights, possible)[None]), axis=-1)
        return _resized(tf.gather(possible, winner), size)[0]


def _resized(mask, size):
    """Class ids `[B, h, w]` → uint8 `[B, H, W]`, nearest neighbour."""
    mask = tf.cast(mask, tf.uint8)
    return tf.image.resize(mask[..., None], size, method="nearest")[..., 0]
