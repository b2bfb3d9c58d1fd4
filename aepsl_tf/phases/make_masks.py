"""Makes the pseudo masks S = F ∪ B (§3.1).

python -m aepsl_tf.phases.make_masks --run_dir=RUN --merge_steps=3
"""

from aepsl_tf import config, config_flags
from aepsl_tf.data import encoding, records
from aepsl_tf.mining import pseudo_masks, regions


def name_of(steps):
    """The masks' name: which steps are merged."""
    return f"steps_1_to_{steps}"


def run(settings, run_dir, workers=0):
    """Fuses regions and saliency into masks; see `config.MakeMasks`."""
    del workers
    split, steps = settings.train_split, settings.merge_steps
    key = f"make_masks/{name_of(steps)}"
    inputs = [f"write_voc/{split}", f"write_saliency/{split}",
              *(f"mine_regions/step_{s}" for s in range(1, steps + 1))]  # fmt: skip

    def work(partial):
        classes = run_dir.classes()
        saliency = records.Family(run_dir.family(split, "saliency"))

        def rows(shard):
            merged = regions.merged(run_dir, steps, shard)
            for row, (id_, labels, mined) in zip(saliency.read(shard), merged, strict=True):
                records.check_same_id(row["image/id"], id_, saliency.directory)
                low = pseudo_masks.background_threshold(labels, classes, settings)
                values = encoding.read_grey_png(row["saliency/png"]) / 255.0
                mask = pseudo_masks.combine(mined, labels, values, low)
                yield {"image/id": row["image/id"], "mask/png": encoding.grey_png(mask)}

        records.write_family(partial, "masks", saliency.counts, rows, description=key)

    run_dir.phase(key, settings, inputs, run_dir.masks(name_of(steps)), work)


if __name__ == "__main__":
    config_flags.run_phase(config.MakeMasks, run)
