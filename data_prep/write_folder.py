"""A folder of pictures → the same TFRecords as a devkit.

python -m data_prep.write_folder --run_dir=RUN --images_dir=photos --labels_csv=tags.csv \
  --val_share=0.2

Tags come from a CSV file with columns image,labels, or from one sub-folder per class. Both splits
are written: --val_share of the pictures, by a digest of their names, is for validation. The
pipeline does the same with these flags in place of --voc_root.
"""

import dataclasses

from aepsl_tf import config, config_flags
from aepsl_tf.errors import InputError
from data_prep import inspect, sources, write_voc


def run(settings, run_dir, workers=0):
    """Writes the splits of a folder that hold a picture; see `config.WriteVoc`."""
    if not settings.images_dir:
        raise InputError("--images_dir is empty: name a folder of pictures")
    for split in (settings.train_split, settings.val_split):
        own = dataclasses.replace(settings, split=split)
        if split != settings.train_split:
            own = dataclasses.replace(own, ids_file="")
        if split == settings.train_split or sources.of(own).ids:
            write_voc.run(own, run_dir, workers)


def run_and_look(settings, run_dir, workers=0):
    """The command: `run`, and of what it wrote a first look (`inspect`)."""
    before = run_dir.entry(f"write_voc/{settings.train_split}")
    run(settings, run_dir, workers)
    if not before:
        inspect.look(settings, run_dir, workers)


if __name__ == "__main__":
    config_flags.run_phase(config.WriteVoc, run_and_look)
