"""What both training phases do: data, solver, loop, and a model folder at the end.

A model folder holds `settings.json` (its config and class count), `history.json` (mean losses an
epoch), `tuned.weights.h5` and, where layers are frozen, `frozen.weights.h5`.
"""

import json
import shutil

import keras
import numpy as np
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf.data import datasets, records, transforms
from aepsl_tf.errors import InputError
from aepsl_tf.models.classifier import Classifier
from aepsl_tf.models.segmenter import Segmenter
from aepsl_tf.run_dir import to_json, write_atomic
from aepsl_tf.training import loop, solver, strategies, summaries
from aepsl_tf.training.feature_cache import FeatureCache

_KINDS = {
    "classifier": (Classifier, configs.TrainClassifier),
    "segmenter": (Segmenter, configs.TrainSegmenter),
}


def train(model, families, fill, run_dir, key, partial, callbacks=(), pictures=None):
    """Trains a model on a split and saves it into the folder `partial`.

    Args:
      model: a fresh `Classifier` or `Segmenter` with its start weights.
      families: the images (or erased) family and, for the segmenter, the masks family.
      fill: mean pixel of the training split.
      pictures: for TensorBoard; `pictures(model) -> {name: uint8 [H, W, 3]}`.

    Returns:
      Facts for the manifest: the losses of the last epoch.
    """
    config, images = model.config, families[0].images
    labels = _labels(families[0], model.num_classes)
    steps = -(-images // config.global_batch)
    model.compile(optimizer=solver.build(model, config, steps))
    cache = None
    if config.cache_features:
        cache = FeatureCache(run_dir, model, families[0], fill)
        cache.fill_up(*strategies.worker(tf.distribute.get_strategy()))
        masks = _warped_masks(families[1], config.input_size) if len(families) > 1 else None

        def batches(epoch, position, context):
            return cache.batches(labels, masks, config, epoch, position, context)
    else:

        def batches(epoch, position, context):
            return datasets.training_batches(
                families, config, model.num_classes, fill, epoch, position, context
            )

    callbacks = list(callbacks)
    if run_dir.chief:
        draw = (lambda: pictures(model)) if pictures else None
        callbacks += [
            summaries.Progress(key, images, config.global_batch),
            summaries.TensorBoard(run_dir.tensorboard(key), config.global_batch, draw),
        ]
    history = loop.fit(model, batches, images, config, partial / "checkpoints", callbacks)
    if run_dir.chief:
        save(model, history, partial)
        if cache and not run_dir.keep_cache:
            cache.remove()
    return {"last_epoch": history[-1]}


def _labels(family, num_classes):
    labels = np.zeros([family.images, num_classes], np.float32)
    for index, row in enumerate(family.read()):
        if not row["image/labels"]:
            raise InputError(
                f"{family.directory}: image {row['image/id']} has no tag: training needs one at "
                "least; give --labels_csv, or take the image out with --ids_file"
            )
        labels[index, np.array(row["image/labels"]) - 1] = 1
    return labels


def _warped_masks(family, size):
    return np.stack([
        transforms.warp_mask(transforms.decode_mask(row["mask/png"]), size).numpy()
        for row in family.read()
    ])  # fmt: skip


def save(model, history, folder):
    """Writes the model folder; checkpoints have done their work."""
    kind = model.name
    model.tuned.save_weights(folder / "tuned.weights.h5")
    if model.frozen.weights:
        model.frozen.save_weights(folder / "frozen.weights.h5")
    settings = {"kind": kind, "num_classes": model.num_classes, "config": model.config.identity()}
    write_atomic(folder / "settings.json", to_json(settings))
    write_atomic(folder / "history.json", to_json(history))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def load(folder):
    """The model in a folder that `save` wrote."""
    try:
        settings = json.loads((folder / "settings.json").read_text())
    except FileNotFoundError:
        raise InputError(f"{folder} holds no trained model: train it first") from None
    build, config = _KINDS[settings["kind"]]
    model = build(config(**settings["config"]), settings["num_classes"])
    load_weights(model, folder)
    return model


def load_weights(model, folder):
    """Fills a model from a model folder of the same shape; layers that differ are an error."""
    try:
        model.tuned.load_weights(folder / "tuned.weights.h5")
        if model.frozen.weights:
            model.frozen.load_weights(folder / "frozen.weights.h5")
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"{folder}: its weights do not fit this network ({first})") from error


def start_over():
    """Frees Keras's global state between the phases of one process."""
    keras.backend.clear_session()


def open_training_split(run_dir, split, step):
    """(family M_step is trained on, mean pixel to fill erased regions with)."""
    images = records.Family(run_dir.family(split, "images"))
    fill = datasets.fill_pixel(images)
    family = images if step == 1 else records.Family(run_dir.training_images(split, step))
    return family, fill
