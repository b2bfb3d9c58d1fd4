"""Mines F_t: heatmaps of the tags, thresholded (Algorithm 1, lines 3 to 10).

python -m aepsl_tf.phases.mine_regions --run_dir=RUN --step=1 --threshold=0.2
"""

import numpy as np
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
        from aepsl_tf.mining import heatmaps, regions
        from aepsl_tf.models import model_dir
        from aepsl_tf.training import strategies

        worker, count = strategies.worker(strategies.get(settings.strategy))
        model_dir.start_over(settings)
        family, fill = datasets.open_training_split(run_dir, split, step)
        model = model_dir.load(run_dir.classifier(step))
        reader = Reader(model, heatmaps.cells(model), settings.pixel_limit)

        def concluded():
            return not partial.exists()

        with over_split(reader, run_dir, family, fill, worker, count, concluded) as read:

            def rows(shard):
                for row, picture, outputs in read(shard):
                    labels, v = row["image/labels"], outputs["scores"]
                    maps = heatmaps.at_size(
                        outputs["heatmaps"], labels, picture.shape[:2], model.config
                    )
                    yield {
                        "image/id": row["image/id"],
                        "image/labels": labels,
                        "regions/pngs": [region(row, heatmap) for heatmap in maps],
                        "regions/scores": [thousandths(v[c - 1]) for c in labels],
                    }

            def thousandths(score):
                return round(1000 * float(np.nan_to_num(score)))  # NaN where float16 overflowed

            def region(row, heatmap):
                found = erasing.discriminative_region(heatmap, threshold, settings.threshold_rule)
                found = encoding.resize_mask(found, row["image/height"], row["image/width"])
                return encoding.grey_png(found)

            if count > 1:
                records.help_write_family(partial, "regions", family.counts, rows, worker, count)
            if not run_dir.chief:
                return None
            records.write_family(partial, "regions", family.counts, rows, description=key)
        names, loss = run_dir.classes().all_names(), model.config.label_loss
        lost = regions.lost(records.Family(partial).read(), loss)
        advice = ["train longer (--classifier_epochs)", "at another --learning_rate"]
        advice += ["with --label_loss=cross_entropy"] * (loss != "cross_entropy")
        advice += ["mine fewer steps, if little of it is left"] * (step > 1)
        for c, (score, blind) in lost.items():
            logging.warning(
                "%s: M_%d does not know %s: its score of the pictures with that tag is %.2f on "
                "average, where one that sees nothing has %.2f. What is mined of it means little: "
                "%s", key, step, names[c], score, blind, ", or ".join(advice),
            )  # fmt: skip
        return {"lost": [names[c] for c in lost]}

    run_dir.phase(key, settings, inputs, run_dir.regions(step), work, together=True)


if __name__ == "__main__":
    config_flags.run_phase(config.MineRegions, run)
