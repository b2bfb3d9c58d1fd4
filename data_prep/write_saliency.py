"""Saliency maps of the training images, for background cues (§3.1).

python -m data_prep.write_saliency --run_dir=RUN
"""

import functools

import numpy as np

from aepsl_tf import config, config_flags
from aepsl_tf.data import encoding, parallel, records, transforms
from data_prep.saliency import methods


def run(settings, run_dir, workers=0):
    """Writes one map an image, 8 bits, stretched to 0..1; see `config.WriteSaliency`."""
    split = settings.train_split
    key = f"write_saliency/{split}"

    def work(partial):
        images = records.Family(run_dir.family(split, "images"))
        compute = functools.partial(_map, methods.build(
            settings.method, drfi_model=settings.drfi_model, onnx_model=settings.onnx_model,
            maps_dir=settings.maps_dir,
        ))  # fmt: skip

        def rows(shard):
            items = (
                (row["image/id"], transforms.decode_image(row["image/encoded"]).numpy())
                for row in images.read(shard)
            )
            for id_, png in parallel.ordered_map(compute, items, workers):
                yield {"image/id": id_, "saliency/png": png}

        records.write_family(partial, "saliency", images.counts, rows, description=key)

    target = run_dir.family(split, "saliency")
    run_dir.phase(key, settings, [f"write_voc/{split}"], target, work)


def _map(method, item):
    id_, image = item
    return id_, encoding.grey_png(np.round(method(id_, image) * 255).astype(np.uint8))


if __name__ == "__main__":
    config_flags.run_phase(config.WriteSaliency, run)
