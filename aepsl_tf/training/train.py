"""What both training phases do: data, solver, loop, and a model folder at the end."""

import tensorflow as tf
from absl import logging

from aepsl_tf.data import datasets, order, records
from aepsl_tf.data.feature_cache import FeatureCache
from aepsl_tf.errors import InputError
from aepsl_tf.models import model_dir
from aepsl_tf.training import loop, solver, strategies, summaries

_FLAT = 0.05
"""An even fall would make .2 of its way there."""


def train(model, families, fill, run_dir, key, partial, callbacks=(), pictures=None):
    """Trains a model on a split and saves it into the folder `partial`.

    Args:
      model: a fresh `Classifier` or `Segmenter` with its start weights.
      families: the images (or erased) family and, for the segmenter, the masks family.
      fill: mean pixel of the training split.
      pictures: for TensorBoard; `pictures() -> {name: uint8 [H, W, 3]}`.

    Returns:
      Facts for the manifest: "last_epoch", its mean logs, and "still_falling", whether the loss was
      not flat yet.
    """
    config, images = model.config, families[0].images
    worker, workers = strategies.worker(tf.distribute.get_strategy())
    _check(families, worker, workers)
    steps = order.steps(images, config.global_batch)
    model.compile(optimizer=solver.build(model, config, steps))
    cache = None
    if config.cache_features:
        cache = FeatureCache(run_dir, model, families[0], fill).fill_up(worker, workers)

    def batches(epoch, position, context):
        return datasets.training_batches(
            families, config, model.num_classes, fill, epoch, position, context, cache
        )

    callbacks = list(callbacks)
    if run_dir.chief:
        callbacks += [
            summaries.Progress(key, images, config.global_batch),
            summaries.TensorBoard(run_dir.tensorboard(key), config.global_batch, pictures),
        ]
    history = loop.fit(model, batches, images, config, partial / "checkpoints", callbacks)
    if run_dir.chief:
        model_dir.save(model, history, partial)
    falling = still_falling(history)
    if falling:
        logging.info("%s: the loss still falls: a longer training (--epochs) may do better", key)
    return {"last_epoch": history[-1], "still_falling": falling}


def still_falling(history):
    """Whether the loss made more than `_FLAT` of its way in the last fifth of the epochs.

    Args:
      history: mean logs an epoch. J(f, Ŝ), which may join late, is left out.
    """
    losses = [logs["loss"] - logs.get("j_hat", 0.0) for logs in history]
    last = losses[-1 - max(len(losses) // 5, 1) :]
    return last[0] - last[-1] > _FLAT * (losses[0] - losses[-1])


def _check(families, worker, workers):
    """Reads the shards once, shared among the workers, before hours go into a training.

    Raises:
      InputError: a file is damaged, a record of another image, or an image without a tag.
    """
    family = families[0]
    for shard in range(worker, len(family.counts), workers):
        for row in records.read_zipped(families, shard):
            if not row["image/labels"]:
                raise InputError(
                    f"{family.directory}: image {row['image/id']} has no tag: training needs one "
                    "at least; give --labels_csv, or take the image out with --ids_file"
                )
