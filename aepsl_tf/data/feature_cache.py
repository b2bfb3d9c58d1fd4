"""Features of the frozen trunk, computed once per image (and its mirror), kept on disk.

With a frozen trunk and warped input an epoch then costs only the head. The cache is named after a
digest of everything it depends on; chunks are published one by one, so a killed fill goes on
where it stopped.
"""

import contextlib
import hashlib
import itertools
import os

import numpy as np
import tensorflow as tf
from absl import logging

from aepsl_tf.data import datasets
from aepsl_tf.files import to_json
from aepsl_tf.progress import progress

_CHUNK, _BATCH = 64, 8  # images a file, images a forward pass
_SUFFIXES = {"float32": ".f32", "bfloat16": ".bf16", "float16": ".f16"}


class FeatureCache:
    """Features `[images, 2, h, w, C]`: index 0 the picture, 1 its mirror.

    They lie on the disk in the precision in which the trunk computes them, so nothing is rounded,
    and half precision takes half the disk.

    Args:
      run_dir: the run that holds the family and the cache.
      model: whose `frozen` part fills it.
      family: images or erased pictures.
      fill: mean pixel for erased pictures, uint8 `[3]`.
      mirrored: also cache mirrors, which only training needs.
    """

    def __init__(self, run_dir, model, family, fill, mirrored=True):
        self.model, self.family, self.fill, self.mirrored = model, family, fill, mirrored
        self.size = model.config.input_size
        cells = (self.size - 1) // 8 + 1
        channels = model.frozen.output.shape[-1]
        self.shape = (1 + mirrored, cells, cells, channels)
        self.dtype = np.dtype(tf.as_dtype(model.frozen.output.dtype).as_numpy_dtype)
        self.directory = run_dir.cache(self._key(run_dir.digest_of(family.directory)))

    def _key(self, pictures):
        config, weights = self.model.config, hashlib.sha256()
        for value in self.model.frozen.get_weights():
            weights.update(np.ascontiguousarray(value))
        parts = [self.size, self.mirrored, config.backbone, config.freeze_through,
                 config.precision, self.fill.numpy().tolist(), weights.hexdigest(), pictures,
                 tf.__version__]  # fmt: skip
        return hashlib.sha256(to_json(parts).encode()).hexdigest()[:16]

    def bytes(self):
        return self._image_bytes() * self.family.images

    def _image_bytes(self):
        return self.dtype.itemsize * int(np.prod(self.shape))

    def fill_up(self, worker=0, workers=1, concluded=lambda: False):
        """Computes the chunks that are missing; prints the size first.

        Workers that share the folder begin at different chunks and leave out what another has
        done. Nobody waits, so nobody waits for a worker that died.

        Args:
          worker, workers: index and number.
          concluded: whether the phase is over, so that the chief (worker 0) has all it needed and
            removes the folder: a helper gives up then.

        Returns:
          The cache, or None where a helper gave up.
        """

        def over():
            return worker != 0 and concluded()

        try:
            if not over():
                self._fill_up(worker, workers, over)
        except FileNotFoundError:
            if not over():
                raise
        if not over():
            return self
        with contextlib.suppress(OSError):  # not empty: the chief keeps it for other phases
            self.directory.rmdir()
        return None

    def _fill_up(self, worker, workers, over):
        self.directory.mkdir(parents=True, exist_ok=True)
        count = -(-self.family.images // _CHUNK)
        if self.dtype != np.float32:  # older versions' files, twice as large
            for path in self.directory.glob("*.f32"):
                path.unlink(missing_ok=True)
        missing = [chunk for chunk in range(count) if not self._is_whole(chunk)]
        if missing:
            logging.info("feature cache: %.2f GB in %s", self.bytes() / 1e9, self.directory)
            first = worker * len(missing) // workers
            with progress(self.family.images, "features of the frozen trunk") as bar:
                bar.update(sum(self._size(chunk) for chunk in set(range(count)) - set(missing)))
                self._fill([*missing[first:], *missing[:first]], worker, bar, over)

    def _path(self, chunk):
        return self.directory / f"{chunk:05d}{_SUFFIXES[self.dtype.name]}"

    def _is_whole(self, chunk):
        """Whether it is there, and not cut short by a disk or a machine that died."""
        path, expected = self._path(chunk), self._image_bytes() * self._size(chunk)
        return path.exists() and path.stat().st_size == expected

    def _size(self, chunk):
        """Images in a chunk."""
        return min(_CHUNK, self.family.images - chunk * _CHUNK)

    def _fill(self, chunks, worker, bar, over):
        """Computes these chunks in turn, but for those that another worker makes meanwhile."""

        def numbers():
            for chunk in chunks:
                if over():
                    break
                if not self._is_whole(chunk):
                    full = -(-self._size(chunk) // _BATCH) * _BATCH  # no batch has two chunks
                    yield from range(chunk * _CHUNK, chunk * _CHUNK + full)

        @tf.function(autograph=False)
        def frozen(images):
            views = [images, tf.reverse(images, [2])] if self.mirrored else [images]
            features = [self.model.frozen(view, training=False) for view in views]
            return tf.stack(features, axis=1)

        pictures = datasets.warped_pictures(self.family, self.size, self.fill, _BATCH, numbers)

        def chunk_of(batch):
            return int(batch["image"][0]) // _CHUNK

        with datasets.bad_input():
            for chunk, batches in itertools.groupby(pictures, chunk_of):
                beside = self._path(chunk).with_suffix(f".{worker}.tmp")
                with open(beside, "wb") as file:
                    for batch in batches:
                        present = batch["image"].numpy() < self.family.images
                        file.write(frozen(batch["picture"]).numpy()[present].tobytes())
                os.replace(beside, self._path(chunk))
                bar.update(self._size(chunk))

    def __getitem__(self, item):
        """Features `[h, w, C]` of (image, view), read from disk, in the trunk's precision."""
        image, view = item
        if view >= self.shape[0]:
            raise IndexError(f"{self.directory} holds no mirrored pictures")
        count = self._image_bytes() // self.shape[0]
        place = (image % _CHUNK) * self.shape[0] + view
        # Not mapped into memory, where what has been read of it would count as this process's.
        stored = np.fromfile(self._path(image // _CHUNK), np.uint8, count, offset=count * place)
        return stored.view(self.dtype).reshape(self.shape[1:])

    def load(self, row):
        """The features of one of `order.batch_rows`, inside a graph; zeros where not present."""

        def read(image, mirror, present):
            return self[image, int(mirror)] if present else np.zeros(self.shape[1:], self.dtype)

        features = tf.numpy_function(
            read, [row["image"], row["mirror"], row["present"]], self.dtype, stateful=False
        )
        return tf.ensure_shape(features, self.shape[1:])
