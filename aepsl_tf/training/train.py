"""What both training phases do: data, solver, loop, and a model folder at the end."""

import tensorflow as tf
from absl import logging

from aepsl_tf.config import ONE_CLASS
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
    if model.num_classes == 1 and config.label_loss == "softmax" and model.has_scores:
        raise InputError(ONE_CLASS)
    untagged = _check(families, worker, workers)
    _refuse_untagged(untagged, families[0], run_dir, config)
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
    if risen := rise(history):
        logging.warning("%s: the loss did not fall (%.3f in the first epoch, %.3f in the last), "
                        "the network may have died: a lower --learning_rate or, where fc6 and fc7 "
                        "start at random, --fc_scale may help", key, *risen)  # fmt: skip
    elif falling:
        logging.info("%s: the loss still falls: a longer training (--epochs) may do better", key)
    return {"last_epoch": history[-1], "still_falling": falling}


def still_falling(history):
    """Whether the loss made more than `_FLAT` of its way in the last fifth of the epochs.

    Args:
      history: mean logs an epoch. J(f, Ŝ), which may join late, is left out.
    """
    losses = _losses(history)
    last = losses[-1 - max(len(losses) // 5, 1) :]
    return not rise(history) and last[0] - last[-1] > _FLAT * (losses[0] - losses[-1])


def rise(history):
    """(first epoch's loss, last one's), without J(f, Ŝ), where it did not fall; or None."""
    losses = _losses(history)
    return (losses[0], losses[-1]) if len(losses) > 1 and losses[-1] >= losses[0] else None


def _losses(history):
    return [logs["loss"] - logs.get("j_hat", 0.0) for logs in history]


def _check(families, worker, workers):
    """Reads the shards once, shared among the workers, before hours go into a training.

    Returns:
      The ids of images without a tag.

    Raises:
      InputError: a file is damaged, or a record of another image.
    """
    shards = range(worker, len(families[0].counts), workers)
    rows = (row for shard in shards for row in records.read_zipped(families, shard))
    return [row["image/id"] for row in rows if not row["image/labels"]]


def _refuse_untagged(ids, family, run_dir, config):
    """Refuses images without a tag, unless they were written as negatives and can be learned."""
    if not ids:
        return
    facts = records.Family(run_dir.family(config.train_split, "images")).facts or {}
    told = f"{family.directory}: {len(ids)} images have no tag, the first is {ids[0]}"
    if facts.get("untagged") != "negative":
        raise InputError(
            f"{told}: training needs one at least; give --labels_csv, take the images out with "
            "--ids_file, or write them with --untagged=negative or drop"
        )
    if config.label_loss != "sigmoid":
        raise InputError(
            f"{told}: --label_loss={config.label_loss} cannot learn from them; give "
            "--label_loss=sigmoid, or write them with --untagged=drop"
        )
