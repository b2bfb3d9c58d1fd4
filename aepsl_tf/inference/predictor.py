"""From a picture of any size to a mask: one graph for evaluation, prediction and export."""

import contextlib

import tensorflow as tf

from aepsl_tf.data import datasets, transforms
from aepsl_tf.data.feature_cache import FeatureCache
from aepsl_tf.data.records import Family


def prohibit(probabilities, scores, p):
    """The test policy (§3.2): scores below p become 0, the others weigh their class's map.

    Args:
      probabilities: float `[..., H, W, C+1]`, background first.
      scores: v `[..., C]`.
      p: the prohibited threshold.

    Returns:
      float32 `[..., H, W, C+1]`, renormalised over the classes.
    """
    kept = tf.where(scores < p, 0.0, scores)
    weights = tf.concat([tf.ones_like(kept[..., :1]), kept], axis=-1)[..., None, None, :]
    weighted = probabilities * weights
    return weighted / tf.reduce_sum(weighted, axis=-1, keepdims=True)


class Predictor(tf.Module):
    """A segmenter as a function of pictures.

    Args:
      model: a `Segmenter`.
      p: prohibited threshold; without a classification branch nothing is prohibited.
      pixel_limit: larger pictures are segmented at this many pixels; their probabilities stay
        at that size, the mask is scaled back.
    """

    def __init__(self, model, p, pixel_limit):
        super().__init__()
        self.model, self.p, self.pixel_limit = model, p, pixel_limit

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)])
    def segment(self, images):
        """uint8 RGB `[B, H, W, 3]` → {"mask" uint8 `[B, H, W]`, "probabilities" float32
        `[B, H', W', C+1]` before prohibition, "scores" float32 `[B, C]`}; H' = H up to the limit.
        """
        height, width = tf.unstack(tf.shape(images)[1:3])
        images = self.limited(images)
        area = tf.shape(images)[1:3]
        config = self.model.config
        if config.input == "warp":
            inputs = tf.image.resize(tf.cast(images, tf.float32), [config.input_size] * 2)
        else:
            inputs = transforms.pad_to_cells(tf.cast(images, tf.float32))
        outputs = self.outputs(
            self.model.frozen(inputs, training=False), tf.shape(inputs)[1:3], area
        )
        mask = tf.argmax(self.prohibited(outputs), axis=-1, output_type=tf.int32)[..., None]
        mask = tf.image.resize(mask, [height, width], method="nearest")[..., 0]
        return {"mask": tf.cast(mask, tf.uint8)} | outputs

    def limited(self, images):
        """The pictures at --pixel_limit pixels at most."""
        images = tf.convert_to_tensor(images)
        height, width = tf.unstack(tf.cast(tf.shape(images)[1:3], tf.float32))
        factor = tf.sqrt(self.pixel_limit / (height * width))
        small = tf.cast(tf.maximum(tf.floor(tf.stack([height, width]) * factor), 1), tf.int32)

        def shrink():
            resized = tf.image.resize(tf.cast(images, tf.float32), small, antialias=True)
            return tf.cast(tf.round(resized), tf.uint8)

        return tf.cond(factor < 1, shrink, lambda: images)

    def outputs(self, features, input_area, area):
        """Features of the frozen part → {"probabilities" at `area`, "scores"}.

        Args:
          features: `[B, h, w, C']`.
          input_area: int `[2]`, the network input's size; align-corners zoom brings cells there.
          area: int `[2]`, the picture's size: warped inputs are resized to it, padded ones cut.
        """
        outputs = self.model.tuned(features, training=False)
        logits = tf.raw_ops.ResizeBilinear(
            images=outputs["logits"], size=input_area, align_corners=True
        )
        if self.model.config.input == "warp":
            logits = tf.image.resize(logits, area)
        else:
            logits = logits[:, : area[0], : area[1]]
        scores = self.model.scores(outputs)
        named = {"probabilities": tf.nn.softmax(logits)}
        return named if scores is None else named | {"scores": scores}

    @tf.function(reduce_retracing=True)
    def from_features(self, features, area):
        """Cached features `[h, w, C']` of one picture of size `area` → the outputs of `segment`."""
        size = [self.model.config.input_size] * 2
        return {k: v[0] for k, v in self.outputs(features[None], size, area).items()}

    def prohibited(self, outputs):
        """The probabilities that decide: after prohibition where there are scores."""
        if "scores" not in outputs:
            return outputs["probabilities"]
        return prohibit(outputs["probabilities"], outputs["scores"], self.p)


@contextlib.contextmanager
def split_outputs(predictor, run_dir, split):
    """Gives `read(shard=None)`, which yields (row, picture uint8 `[H, W, 3]`, outputs) of a shard
    or of all, through the feature cache where the model trains with one; the picture is the one
    the probabilities belong to.
    """
    family = Family(run_dir.family(split, "images"))
    config, cache = predictor.model.config, None
    if config.cache_features:
        fill = datasets.fill_pixel(family)
        for mirrored in (True, False):  # training's cache, if it is still there, serves too
            cache = FeatureCache(run_dir, predictor.model, family, fill, mirrored)
            if cache.directory.exists():
                break
        cache.fill_up()

    def read(shard=None):
        for index, row in enumerate(family.read(shard), sum(family.counts[: shard or 0])):
            image = transforms.decode_image(row["image/encoded"])
            picture = predictor.limited(image[None])[0]
            if cache:
                outputs = predictor.from_features(cache[index, 0], tf.shape(picture)[:2])
            else:
                outputs = predictor.segment(image[None])
                outputs = {k: v[0] for k, v in outputs.items() if k != "mask"}
            yield row, picture.numpy(), outputs

    yield read
    if cache and not run_dir.keep_cache:
        cache.remove()
