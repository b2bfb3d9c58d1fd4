"""What one sees while training: how far it is, and TensorBoard."""

import dataclasses
import shutil
import time

import keras
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.hparams import summary_v2 as hparams
from tensorboard.summary.writer import record_writer

from aepsl_tf.data import encoding
from aepsl_tf.progress import progress


class Progress(keras.callbacks.Callback):
    """One bar over all epochs, with the losses of the last one."""

    def __init__(self, description, images, batch):
        super().__init__()
        self.description, self.images, self.batch = description, images, batch
        self.bar = None

    def on_train_begin(self, logs=None):
        done = logs["epoch"] * self.images + min(logs["position"] * self.batch, self.images)
        total = self.params["epochs"] * self.images
        self.bar = progress(total, self.description, done=int(done))

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update(min(self.batch, self.images - batch * self.batch))

    def on_epoch_end(self, epoch, logs=None):
        values = " ".join(f"{k} {v:.3f}" for k, v in logs.items())
        self.bar.note(f"epoch {epoch + 1} of {self.params['epochs']}: {values}")

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Also where training ended otherwise, or never began."""
        if self.bar:
            self.bar.close()
            self.bar = None


class Events:
    """A log directory that TensorBoard reads: scalars, pictures, and the settings behind them.

    What is written is on disk when a method returns, so a checkpoint is never ahead of its curves.

    Args:
      directory: of this life's event file.
      settings: name → value, for the HParams tab; what is logged last are their metrics there.
      done: steps that are done already. With none, what lies in the directory is another try's and
        goes; else all that was written after that step by a life that was killed counts no more.
    """

    def __init__(self, directory, settings, done=0):
        if not done:
            shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files in the order of their names, which begin with a time in
        # seconds: too coarse for two lives, and another machine's clock may be behind.
        parts = [path.name.split(".") for path in directory.glob("events.out.tfevents.*")]
        there = [int(part[3]) for part in parts if part[3].isdecimal()]
        number = max([int(time.time()), *(other + 1 for other in there)])
        path = directory / f"events.out.tfevents.{number:010d}"
        self._file = record_writer.RecordWriter(path.open("xb"))
        self._add(file_version="brain.Event:2")
        # From a second start on, TensorBoard takes it that what it read of this step and later ones
        # is another life's.
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        self._add(step=done + 1, session_log=start)
        if not done:
            self._add(step=0, summary=hparams.hparams_pb(settings))

    def scalars(self, step, values):
        """Args: values: tag → number."""
        self._summary(step, ({"tag": tag, "simple_value": v} for tag, v in values.items()))

    def pictures(self, step, pictures):
        """Args: pictures: tag → uint8 `[H, W, 3]`."""

        def image(picture):
            height, width, _ = picture.shape
            return summary_pb2.Summary.Image(
                height=height, width=width, colorspace=3,
                encoded_image_string=encoding.rgb_png(picture),
            )  # fmt: skip

        self._summary(step, ({"tag": tag, "image": image(p)} for tag, p in pictures.items()))

    def _summary(self, step, values):
        values = [summary_pb2.Summary.Value(**value) for value in values]
        self._add(step=step, summary=summary_pb2.Summary(value=values))

    def _add(self, **event):
        event = event_pb2.Event(wall_time=time.time(), **event)
        self._file.write(event.SerializeToString())
        self._file.flush()

    def close(self):
        self._file.close()


class TensorBoard(keras.callbacks.Callback):
    """Losses and learning rate every few steps, images per second and pictures an epoch.

    All of it stands at the train step that it was logged after, and once, however often the
    training was killed.

    Args:
      directory: see `Events`.
      batch: images a step.
      pictures: `pictures() -> {name: uint8 [H, W, 3]}`, called after each epoch; or None.
    """

    def __init__(self, directory, batch, pictures=None):
        super().__init__()
        self.directory, self.batch, self.pictures = directory, batch, pictures
        self.events = None

    def on_train_begin(self, logs=None):
        self.step = int(logs["epoch"] * self.params["steps"] + logs["position"])  # floats to Keras
        self.events = Events(self.directory, dataclasses.asdict(self.model.config), self.step)

    def on_epoch_begin(self, epoch, logs=None):
        self.started, self.first = time.monotonic(), self.step

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if not logs:  # a step whose losses nobody waits for
            return
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        values = {f"train/{name}": value for name, value in logs.items()}
        self.events.scalars(self.step, values | {"train/learning_rate": float(rate)})

    def on_epoch_end(self, epoch, logs=None):
        seconds = max(time.monotonic() - self.started, 1e-9)
        values = {f"epoch/{name}": value for name, value in logs.items()}
        rate = (self.step - self.first) * self.batch / seconds
        self.events.scalars(self.step, values | {"epoch/images_per_second": rate})
        if self.pictures:
            self.events.pictures(self.step, self.pictures())

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """As `Progress.close`."""
        if self.events:
            self.events.close()
            self.events = None
