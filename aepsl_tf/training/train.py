"""What both training phases do: data, solver, loop, and a model folder at the end."""

import numpy as np
import tensorflow as tf
from absl import logging
from scipy import special

from aepsl_tf.config import ONE_CLASS
from aepsl_tf.data import datasets, order, records
from aepsl_tf.data.feature_cache import FeatureCache
from aepsl_tf.errors import InputError
from aepsl_tf.models import losses, model_dir
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
    if model.num_classes == 1 and config.label_loss == "softmax" and model.has_scores:
        raise InputError(ONE_CLASS)
    untagged, constant = _check(families, model, worker, workers)
    _refuse_untagged(untagged, families[0], run_dir, model)
    steps = order.steps(images, config.global_batch)
    model.compile(optimizer=solver.build(model, config, steps))
    cache = None
    if config.cache_features:
        cache = FeatureCache(run_dir, model, families[0], fill).fill_up(worker, workers)

    def batches(epoch, position, context):
        return datasets.training_batches(
            families, config, model.num_classes, fill, epoch, position, context, cache
        )

    shown = []
    if run_dir.chief:
        shown = [
            summaries.Progress(key, images, config.global_batch),
            summaries.TensorBoard(run_dir.tensorboard(key), config.global_batch, pictures),
        ]
    try:
        history = loop.fit(
            model, batches, images, config, partial / "checkpoints", [*callbacks, *shown]
        )
    finally:  # whatever ended it
        for callback in shown:
            callback.close()
    if run_dir.chief:
        model_dir.save(model, history, partial)
    falling = still_falling(history)
    if falling:
        logging.info("%s: the loss still falls: a longer training (--epochs) may do better", key)
    if model.has_scores and (ended := label_loss(history)) >= constant > 0:
        logging.warning("%s: the scores tell no more than how frequent each tag is (label loss "
                        "%.3f, by frequencies alone %.3f)", key, ended, constant)  # fmt: skip
    return {"last_epoch": history[-1], "still_falling": falling}


def still_falling(history):
    """Whether the loss made more than `_FLAT` of its way in the last fifth of the epochs.

    Args:
      history: mean logs an epoch. J(f, Ŝ), which may join late, is left out.
    """
    losses = [logs["loss"] - logs.get("j_hat", 0.0) for logs in history]
    last = losses[-1 - max(len(losses) // 5, 1) :]
    return last[0] - last[-1] > _FLAT * abs(losses[0] - losses[-1])


def label_loss(history):
    """The label loss of the last epoch."""
    return history[-1].get("label", history[-1]["loss"])  # a classifier has no other


def constant_loss(tags, num_classes, reading):
    """The least label loss of scores that are the same for every image: how frequent each tag is,
    or, for the softmax reading, its mean share.

    Args:
      tags: an iterable of each image's class ids, 1 to C.
      num_classes: C.
      reading: --label_loss.

    Returns:
      The variance of the targets, or their entropy in nats, summed over classes; 0 where all
      images' tags are alike, or where there are none.
    """
    images, sums, squares = 0, np.zeros(num_classes), np.zeros(num_classes)
    for own in tags:
        target = losses.target_of_each(len(own), reading) if own else 0.0
        classes = np.array(own, int) - 1
        sums[classes] += target
        squares[classes] += target**2
        images += 1
    mean = sums / max(images, 1)
    if reading == "cross_entropy":
        loss = -np.sum(special.xlogy(mean, mean) + special.xlogy(1 - mean, 1 - mean))
    else:
        loss = np.sum(squares / max(images, 1) - mean**2)
    return float(loss) if loss > 1e-9 else 0.0  # below is rounding


def _check(families, model, worker, workers):
    """Reads the shards once, shared among the workers, before hours go into a training.

    Returns:
      (the ids of images without a tag, `constant_loss` of the images that this worker read).

    Raises:
      InputError: a file is damaged, or a record of another image.
    """
    untagged = []

    def tags():
        for shard in range(worker, len(families[0].counts), workers):
            for row in records.read_zipped(families, shard):
                if not row["image/labels"]:
                    untagged.append(row["image/id"])
                yield row["image/labels"]

    constant = constant_loss(tags(), model.num_classes, model.config.label_loss)
    return untagged, constant


def _refuse_untagged(ids, family, run_dir, model):
    """Refuses images without a tag, unless they were written as negatives and can be learned."""
    if not ids:
        return
    config = model.config
    facts = records.Family(run_dir.family(config.train_split, "images")).facts or {}
    told = f"{family.directory}: {len(ids)} images have no tag, the first is {ids[0]}"
    if facts.get("untagged") != "negative":
        raise InputError(
            f"{told}: training needs one at least; give --labels_csv, take the images out with "
            "--ids_file, or write them with --untagged=negative or drop"
        )
    if config.label_loss == "softmax" and model.has_scores:
        raise InputError(
            f"{told}: --label_loss={config.label_loss} cannot learn from them; give "
            "--label_loss=sigmoid or cross_entropy, or write them with --untagged=drop"
        )
