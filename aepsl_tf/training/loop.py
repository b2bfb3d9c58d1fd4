"""One training loop for both networks, every step through `strategy.run(model.train_step)`.

Killed at any instant it resumes to the same bytes: the data order is a pure function of
(seed, epoch, position), and the checkpoint holds the weights, the optimizer, the dropout
generators and the running sums of the logs.
"""

import json
import math
import pathlib
import time

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from aepsl_tf.errors import InputError


class _State(tf.train.experimental.PythonState):
    """Where training stands, inside the checkpoint: epoch, position, log sums, history."""

    _FIELDS = ("epoch", "position", "sums", "history")

    def __init__(self):
        self.epoch, self.position, self.sums, self.history = 0, 0, {}, []

    def serialize(self):
        return json.dumps({name: getattr(self, name) for name in self._FIELDS})

    def deserialize(self, text):
        for name, value in json.loads(text).items():
            setattr(self, name, value)


def _checkpoint(model, state):
    """All that a step reads or writes: weights, dropout generators, optimizer, position."""
    variables = {f"model_{i}": v.value for i, v in enumerate(model.tuned.variables)}
    variables |= {f"optimizer_{i}": v.value for i, v in enumerate(model.optimizer.variables)}
    return tf.train.Checkpoint(state=state, **variables)


def _restore(checkpoint, manager):
    """Restores the newest whole checkpoint; a torn one falls back to the one before."""
    for path in reversed(manager.checkpoints):
        try:
            checkpoint.restore(path).assert_consumed()
            logging.info("resumed from %s", pathlib.Path(path).name)
            return
        except Exception as error:  # OpError, IndexError, DecodeError, …: by where it is torn
            logging.warning("%s is damaged (%s); trying the one before",
                            pathlib.Path(path).name, repr(error).splitlines()[0][:80])  # fmt: skip


def fit(model, batches, images, config, directory, callbacks=()):
    """Trains a compiled model.

    Args:
      model: a `Classifier` or `Segmenter` with its optimizer set (`model.compile(optimizer)`).
      batches: `batches(epoch, position) -> tf.data.Dataset` of one epoch's batches from the
        given batch on.
      images: images an epoch.
      config: the `config.Solver` part of the model's settings.
      directory: where checkpoints go while training runs.
      callbacks: Keras callbacks.

    Returns:
      One dictionary of mean logs an epoch.

    Raises:
      InputError: the loss is no number any more.
    """
    strategy = tf.distribute.get_strategy()
    steps = math.ceil(images / config.global_batch)
    state = _State()
    checkpoint = _checkpoint(model, state)
    manager = tf.train.CheckpointManager(checkpoint, str(directory), config.keep)
    _restore(checkpoint, manager)

    @tf.function(reduce_retracing=True)
    def train_step(batch):
        logs = strategy.run(model.train_step, args=(batch,))
        return {k: strategy.reduce("SUM", v, axis=None) for k, v in logs.items()}

    calls = keras.callbacks.CallbackList(list(callbacks), model=model)
    calls.set_params({"epochs": config.epochs, "steps": steps, "images": images})
    calls.on_train_begin({"epoch": state.epoch, "position": state.position})
    saved = time.monotonic()
    for epoch in range(state.epoch, config.epochs):
        calls.on_epoch_begin(epoch)
        for batch in strategy.experimental_distribute_dataset(batches(epoch, state.position)):
            calls.on_train_batch_begin(state.position)
            logs = {k: float(v) for k, v in train_step(batch).items()}
            if not np.isfinite(logs["loss"]):
                raise InputError(
                    f"the loss is {logs['loss']} at epoch {epoch + 1}, step {state.position + 1}: "
                    "lower --learning_rate"
                )
            for key, value in logs.items():
                state.sums[key] = state.sums.get(key, 0.0) + value
            state.position += 1
            calls.on_train_batch_end(state.position - 1, logs)
            if time.monotonic() - saved > config.checkpoint_seconds and state.position < steps:
                manager.save()
                saved = time.monotonic()
        means = {key: value / steps for key, value in state.sums.items()}
        state.history.append(means)
        state.epoch, state.position, state.sums = epoch + 1, 0, {}
        calls.on_epoch_end(epoch, dict(means))
        if time.monotonic() - saved > config.checkpoint_seconds or epoch + 1 == config.epochs:
            manager.save()
            saved = time.monotonic()
    calls.on_train_end()
    return state.history
