"""Mines F_t: heatmaps of the tags, thresholded (Algorithm 1, lines 3 to 10).

python -m aepsl_tf.phases.mine_regions --run_dir=RUN --step=1 --threshold=0.2
"""

import collections

from absl import logging

from aepsl_tf import config, config_flags
from aepsl_tf.data import encoding, records
from aepsl_tf.mining import erasing


def run(settings, run_dir, workers=0):
    """Mines the regions of one erase step; see `config.MineRegions`.

    Several workers (TF_CONFIG) share the shards.
    """
    del workers
    step, split = settings.step, settings.train_split
    key = f"mine_regions/step_{step}"
    inputs = [f"write_voc/{split}", f"train_classifier/step_{step}"]
    threshold = settings.threshold
    if threshold == "auto":
        inputs.append(f"choose_threshold/step_{step}")
        threshold = run_dir.need(inputs[-1], key)["facts"]["threshold"]

    def work(partial):
        from aepsl_tf.data import datasets
        from aepsl_tf.inference.over_split import Reader, over_split
        from aepsl_tf.mining import heatmaps
        from aepsl_tf.models import model_dir
        from aepsl_tf.training import strategies

        worker, count = strategies.worker(strategies.get(settings.strategy))
        model_dir.start_over(settings)
        family, fill = datasets.open_training_split(run_dir, split, step)
        model = model_dir.load(run_dir.classifier(step))
        reader = Reader(model, heatmaps.cells(model), settings.pixel_limit)
        scores = OwnScores()

        def concluded():
            return not partial.exists()

        with over_split(reader, run_dir, family, fill, worker, count, concluded) as read:

            def rows(shard):
                for row, picture, outputs in read(shard):
                    scores.add(row["image/labels"], outputs["scores"])
                    maps = heatmaps.at_size(
                        outputs["heatmaps"], row["image/labels"], picture.shape[:2], model.config
                    )
                    yield {
                        "image/id": row["image/id"],
                        "image/labels": row["image/labels"],
                        "regions/pngs": [region(row, heatmap) for heatmap in maps],
                    }

            def region(row, heatmap):
                found = erasing.discriminative_region(heatmap, threshold, settings.threshold_rule)
                found = encoding.resize_mask(found, row["image/height"], row["image/width"])
                return encoding.grey_png(found)

            if count > 1:
                records.help_write_family(partial, "regions", family.counts, rows, worker, count)
            if run_dir.chief:
                records.write_family(partial, "regions", family.counts, rows, description=key)
        names = run_dir.classes().all_names()
        for c, score, share in scores.lost():
            logging.warning(
                "%s: M_%d does not know %s: its score of the pictures with that tag is %.2f on "
                "average, and %.2f of all have it. What is mined of it means little: train longer "
                "(--classifier_epochs), at another --learning_rate, or with "
                "--label_loss=cross_entropy", key, step, names[c], score, share,
            )  # fmt: skip

    run_dir.phase(key, settings, inputs, run_dir.regions(step), work, together=True)


class OwnScores:
    """What a classifier says of the pictures' own tags: of those that this process has mined."""

    def __init__(self):
        self._pictures, self._scores = 0, collections.defaultdict(list)

    def add(self, labels, scores):
        """Args: labels: class ids of a picture; scores: v `[C]`."""
        self._pictures += 1
        for c in labels:
            self._scores[c].append(float(scores[c - 1]))

    def lost(self):
        """Yields (class id, mean score of the pictures that have it, their share of all) where the
        score is below half of that share, which who knows nothing of a picture would give.
        """
        for c, scores in sorted(self._scores.items()):
            score, share = sum(scores) / len(scores), len(scores) / self._pictures
            if score < share / 2:
                yield c, score, share


if __name__ == "__main__":
    config_flags.run_phase(config.MineRegions, run)
