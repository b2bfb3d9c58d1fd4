"""Features of the frozen trunk, computed once per image (and its mirror), kept on disk.

With a frozen trunk and warped input an epoch then costs only the head. The cache is named after a
digest of everything it depends on; chunks are published one by one, so a killed fill goes on
where it stopped.
"""

import hashlib
import os
import shutil

import numpy as np
import tensorflow as tf
from absl import logging

from aepsl_tf.data import datasets, records, transforms
from aepsl_tf.run_dir import to_json

_CHUNK = 64  # images a file


class FeatureCache:
    """float32 features `[images, 2, h, w, C]`: index 0 the picture, 1 its mirror.

    Args:
      root: folder of all caches of a run.
      model: whose `frozen` part fills it.
      family: images or erased pictures.
      fill: mean pixel for erased pictures, uint8 `[3]`.
      mirrored: also cache mirrors, which only training needs.
    """

    def __init__(self, root, model, family, fill, mirrored=True):
        self.model, self.family, self.fill, self.mirrored = model, family, fill, mirrored
        self.size = model.config.input_size
        cells = (self.size - 1) // 8 + 1
        channels = model.frozen.output.shape[-1]
        self.shape = (1 + mirrored, cells, cells, channels)
        self.directory = root / self._key()
        self._chunks = None

    def _key(self):
        weights = hashlib.sha256()
        for value in self.model.frozen.get_weights():
            weights.update(np.ascontiguousarray(value))
        pictures = hashlib.sha256()
        for row in self.family.read():
            pictures.update(row["image/encoded"])
            pictures.update(row.get("erased/png", b""))
        parts = [self.size, self.mirrored, self.model.config.backbone,
                 self.model.config.freeze_through, self.model.config.precision, self.fill.numpy().tolist(),
                 weights.hexdigest(), pictures.hexdigest(), tf.__version__]  # fmt: skip
        return hashlib.sha256(to_json(parts).encode()).hexdigest()[:16]

    def bytes(self):
        return 4 * int(np.prod(self.shape)) * self.family.images

    def fill_up(self):
        """Computes the chunks that are missing; prints the size first."""
        self.directory.mkdir(parents=True, exist_ok=True)
        count = -(-self.family.images // _CHUNK)
        paths = [self.directory / f"{i:05d}.npy" for i in range(count)]
        done = next((i for i, p in enumerate(paths) if not p.exists()), count)
        if done < count:
            logging.info("feature cache: %.2f GB in %s", self.bytes() / 1e9, self.directory)
            self._fill(paths, done)
        self._chunks = [np.load(path, mmap_mode="r") for path in paths]
        return self

    def _fill(self, paths, done):
        frozen = tf.function(
            lambda images: tf.cast(self.model.frozen(images, training=False), tf.float32),
            reduce_retracing=True,
        )
        pictures = datasets.warped_pictures(self.family, self.size, self.fill, 8)
        pictures = pictures.skip(done * _CHUNK // 8)
        chunk, index = [], done
        with records.progress(self.family.images, "features of the frozen trunk") as bar:
            bar.update(done * _CHUNK)
            for images in pictures:
                views = [images] + ([images[:, :, ::-1]] if self.mirrored else [])
                chunk.append(np.stack([frozen(view).numpy() for view in views], axis=1))
                bar.update(len(images))
                held = sum(map(len, chunk))
                if held == _CHUNK or index * _CHUNK + held == self.family.images:
                    beside = paths[index].with_suffix(".tmp.npy")
                    np.save(beside, np.concatenate(chunk))
                    os.replace(beside, paths[index])
                    chunk, index = [], index + 1

    def __getitem__(self, item):
        """Features `[h, w, C]` of (image, view)."""
        image, view = item
        return self._chunks[image // _CHUNK][image % _CHUNK, view]

    def batches(self, labels, masks, config, epoch, position):
        """As `datasets.training_batches`, with "features" in the place of "image".

        Args:
          labels: float32 `[N, C]`.
          masks: uint8 `[N, size, size]` warped, or None.
        """
        draws = np.random.default_rng([config.seed, epoch])
        order = draws.permutation(self.family.images)
        mirrors = draws.integers(0, 2, self.family.images)

        def generate():
            for start in range(position * config.global_batch, len(order), config.global_batch):
                chosen = order[start : start + config.global_batch]
                views = mirrors[start : start + config.global_batch]
                batch = {
                    "features": np.stack([self[i, v] for i, v in zip(chosen, views, strict=True)]),
                    "labels": labels[chosen],
                }
                if masks is not None:
                    batch["mask"] = np.stack([
                        transforms.network_mask(masks[i][:, ::-1] if v else masks[i])
                        for i, v in zip(chosen, views, strict=True)
                    ])  # fmt: skip
                yield batch

        signature = {
            "features": tf.TensorSpec([None, *self.shape[1:]], tf.float32),
            "labels": tf.TensorSpec([None, labels.shape[1]], tf.float32),
        }
        if masks is not None:
            signature["mask"] = tf.TensorSpec([None, None, None], tf.uint8)
        return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2)

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)
