"""The segmenter's own CRF-cleaned output on the training images, as masks for PSL++ (§4.3.2).

python -m aepsl_tf.phases.relabel --run_dir=RUN --model=psl
"""

import functools

import numpy as np

from aepsl_tf import config, config_flags
from aepsl_tf.data import encoding, parallel, records
from aepsl_tf.inference import crf
from aepsl_tf.inference.predictor import Predictor, split_outputs
from aepsl_tf.training import train


def run(settings, run_dir, workers=0):
    """Writes RUN/masks/relabelled; see `config.Relabel`."""
    split = settings.train_split
    inputs = [f"write_voc/{split}", f"train_segmenter/{settings.model}"]

    def work(partial):
        train.start_over()
        model = train.load(run_dir.model(settings.model))
        predictor = Predictor(model, settings.p, settings.pixel_limit)
        images = records.Family(run_dir.family(split, "images"))
        ids = []

        def items():
            for row, picture, outputs in split_outputs(predictor, run_dir, split):
                probabilities = predictor.prohibited(outputs).numpy()
                if settings.relabel_tags_only:
                    absent = np.ones(probabilities.shape[-1], bool)
                    absent[[0, *row["image/labels"]]] = False
                    probabilities[..., absent] = 0
                ids.append((row["image/id"], row["image/height"], row["image/width"]))
                yield picture, probabilities

        clean = functools.partial(crf.clean, crf.settings_of(settings) if settings.crf else None)
        masks = parallel.ordered_map(clean, items(), workers)

        def rows(shard):
            for _ in range(images.counts[shard]):
                plain, cleaned = next(masks)
                id_, height, width = ids.pop(0)
                mask = encoding.resize_mask(plain if cleaned is None else cleaned, height, width)
                yield {"image/id": id_, "mask/png": encoding.grey_png(mask)}

        for shard in partial.glob("*.tfrecord"):  # the stream of images begins at the first
            shard.unlink()
        records.write_family(partial, "masks", images.counts, rows, description="relabel")

    run_dir.phase("relabel/relabelled", settings, inputs, run_dir.masks("relabelled"), work)


if __name__ == "__main__":
    config_flags.run_phase(config.Relabel, run)
