"""What both training phases do: data, solver, loop, and a model folder at the end."""

import tensorflow as tf

from aepsl_tf.data import datasets, order, records
from aepsl_tf.data.feature_cache import FeatureCache
from aepsl_tf.errors import InputError
from aepsl_tf.models import model_dir
from aepsl_tf.training import loop, solver, strategies, summaries


def train(model, families, fill, run_dir, key, partial, callbacks=(), pictures=None):
    """Trains a model on a split and saves it into the folder `partial`.

    Args:
      model: a fresh `Classifier` or `Segmenter` with its start weights.
      families: the images (or erased) family and, for the segmenter, the masks family.
      fill: mean pixel of the training split.
      pictures: for TensorBoard; `pictures() -> {name: uint8 [H, W, 3]}`.

    Returns:
      Facts for the manifest: the losses of the last epoch.
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
        if cache and not run_dir.keep_cache:
            cache.remove()
    return {"last_epoch": history[-1]}


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
