"""Copies pixel ground truth to masks, for the supervised ceiling of the same network.

python -m aepsl_tf.phases.supervised_masks --run_dir=RUN
"""

from aepsl_tf import config, config_flags
from aepsl_tf.data import records


def run(settings, run_dir, workers=0):
    """Writes RUN/masks/supervised; see `config.SupervisedMasks`."""
    del workers
    split = settings.train_split

    def work(partial):
        truth = records.Family(run_dir.ground_truth(split, "supervised_masks"))
        records.write_family(partial, "masks", truth.counts, truth.read)

    run_dir.phase(
        "supervised_masks/supervised", settings, [f"write_voc/{split}/ground_truth"],
        run_dir.masks("supervised"), work,
    )  # fmt: skip


if __name__ == "__main__":
    config_flags.run_phase(config.SupervisedMasks, run)
