"""Features of the frozen trunk, computed once per image (and its mirror), kept on disk.

With a frozen trunk and warped input an epoch then costs only the head. The cache is named after a
digest of everything it depends on; chunks are published one by one, so a killed fill goes on
where it stopped.
"""

import hashlib
import os

import numpy as np
import tensorflow as tf
from absl import logging

from aepsl_tf.classes import VOID
from aepsl_tf.data import datasets, records, transforms
from aepsl_tf.files import remove_at_once, to_json

_CHUNK, _BATCH = 64, 8  # images a file, images a forward pass


class FeatureCache:
    """float32 features `[images, 2, h, w, C]`: index 0 the picture, 1 its mirror.

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
        self.directory = run_dir.cache / self._key(run_dir.digest_of(family.directory))
        self._chunks = None

    def _key(self, pictures):
        config, weights = self.model.config, hashlib.sha256()
        for value in self.model.frozen.get_weights():
            weights.update(np.ascontiguousarray(value))
        parts = [self.size, self.mirrored, config.backbone, config.freeze_through,
                 config.precision, self.fill.numpy().tolist(), weights.hexdigest(), pictures,
                 tf.__version__]  # fmt: skip
        return hashlib.sha256(to_json(parts).encode()).hexdigest()[:16]

    def bytes(self):
        return 4 * int(np.prod(self.shape)) * self.family.images

    def fill_up(self, worker=0, workers=1):
        """Computes the chunks that are missing; prints the size first.

        Workers that share the folder begin at different chunks and leave out what another has
        done. Nobody waits, so nobody waits for a worker that died. One that finds the folder gone
        gives up: the chief (worker 0) has all it needed and removed it.

        Returns:
          The cache, or None where it is gone.
        """
        try:
            return self._fill_up(worker, workers)
        except FileNotFoundError:
            if worker == 0 or self.directory.exists():
                raise
            return None

    def _fill_up(self, worker, workers):
        self.directory.mkdir(parents=True, exist_ok=True)
        count = -(-self.family.images // _CHUNK)
        paths = [self.directory / f"{i:05d}.npy" for i in range(count)]
        if not all(path.exists() for path in paths):
            logging.info("feature cache: %.2f GB in %s", self.bytes() / 1e9, self.directory)
            with records.progress(self.family.images, "features of the frozen trunk") as bar:
                first = worker * count // workers
                self._fill(paths, first, count, worker, bar)
                self._fill(paths, 0, first, worker, bar)
        self._chunks = [np.load(path, mmap_mode="r") for path in paths]
        return self

    def _fill(self, paths, first, last, worker, bar):
        """Chunks first…last−1; those that an earlier try or another worker made stay."""
        while first < last and paths[first].exists():
            bar.update(min(_CHUNK, self.family.images - first * _CHUNK))
            first += 1
        if first == last:
            return

        @tf.function(reduce_retracing=True)
        def frozen(images):
            views = [images, images[:, :, ::-1]] if self.mirrored else [images]
            features = [self.model.frozen(view, training=False) for view in views]
            return tf.cast(tf.stack(features, axis=1), tf.float32)

        pictures = iter(
            datasets.warped_pictures(self.family, self.size, self.fill, _BATCH, first * _CHUNK)
        )
        for index in range(first, last):
            images = min(_CHUNK, self.family.images - index * _CHUNK)
            batches = [next(pictures) for _ in range(-(-images // _BATCH))]
            if not paths[index].exists():
                beside = paths[index].with_name(f"{paths[index].stem}.{worker}.tmp")
                with open(beside, "wb") as file:
                    np.save(file, np.concatenate([frozen(batch).numpy() for batch in batches]))
                os.replace(beside, paths[index])
            bar.update(images)

    def __getitem__(self, item):
        """Features `[h, w, C]` of (image, view)."""
        image, view = item
        return self._chunks[image // _CHUNK][image % _CHUNK, view]

    def batches(self, labels, masks, config, epoch, position, context):
        """As `datasets.training_batches`, with "features" in the place of "image".

        Args:
          labels: float32 `[N, C]`.
          masks: uint8 `[N, size, size]` warped, or None.
        """
        draws = np.random.default_rng([config.seed, epoch])
        order = draws.permutation(self.family.images)
        mirrors = draws.integers(0, 2, self.family.images)
        share = context.get_per_replica_batch_size(config.global_batch)
        here = config.global_batch // context.num_input_pipelines

        def generate():
            for batch in range(position * config.global_batch, len(order), config.global_batch):
                first = batch + context.input_pipeline_id * here
                for start in range(first, first + here, share):  # one a replica
                    yield load(range(start, start + share))

        def load(places):
            chosen, views = (np.take(of, places, mode="wrap") for of in (order, mirrors))
            present = np.array(places) < len(order)
            batch = {
                "features": np.stack([self[i, v] for i, v in zip(chosen, views, strict=True)]),
                "labels": labels[chosen],
                "present": present.astype(np.float32),
            }
            if masks is not None:
                batch["mask"] = np.stack([
                    transforms.network_mask(masks[i][:, ::-1] if v else masks[i])
                    if here else np.full_like(transforms.network_mask(masks[i]), VOID)
                    for i, v, here in zip(chosen, views, present, strict=True)
                ])  # fmt: skip
            return batch

        shapes = {"features": self.shape[1:], "labels": labels.shape[1:], "present": []}
        types = {"features": tf.float32, "labels": tf.float32, "present": tf.float32}
        if masks is not None:
            shapes["mask"], types["mask"] = self.shape[1:3], tf.uint8
        signature = {k: tf.TensorSpec([share, *shapes[k]], types[k]) for k in shapes}
        return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2)

    def remove(self):
        remove_at_once(self.directory)
