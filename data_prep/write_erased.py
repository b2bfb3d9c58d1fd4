"""The erased images of step t: I_t = I \\ (F_1 ∪ … ∪ F_{t−1}) (Algorithm 1, line 11).

The original bytes stay, beside them the union of the regions as a one-bit PNG; decoding fills it
with the mean pixel. Nothing is encoded twice.

python -m data_prep.write_erased --run_dir=RUN --step=2
"""

import functools

import numpy as np

from aepsl_tf import config, config_flags
from aepsl_tf.data import encoding, records
from aepsl_tf.errors import InputError
from aepsl_tf.mining import regions


def run(settings, run_dir, workers=0):
    """Writes the erased images of one step ≥ 2; see `config.WriteErased`."""
    step, split = settings.step, settings.train_split
    if step < 2:
        raise InputError(f"--step={step}: the first erased images are those of step 2")
    key = f"write_erased/step_{step}"
    inputs = [f"write_voc/{split}", *(f"mine_regions/step_{s}" for s in range(1, step))]

    def work(partial):
        images = records.Family(run_dir.family(split, "images"))
        families = [images, *regions.families(run_dir, step - 1)]
        rows = functools.partial(records.read_rows, families)
        records.write_family(
            partial, "erased", images.counts, rows, _erased, workers, description=key
        )

    run_dir.phase(key, settings, inputs, run_dir.training_images(split, step), work)


def _erased(rows):
    image, *mined = rows
    nothing = np.zeros([image["image/height"], image["image/width"]], bool)
    union = np.any([nothing, *regions.union(mined)], axis=0)
    return image | {"erased/png": encoding.grey_png(union)}


if __name__ == "__main__":
    config_flags.run_phase(config.WriteErased, run)
