"""Makes the pseudo masks S = F ∪ B (§3.1).

python -m aepsl_tf.phases.make_masks --run_dir=RUN --merge_steps=3
"""

import functools

from aepsl_tf import config, config_flags
from aepsl_tf.data import encoding, records
from aepsl_tf.errors import InputError
from aepsl_tf.mining import pseudo_masks, regions


def name_of(steps):
    """The masks' name: which steps are merged.

    Raises:
      InputError: "auto", which is a number only where all steps are known.
    """
    if steps == "auto":
        raise InputError("--merge_steps=auto: only the pipeline chooses it; give a number")
    return f"steps_1_to_{steps}"


def run(settings, run_dir, workers=0):
    """Fuses regions and saliency into masks; see `config.MakeMasks`."""
    split, steps = settings.train_split, settings.merge_steps
    key = f"make_masks/{name_of(steps)}"
    inputs = [f"write_voc/{split}", f"write_saliency/{split}",
              *(f"mine_regions/step_{s}" for s in range(1, steps + 1))]  # fmt: skip

    def work(partial):
        saliency = records.Family(run_dir.family(split, "saliency"))
        families = [saliency, *regions.families(run_dir, steps)]
        records.write_family(
            partial, "masks", saliency.counts, functools.partial(records.read_rows, families),
            functools.partial(_mask, run_dir.classes(), settings), workers, description=key,
        )  # fmt: skip

    run_dir.phase(key, settings, inputs, run_dir.masks(name_of(steps)), work)


def _mask(classes, settings, rows):
    saliency, *mined = rows
    labels = mined[0]["image/labels"]
    low = pseudo_masks.background_threshold(labels, classes, settings)
    values = encoding.read_grey_png(saliency["saliency/png"]) / 255.0
    mask = pseudo_masks.combine(regions.union(mined), labels, values, low)
    return {"image/id": saliency["image/id"], "mask/png": encoding.grey_png(mask)}


if __name__ == "__main__":
    config_flags.run_phase(config.MakeMasks, run)
