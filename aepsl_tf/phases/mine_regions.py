"""Mines F_t: heatmaps of the tags, thresholded (Algorithm 1, lines 3 to 10).

python -m aepsl_tf.phases.mine_regions --run_dir=RUN --step=1 --threshold=0.2
"""

import tensorflow as tf

from aepsl_tf import config, config_flags
from aepsl_tf.data import datasets, encoding, records, transforms
from aepsl_tf.mining import cam, erasing
from aepsl_tf.training import train
from aepsl_tf.training.feature_cache import FeatureCache


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
            padded = _pad(tf.cast(image, tf.float32))
            features = self._frozen(padded[None])[0]
            area = padded.shape[:2]
        fc7, _ = self._tuned(features[None])
        maps = cam.class_activation_map(fc7, self.model.class_weights())[0]
        return [cam.upsample(maps[..., c - 1], *area).numpy()[:height, :width] for c in labels]


def _pad(image):
    """Pads below and to the right with the input mean to 8k+1 pixels a side."""
    bottom, right = (-(image.shape[0] - 1)) % 8, (-(image.shape[1] - 1)) % 8
    image = tf.pad(image - transforms.INPUT_MEAN, [[0, bottom], [0, right], [0, 0]])
    return image + transforms.INPUT_MEAN


def run(settings, run_dir, workers=0):
    """Mines the regions of one erase step; see `config.MineRegions`."""
    del workers
    step, split = settings.step, settings.train_split
    key = f"mine_regions/step_{step}"
    inputs = [f"write_voc/{split}", f"train_classifier/step_{step}"]

    def work(partial):
        train.start_over()
        family, fill = train.open_training_split(run_dir, split, step)
        model = train.load(run_dir.classifier(step))
        heatmaps = Heatmaps(model)
        cache = None
        if model.config.cache_features:
            cache = FeatureCache(run_dir.cache, model, family, fill).fill_up()

        def rows(shard):
            start = sum(family.counts[:shard])
            for index, row in enumerate(family.read(shard), start):
                image = datasets.picture(row, fill).numpy()
                features = cache[index, 0] if cache else None
                maps = heatmaps.of(image, row["image/labels"], features)
                regions = [
                    erasing.discriminative_region(m, settings.threshold, settings.threshold_rule)
                    for m in maps
                ]
                yield {
                    "image/id": row["image/id"],
                    "image/labels": row["image/labels"],
                    "regions/pngs": [encoding.grey_png(region) for region in regions],
                }

        records.write_family(partial, "regions", family.counts, rows, description=key)
        if cache and not run_dir.keep_cache:
            cache.remove()

    run_dir.phase(key, settings, inputs, run_dir.regions(step), work)


if __name__ == "__main__":
    config_flags.run_phase(config.MineRegions, run)
