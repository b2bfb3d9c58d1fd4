"""One training loop for both networks and every strategy, each step `strategy.run(train_step)`.

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
from aepsl_tf.training import strategies


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


class _Checkpoints:
    """What a step reads or writes, on disk: weights, dropout generators, optimizer, position.

    Only the chief writes; what replicas hold in common is saved once.
    """

    def __init__(self, model, state, directory, keep, strategy):
        variables = {f"model_{i}": v.value for i, v in enumerate(model.tuned.variables)}
        variables |= {f"optimizer_{i}": v.value for i, v in enumerate(model.optimizer.variables)}
        self.chief = strategies.worker(strategy)[0] == 0
        self.checkpoint = tf.train.Checkpoint(state=state, **variables)
        _ = self.checkpoint.save_counter  # a variable: all workers must create it, not the saver
        self.manager = tf.train.CheckpointManager(self.checkpoint, str(directory), keep)
        self.saved = time.monotonic()

    def save(self):
        if self.chief:
            self.manager.save()
        self.saved = time.monotonic()

    def due(self, seconds):
        return time.monotonic() - self.saved > seconds

    def restore(self):
        """Restores the newest whole checkpoint; a torn one falls back to the one before."""
        for path in reversed(self.manager.checkpoints):
            try:
                self.checkpoint.restore(path).assert_consumed()
                logging.info("resumed from %s", pathlib.Path(path).name)
                return
            except Exception as error:  # OpError, IndexError, DecodeError, …: by where it is torn
                name, why = pathlib.Path(path).name, repr(error).splitlines()[0][:80]
                logging.warning("%s is damaged (%s); trying the one before", name, why)


def _separate_dropout(strategy, generators):
    """Gives each replica's dropout a seed of its own; the first replica's, which is saved, stays.

    Args:
      generators: states `[seed, counter]`, equal on all replicas.
    """
    if strategy.num_replicas_in_sync == 1:
        return

    @tf.function
    def shift():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for state in generators:
            seed = state[0] + tf.cast(replica, state.dtype) * 1_000_003
            state.assign(tf.stack([seed, state[1]]))

    strategy.run(shift)


def _raised(error):
    """A collective's failure as one line."""
    first = str(error).strip().splitlines()[0][:160]
    return InputError(
        f"lost another worker of this job ({first}): see its log, then start all workers again; "
        "they go on from the last checkpoint"
    )


def fit(model, batches, images, config, directory, callbacks=()):
    """Trains a compiled model, under the strategy whose scope is open.

    Args:
      model: a `Classifier` or `Segmenter` with its optimizer set (`model.compile(optimizer)`).
      batches: `batches(epoch, position, context) -> tf.data.Dataset` of one epoch's batches from
        the given batch on, cut for replicas by `datasets.replica_batches`.
      images: images an epoch.
      config: the `config.Solver` part of the model's settings.
      directory: where checkpoints go while training runs.
      callbacks: Keras callbacks; one that sets `model.stop_training` ends the training.

    Returns:
      One dictionary of mean logs an epoch.

    Raises:
      InputError: the loss is no number any more; another worker was lost; the batch cannot be
        cut into equal shares.
    """
    strategy = tf.distribute.get_strategy()
    replicas, pieces = strategy.num_replicas_in_sync, config.accumulate
    if config.global_batch % (replicas * pieces):
        raise InputError(
            f"--global_batch={config.global_batch}: expected a multiple of {replicas * pieces} "
            f"({replicas} replicas, --accumulate={pieces})"
        )
    try:
        return _fit(strategy, model, batches, images, config, directory, callbacks)
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
            tf.errors.DeadlineExceededError, tf.errors.InternalError) as error:  # fmt: skip
        if strategies.worker(strategy)[1] == 1:
            raise
        raise _raised(error) from error


def _fit(strategy, model, batches, images, config, directory, callbacks):
    steps = math.ceil(images / config.global_batch)
    state = _State()
    checkpoints = _Checkpoints(model, state, directory, config.keep, strategy)
    replicas = strategy.num_replicas_in_sync
    if replicas > 1:
        strategies.wait_for_all(strategy)  # the chief has laid the folder out
    checkpoints.restore()
    done = state.epoch * steps + state.position
    if replicas > 1 and strategies.wait_for_all(strategy, done) != done * replicas:
        raise InputError(
            f"the workers do not agree on where to go on (here: step {done}): all of them need "
            "the same --run_dir, on a file system they share"
        )
    _separate_dropout(strategy, [v.value for v in model.tuned.variables if "seed" in v.path])

    def train_step(batch):
        logs = strategy.run(model.train_step, args=(batch,))
        return {k: strategy.reduce("SUM", v, axis=None) for k, v in logs.items()}

    calls = keras.callbacks.CallbackList(list(callbacks), model=model)
    calls.set_params({"epochs": config.epochs, "steps": steps, "images": images})
    begun = {"epoch": state.epoch, "position": state.position, "history": list(state.history)}
    calls.on_train_begin(begun)
    model.stop_training = False
    traced = None
    for epoch in range(state.epoch, config.epochs):
        calls.on_epoch_begin(epoch)
        data = strategy.distribute_datasets_from_function(
            lambda context, epoch=epoch: batches(epoch, state.position, context)
        )
        traced = traced or tf.function(train_step, input_signature=[data.element_spec])
        for batch in data:
            calls.on_train_batch_begin(state.position)
            logs = {k: float(v) for k, v in traced(batch).items()}
            if not np.isfinite(logs["loss"]):
                raise InputError(
                    f"the loss is {logs['loss']} at epoch {epoch + 1}, step {state.position + 1}: "
                    "lower --learning_rate"
                )
            for key, value in logs.items():
                state.sums[key] = state.sums.get(key, 0.0) + value
            state.position += 1
            calls.on_train_batch_end(state.position - 1, logs)
            if checkpoints.due(config.checkpoint_seconds) and state.position < steps:
                checkpoints.save()
        means = {key: value / steps for key, value in state.sums.items()}
        state.history.append(means)
        state.epoch, state.position, state.sums = epoch + 1, 0, {}
        calls.on_epoch_end(epoch, dict(means))
        last = epoch + 1 == config.epochs or model.stop_training
        if last or checkpoints.due(config.checkpoint_seconds):
            checkpoints.save()
        if model.stop_training:
            break
    calls.on_train_end()
    return state.history
