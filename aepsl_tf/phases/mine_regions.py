"""Mines F_t: heatmaps of the tags, thresholded (Algorithm 1, lines 3 to 10).

python -m aepsl_tf.phases.mine_regions --run_dir=RUN --step=1 --threshold=0.2
"""

from aepsl_tf import config, config_flags
from aepsl_tf.data import datasets, encoding, records
from aepsl_tf.data.feature_cache import FeatureCache
from aepsl_tf.mining import erasing
from aepsl_tf.mining.heatmaps import Heatmaps
from aepsl_tf.models import model_dir
from aepsl_tf.training import strategies


def run(settings, run_dir, workers=0):
    """Mines the regions of one erase step; see `config.MineRegions`.

    Several workers (TF_CONFIG) share the shards.
    """
    del workers
    worker, count = strategies.worker(strategies.get(settings.strategy))
    step, split = settings.step, settings.train_split
    key = f"mine_regions/step_{step}"
    inputs = [f"write_voc/{split}", f"train_classifier/step_{step}"]

    def work(partial):
        model_dir.start_over(settings)
        family, fill = datasets.open_training_split(run_dir, split, step)
        model = model_dir.load(run_dir.classifier(step))
        heatmaps = Heatmaps(model)
        cache = None
        if model.config.cache_features:
            cache = FeatureCache(run_dir, model, family, fill).fill_up(worker, count)
            if cache is None:  # the chief needs no help any more
                return

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

        if count > 1:
            records.help_write_family(partial, "regions", family.counts, rows, worker, count)
        if not run_dir.chief:
            return
        records.write_family(partial, "regions", family.counts, rows, description=key)
        if cache and not run_dir.keep_cache:
            cache.remove()

    run_dir.phase(key, settings, inputs, run_dir.regions(step), work, together=True)


if __name__ == "__main__":
    config_flags.run_phase(config.MineRegions, run)
