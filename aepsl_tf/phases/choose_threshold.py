"""Measures how well the regions of a step would meet the salient area, and chooses δ by that.

python -m aepsl_tf.phases.choose_threshold --run_dir=RUN --step=1 --threshold=auto

Tags and saliency decide; no ground truth is read. `mine_regions --threshold=auto` takes the δ.
"""

import numpy as np

from aepsl_tf import config, config_flags
from aepsl_tf.data import encoding, records
from aepsl_tf.evaluation import tables
from aepsl_tf.files import sealed, write_atomic
from aepsl_tf.mining import agreement, erasing, pseudo_masks, regions
from aepsl_tf.progress import progress


def run(settings, run_dir, workers=0):
    """Writes RUN/step_t/threshold.json: `agreement.Agreement.results` of the steps up to t.

    With a number as --threshold it is of this δ alone. See `config.ChooseThreshold`.
    """
    del workers
    step, split = settings.step, settings.train_split
    key = f"choose_threshold/step_{step}"
    inputs = [f"write_voc/{split}", f"write_saliency/{split}", f"train_classifier/step_{step}",
              *(f"mine_regions/step_{s}" for s in range(1, step))]  # fmt: skip
    thresholds = agreement.CANDIDATES if settings.threshold == "auto" else (settings.threshold,)

    def work(partial):
        from aepsl_tf.data import datasets
        from aepsl_tf.inference.over_split import Reader, over_split
        from aepsl_tf.mining import heatmaps
        from aepsl_tf.models import model_dir

        model_dir.start_over(settings)
        family, fill = datasets.open_training_split(run_dir, split, step)
        model, classes = model_dir.load(run_dir.classifier(step)), run_dir.classes()
        reader = Reader(model, heatmaps.cells(model), settings.pixel_limit)
        measured = agreement.Agreement(thresholds)
        saliency = records.Family(run_dir.family(split, "saliency"))
        known = records.read_rows([saliency, *regions.families(run_dir, step - 1)])
        with (
            over_split(reader, run_dir, family, fill) as read,
            progress(family.images, f"δ of step {step}") as bar,
        ):
            for (row, picture, outputs), (saliency, *before) in zip(read(), known, strict=True):
                bar.update()
                labels = row["image/labels"]
                if not labels:  # nothing is mined in a negative, whatever is salient there
                    continue
                maps = heatmaps.at_size(
                    outputs["heatmaps"], labels, picture.shape[:2], model.config
                )
                low = pseudo_masks.background_threshold(labels, classes, settings)
                salient = encoding.read_grey_png(saliency["saliency/png"]) / 255.0 >= low
                mined = np.any([np.zeros(salient.shape, bool), *regions.union(before)], axis=0)
                measured.add(
                    [mined | region(maps, threshold, salient.shape) for threshold in thresholds],
                    salient,
                )
        results = measured.results()
        tables.show(
            ["δ", "IoU of regions and salient area"],
            [[δ, f"{share:.3f}"] for δ, share in results["by_threshold"].items()],
        )
        write_atomic(partial, sealed(results))
        return results

    def region(maps, threshold, size):
        found = np.zeros(maps.shape[1:], bool)
        for heatmap in maps:
            found |= erasing.discriminative_region(heatmap, threshold, settings.threshold_rule)
        return encoding.resize_mask(found, *size)

    return run_dir.phase(key, settings, inputs, run_dir.threshold(step), work)


if __name__ == "__main__":
    config_flags.run_phase(config.ChooseThreshold, run)
