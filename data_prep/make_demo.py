"""Draws the demo set: a small PASCAL-VOC-like devkit of painted animals (`data_prep/demo`)."""

import logging
import os
import pathlib
import shutil

from aepsl_tf import config, config_flags
from aepsl_tf.errors import InputError


def run(settings) -> pathlib.Path:
    """Writes the devkit to `settings.demo_root`, unless it is there already.

    Args:
      settings: `config.MakeDemo`, or anything with its fields.

    Returns:
      The devkit's folder.
    """
    from data_prep.demo import devkit

    if not settings.demo_root:
        raise InputError("--demo_root: name a folder to write the demo set to")
    root = pathlib.Path(settings.demo_root)
    if devkit.is_there(root, settings):
        logging.info("%s: already there", root)
        return root
    # Written aside and renamed when whole: a folder of that name is never half a devkit.
    partial = root.with_name(root.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    devkit.write(partial, settings)
    os.replace(partial, root)
    logging.info("%s: drew %d + %d scenes", root, settings.demo_train, settings.demo_val)
    return root


def main(argv):
    del argv
    run(config_flags.read(config.MakeDemo))


if __name__ == "__main__":
    config_flags.run_app(main, config.MakeDemo)
