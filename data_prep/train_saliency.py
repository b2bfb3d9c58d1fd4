"""Trains DRFI, the learned saliency that `write_saliency --method=drfi` computes.

python -m data_prep.train_saliency --object_images=IMAGES --object_masks=MASKS --drfi_model=MY.npz

Reads a folder of pictures and one of object masks, and nothing of a run: what the project trains
its segmenters on and measures them with stays unseen.
"""

import dataclasses
import datetime
import functools
import hashlib
import importlib.metadata
import pathlib
import shlex
import sys

from absl import logging

from aepsl_tf import config, config_flags
from aepsl_tf.data import runners
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation import tables
from aepsl_tf.files import digest, to_json, write_atomic


def run(settings, workers=0):
    """Writes the model and, beside it, its provenance and what it reaches on the held-out part."""
    from data_prep.saliency import training

    target = pathlib.Path(settings.drfi_model)
    if target.suffix != ".npz":
        raise InputError(f"--drfi_model={settings.drfi_model}: name the file to write, NAME.npz")
    workers = runners.worker_count(workers)
    object_ids = _ids(settings.object_ids)
    pairs = training.find(settings)
    kept = [p for p in pairs if not training.is_held_out(p[0].stem, settings.held_out)]
    held = [p for p in pairs if training.is_held_out(p[0].stem, settings.held_out)]
    work = functools.partial(training.prepare, object_ids, settings.void_id)
    examples = [e for e in runners.ordered_map(work, kept, workers) if e is not None]
    logging.info("%d of %d pictures hold an object", len(examples), len(kept))
    model, regions = training.train(examples, settings, workers)

    target.parent.mkdir(parents=True, exist_ok=True)
    model.save(target)
    results = training.measure(target, held, object_ids, settings.void_id, workers)
    tables.show_saliency(results)
    libraries = ("numpy", "scipy", "scikit-learn", "opencv-contrib-python-headless", "pillow")
    provenance = {
        "model_sha256": hashlib.sha256(target.read_bytes()).hexdigest(),
        "data": settings.data_note,
        "images_sha256": digest(settings.object_images),
        "masks_sha256": digest(settings.object_masks),
        "pictures": {
            "trained_with": len(examples),
            "without_object": len(kept) - len(examples),
            "held_out": len(held),
        },
        "regions": regions,
        "level_weights": model.weights.tolist(),
        "sharpening": {"slope": model.slope, "middle": model.middle},
        "held_out": results,
        "settings": dataclasses.asdict(settings),
        "command": shlex.join(["python", "-m", "data_prep.train_saliency", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "libraries": {name: importlib.metadata.version(name) for name in libraries},
    }
    write_atomic(target.with_suffix(".json"), to_json(provenance))
    return results


def _ids(text):
    try:
        ids = [int(part) for part in text.split(",") if part]
    except ValueError:
        ids = [-1]
    if not all(0 <= id_ <= 255 for id_ in ids):
        raise InputError(f"--object_ids={text!r}: expected 0 to 255 by commas, such as 4,5,6")
    return ids


def main(argv):
    del argv
    run(config_flags.read(config.TrainSaliency), config_flags.workers())


if __name__ == "__main__":
    config_flags.run_app(main, config.TrainSaliency)
