"""Saliency maps of the training images, for background cues (§3.1).

python -m data_prep.write_saliency --run_dir=RUN
"""

import functools

import numpy as np

from aepsl_tf import config, config_flags
from aepsl_tf.data import encoding, records
from data_prep.saliency import methods


def run(settings, run_dir, workers=0):
    """Writes one map an image, 8 bits, stretched to 0..1; see `config.WriteSaliency`."""
    split = settings.train_split
    key = f"write_saliency/{split}"

    def work(partial):
        images = records.Family(run_dir.family(split, "images"))
        make = functools.partial(_row, methods.build(
            settings.method, drfi_model=settings.drfi_model, onnx_model=settings.onnx_model,
            maps_dir=settings.maps_dir,
        ))  # fmt: skip
        records.write_family(
            partial, "saliency", images.counts, images.read, make, workers, description=key
        )

    target = run_dir.family(split, "saliency")
    run_dir.phase(key, settings, [f"write_voc/{split}"], target, work)


def _row(method, row):
    values = method(row["image/id"], encoding.rgb_pixels(row["image/encoded"]))
    png = encoding.grey_png(np.round(values * 255).astype(np.uint8))
    return {"image/id": row["image/id"], "saliency/png": png}


if __name__ == "__main__":
    config_flags.run_phase(config.WriteSaliency, run)
