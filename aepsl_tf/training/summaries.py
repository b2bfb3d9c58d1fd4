"""What one sees while training: a progress bar with time left, and TensorBoard."""

import time

import keras
import tensorflow as tf

from aepsl_tf.data import records


class Progress(keras.callbacks.Callback):
    """One bar over all epochs: images per second, time left, losses."""

    def __init__(self, description, images, batch):
        super().__init__()
        self.description, self.images, self.batch = description, images, batch

    def on_train_begin(self, logs=None):
        done = logs["epoch"] * self.images + min(logs["position"] * self.batch, self.images)
        total = self.params["epochs"] * self.images
        self.bar = records.progress(total, self.description)
        self.bar.update(done)
        self.bar.unpause()

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update(min(self.batch, self.images - batch * self.batch))

    def on_epoch_end(self, epoch, logs=None):
        values = " ".join(f"{k} {v:.3f}" for k, v in logs.items())
        self.bar.set_postfix_str(f"epoch {epoch + 1}/{self.params['epochs']} {values}")

    def on_train_end(self, logs=None):
        self.bar.close()


class TensorBoard(keras.callbacks.Callback):
    """Losses and learning rate every few steps, images per second and pictures an epoch.

    Args:
      directory: of the event file.
      batch: images a step.
      pictures: `pictures() -> {name: uint8 [H, W, 3]}`, called after each epoch; or None.
    """

    def __init__(self, directory, batch, pictures=None):
        super().__init__()
        self.writer = tf.summary.create_file_writer(str(directory))
        self.batch, self.pictures = batch, pictures

    def on_epoch_begin(self, epoch, logs=None):
        self.started, self.steps = time.monotonic(), 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if not logs:  # a step whose losses nobody waits for
            return
        optimizer = self.model.optimizer
        step = int(keras.ops.convert_to_numpy(optimizer.iterations))
        with self.writer.as_default(step):
            for name, value in logs.items():
                tf.summary.scalar(f"train/{name}", value)
            rate = keras.ops.convert_to_numpy(optimizer.learning_rate)
            tf.summary.scalar("train/learning_rate", float(rate))

    def on_epoch_end(self, epoch, logs=None):
        rate = self.steps * self.batch / max(time.monotonic() - self.started, 1e-9)
        with self.writer.as_default(epoch + 1):
            tf.summary.scalar("epoch/images_per_second", rate)
            for name, value in logs.items():
                tf.summary.scalar(f"epoch/{name}", value)
            for name, picture in (self.pictures() if self.pictures else {}).items():
                tf.summary.image(name, picture[None])
        self.writer.flush()

    def on_train_end(self, logs=None):
        self.writer.close()
