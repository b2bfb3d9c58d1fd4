"""One training loop for both networks and every strategy, each step `strategy.run(train_step)`.

Killed at any instant it resumes to the same bytes: the data order is a pure function of
(seed, epoch, position), and the checkpoint holds the weights, the optimizer, the dropout
generators and the running sums of the logs. These stay on the device, which runs ahead; this
process waits for it only where it reads them.
"""

import json
import pathlib
import time

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from aepsl_tf import config as configs
from aepsl_tf.data import datasets, order
from aepsl_tf.errors import InputError
from aepsl_tf.training import strategies

_LOG_STEPS = 10  # steps between two readings of the losses


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


class _Sums:
    """Running sums of an epoch's logs, on the device; `state.sums` is as they were last read.

    In float64, which sums float32 losses as exactly as Python does: it does not matter when they
    are read.
    """

    def __init__(self, state):
        self.state, self._read_at = state, state.position
        self._sums = {k: tf.constant(v, tf.float64) for k, v in state.sums.items()}

    def add(self, logs):
        for key, value in logs.items():
            value = tf.cast(value, tf.float64)
            self._sums[key] = self._sums[key] + value if key in self._sums else value

    def read(self):
        """Waits for the device; returns the mean logs since the last reading.

        Raises:
          InputError: the loss is no number any more.
        """
        state, before = self.state, self.state.sums
        state.sums = {key: float(value) for key, value in self._sums.items()}
        if not np.isfinite(state.sums["loss"]):
            raise InputError(
                f"the loss is {state.sums['loss']} in epoch {state.epoch + 1}, within steps "
                f"{self._read_at + 1} to {state.position}: lower --learning_rate"
            )
        taken, self._read_at = state.position - self._read_at, state.position
        return {key: (now - before.get(key, 0.0)) / taken for key, now in state.sums.items()}


class _Checkpoints:
    """What a step reads or writes, on disk: weights, dropout generators, optimizer, position.

    Only the chief writes; what replicas hold in common is saved once.
    """

    def __init__(self, model, state, directory, keep, strategy):
        variables = {f"model_{i}": v.value for i, v in enumerate(model.tuned.variables)}
        variables |= {f"optimizer_{i}": v.value for i, v in enumerate(model.optimizer.variables)}
        self.weights = [v.value for v in model.tuned.trainable_variables]
        self.chief = strategies.worker(strategy)[0] == 0
        self.checkpoint = tf.train.Checkpoint(state=state, **variables)
        _ = self.checkpoint.save_counter  # a variable: all workers must create it, not the saver
        self.directory = pathlib.Path(directory)
        self.manager = tf.train.CheckpointManager(self.checkpoint, str(directory), keep)
        self.saved = time.monotonic()

    def save(self):
        """Saves, but no broken model: a weight that is no number shows in the loss a step later.

        Raises:
          InputError: there is such a weight.
        """
        if not all(tf.reduce_all(tf.math.is_finite(weight)) for weight in self.weights):
            state = self.checkpoint.state
            raise InputError(
                f"a weight is no number any more after {state.epoch} epochs and {state.position} "
                "steps: lower --learning_rate"
            )
        if self.chief:
            self.manager.save()
        self.saved = time.monotonic()

    def due(self, seconds):
        return time.monotonic() - self.saved > seconds

    def restore(self):
        """Restores the newest whole checkpoint; a torn one falls back to the one before.

        Raises:
          InputError: there are checkpoints, but not one can be restored.
        """
        # As they lie there, not as TensorFlow lists them: the list may be what is damaged.
        found = sorted(self.directory.glob("ckpt-*.index"), key=lambda p: int(p.stem[5:]))
        for path in reversed(found):
            try:
                self.checkpoint.restore(str(path.with_suffix(""))).assert_consumed()
                logging.info("resumed from %s", path.stem)
                return
            except Exception as error:  # OpError, IndexError, DecodeError, …: by where it is torn
                why = repr(error).splitlines()[0][:80]
                logging.warning("%s is damaged (%s); trying the one before", path.stem, why)
        if found:
            raise InputError(
                f"{self.directory}: no checkpoint can be restored ("
                f"{', '.join(path.stem for path in found)}: {why}): remove the folder to train "
                "from the start"
            )


def _separate_dropout(strategy, generators):
    """Gives each replica's dropout a seed of its own; the first replica's, which is saved, stays.

    Args:
      generators: states `[seed, counter]`, equal on all replicas.
    """
    if strategy.num_replicas_in_sync == 1:
        return

    @tf.function(autograph=False)
    def shift():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        for state in generators:
            seed = state[0] + tf.cast(replica, state.dtype) * 1_000_003
            state.assign(tf.stack([seed, state[1]]))

    strategy.run(shift)


def _first_line(error):
    return str(error).strip().splitlines()[0][:160]


def _used_up(error, config):
    """What to do where TensorFlow has no memory, or no disk, left, in one line; None of others."""
    if "No space left" in str(error):
        return InputError("no space is left on the disk of --run_dir: free some and go on")
    if "OOM" not in str(error) and "memory" not in str(error).lower():
        return None
    kind = configs.PREFIXES[type(config)]
    # Where J counts the pixels of a whole batch, an online mask's are not known of a piece.
    whole = getattr(config, "psl", "") == "full" and config.pixel_norm == "batch"
    pieces = f"--{kind}accumulate={2 * config.accumulate} to forward a batch in pieces, or "
    return InputError(
        f"out of memory ({_first_line(error)}): give {'' if whole else pieces}a smaller "
        f"--{kind}global_batch, with --restart"
    )


def _raised(error):
    """A collective's failure as one line."""
    return InputError(
        f"lost another worker of this job ({_first_line(error)}): see its log, then start all "
        "workers again; they go on from the last checkpoint"
    )


def fit(model, batches, images, config, directory, callbacks=()):
    """Trains a compiled model, under the strategy whose scope is open.

    Args:
      model: a `Classifier` or `Segmenter` with its optimizer set (`model.compile(optimizer)`).
      batches: `batches(epoch, position, context) -> tf.data.Dataset` of batches from the given
        one on, epoch after epoch without end, cut for replicas by `datasets.replica_batches`.
      images: images an epoch.
      config: the `config.Solver` part of the model's settings.
      directory: where checkpoints go while training runs.
      callbacks: Keras callbacks; one that sets `model.stop_training` ends the training. After a
        step they get logs only where these are read anyway, which is every tenth step, the last
        of an epoch, and before a checkpoint: the means since the last time.

    Returns:
      One dictionary of mean logs an epoch.

    Raises:
      InputError: the loss is no number any more; no checkpoint can be restored; another worker
        was lost; the memory does not do; a record cannot be read.
    """
    strategy = tf.distribute.get_strategy()
    try:
        with datasets.bad_input():
            return _fit(strategy, model, batches, images, config, directory, callbacks)
    except tf.errors.ResourceExhaustedError as error:
        if told := _used_up(error, config):
            raise told from error
        raise
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
            tf.errors.DeadlineExceededError, tf.errors.InternalError) as error:  # fmt: skip
        if strategies.worker(strategy)[1] == 1:
            raise
        raise _raised(error) from error


def _fit(strategy, model, batches, images, config, directory, callbacks):
    steps = order.steps(images, config.global_batch)
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
    sums, data = _Sums(state), None
    for epoch in range(state.epoch, config.epochs):
        calls.on_epoch_begin(epoch)
        if data is None:  # one chain and one graph for all epochs
            data = strategy.distribute_datasets_from_function(
                lambda context: batches(state.epoch, state.position, context)
            )
            traced = tf.function(train_step, [data.element_spec], autograph=False)
            data = iter(data)
        while state.position < steps:
            calls.on_train_batch_begin(state.position)
            sums.add(traced(next(data)))
            state.position += 1
            save = checkpoints.due(config.checkpoint_seconds) and state.position < steps
            logs = {}
            if save or state.position % _LOG_STEPS == 0 or state.position == steps:
                logs = sums.read()
            calls.on_train_batch_end(state.position - 1, logs)
            if save:
                checkpoints.save()
        means = {key: value / steps for key, value in state.sums.items()}
        state.history.append(means)
        state.epoch, state.position, state.sums = epoch + 1, 0, {}
        sums = _Sums(state)
        calls.on_epoch_end(epoch, dict(means))
        last = epoch + 1 == config.epochs or model.stop_training
        if last or checkpoints.due(config.checkpoint_seconds):
            checkpoints.save()
        if model.stop_training:
            break
    calls.on_train_end()
    return state.history
