"""The segmenter's own CRF-cleaned output on the training images, as masks for PSL++ (§4.3.2).

python -m aepsl_tf.phases.relabel --run_dir=RUN --model=psl
"""

import functools
import re

import numpy as np

from aepsl_tf import config, config_flags
from aepsl_tf.classes import BACKGROUND
from aepsl_tf.data import records
from aepsl_tf.errors import InputError


def run(settings, run_dir, workers=0):
    """Writes RUN/masks/RELABELLED; see `config.Relabel`."""
    if not re.fullmatch(r"relabelled\w*", settings.relabelled, re.ASCII):
        raise InputError(
            f"--relabelled={settings.relabelled}: expected relabelled, and letters, digits or _"
        )
    split = settings.train_split
    inputs = [f"write_voc/{split}", f"train_segmenter/{settings.model}"]

    def work(partial):
        from aepsl_tf.data import datasets
        from aepsl_tf.inference import cells, crf
        from aepsl_tf.inference.over_split import BATCH, Reader, over_split
        from aepsl_tf.inference.predictor import Predictor, views_of
        from aepsl_tf.models import model_dir

        model_dir.start_over(settings)
        model = model_dir.load(run_dir.model(settings.model))
        views = views_of(settings.relabel_multi_scale, settings.relabel_flip)
        predictor = Predictor(model, settings, views)
        batch = BATCH if predictor.is_plain else 1  # views of many sizes would wait for each other
        reader = Reader(model, model.cells, settings.pixel_limit, batch, views=views)
        images = records.Family(run_dir.family(split, "images"))
        wanted = settings.crf and settings.relabel_crf
        preset = crf.settings_of(settings) if wanted else None
        with over_split(reader, run_dir, images, datasets.fill_pixel(images)) as read:

            def items(shard):
                for row, picture, outputs in read(shard):
                    weights = predictor.weights(*outputs)
                    logits = [seen["logits"] for seen in outputs]
                    own = [BACKGROUND, *row["image/labels"]]
                    outside = np.setdiff1d(np.arange(weights.size), own)
                    if settings.relabel_outside == "next":
                        weights = np.array(weights)
                        weights[outside] = 0
                    size = row["image/height"], row["image/width"]
                    if preset is None and predictor.is_plain:
                        mask = predictor.mask(*logits, weights, size).numpy()
                    else:
                        mask = predictor.to_worker(picture, weights, *logits)
                    void = outside if settings.relabel_outside == "void" else ()
                    yield row["image/id"], size, mask, void

            # The network stays in this process whoever runs the CRF: it has the GPU, and floats
            # of another machine could differ in the last bit. So Beam gets its output staged.
            records.write_family(
                partial, "masks", images.counts, items, functools.partial(cells.mask_row, preset),
                workers, staged=True, description="relabel",
            )  # fmt: skip

    name = settings.relabelled
    run_dir.phase(f"relabel/{name}", settings, inputs, run_dir.masks(name), work)


if __name__ == "__main__":
    config_flags.run_phase(config.Relabel, run)
