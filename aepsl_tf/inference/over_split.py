"""The one reader of a network over pictures: decodes ahead, batches, and keeps the order.

Decoding, the network and the caller's own work on a picture go on at the same time.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import functools
import os

import numpy as np
import tensorflow as tf

from aepsl_tf.data import datasets, geometry
from aepsl_tf.data.feature_cache import FeatureCache

BATCH = 8  # pictures a forward pass
_WINDOW = 8  # batches of pictures in memory, among which those of one size are sought
_DECODERS = 4  # threads at most


class Reader:
    """A network's say on pictures, one after the other.

    Pictures of one network input size share a forward pass. No pass and no window is larger than
    `pixel_limit` lets it be, so a few huge photographs do not decide the memory of a run.

    Args:
      model: a `Classifier` or `Segmenter`.
      cells: `cells(features) -> {name: [B, …]}`, what is wanted of the frozen part's features.
      pixel_limit: larger pictures are seen at this many pixels.
      trained: the weights do not change any more. Not so in a training's own pictures.
      batch: pictures a forward pass. Floats depend on it in their last bits, as libraries add in
        another order; where they must be those of the exported model, it is 1.
      views: `geometry.View`s that the network is shown of each picture. Where they are given, a
        list of cells is read, one a view.
    """

    def __init__(self, model, cells, pixel_limit, batch=BATCH, trained=True, views=None):
        self.model, self.pixel_limit, self.batch = model, pixel_limit, batch
        self._many, self.views = views is not None, views or (geometry.PLAIN,)
        self._cells, self._trained = cells, trained
        config, image = model.config, tf.TensorSpec([None, None, 3], tf.uint8)
        self._limited = _traced(lambda image: geometry.limited(image[None], pixel_limit)[0], image)
        self._inputs = [
            _traced(lambda image, view=view: geometry.to_network(
                image[None], config, pixel_limit, view)[0], image)
            for view in self.views
        ]  # fmt: skip

    @functools.cached_property
    def _forward(self):
        """The network's input `[B, H, W, 3]` → cells."""
        frozen = self.model.frozen
        return self._network(lambda inputs: self._cells(frozen(inputs, training=False)), 3)

    @functools.cached_property
    def _tuned(self):
        """Features of the frozen part → cells."""
        features = self.model.frozen.output
        return self._network(self._cells, features.shape[-1], features.dtype)

    def _network(self, function, channels, dtype=tf.float32):
        def of(inputs):
            with self.model.fixed() if self._trained else contextlib.nullcontext():
                return function(inputs)

        return _traced(of, tf.TensorSpec([None, None, None, channels], dtype))

    def read(self, rows, decode, features=None):
        """Yields (row, picture uint8 `[H, W, 3]`, {name: NumPy array without the batch}) in order.

        The picture is the one at `pixel_limit`. With `views` the last is a list of such.

        Args:
          rows: any iterable.
          decode: `decode(row)` → uint8 RGB `[H, W, 3]`, or None to leave the row out; runs in
            threads.
          features: `[h, w, C']` a row, in the trunk's precision, which the frozen part need not
            compute any more; of the plain view alone.
        """

        def load(row, cached=None):
            with tf.device("CPU"):  # the accelerator is the network's
                image = decode(row)
                if image is None:
                    return None
                image = tf.convert_to_tensor(image)
                if cached is None:
                    inputs = [of(image) for of in self._inputs]
                else:  # as a tensor: TensorFlow stacks arrays number by number
                    inputs = [tf.convert_to_tensor(cached)]
                return _Picture(row, self._limited(image).numpy(), inputs)

        items = zip(rows) if features is None else zip(rows, features, strict=True)
        forward = self._forward if features is None else self._tuned
        # One batch is in work while the caller is at the pictures of the one before.
        read = _mapped(load, items, len(self.views))
        return _ahead(self._in_order(read, forward), self.batch)

    def _in_order(self, pictures, forward):
        waiting, groups = collections.deque(), {}

        def compute(size):
            group = groups.pop(size)
            batch = forward(tf.stack([picture.inputs[view] for picture, view in group]))
            batch = {name: value.numpy() for name, value in batch.items()}
            for index, (picture, view) in enumerate(group):
                picture.inputs[view] = None
                picture.cells[view] = {k: v[index] for k, v in batch.items()}

        def finish(picture):
            for view in picture.missing():
                if picture.cells[view] is None:
                    compute(tuple(picture.inputs[view].shape))

        with contextlib.closing(pictures):
            for picture in pictures:
                waiting.append(picture)
                for view, inputs in enumerate(picture.inputs):
                    size = tuple(inputs.shape)
                    groups.setdefault(size, []).append((picture, view))
                    if len(groups[size]) >= self._at_once(size):
                        compute(size)
                if picture.missing() and self._is_full(waiting):
                    finish(waiting[0])
                while waiting and not waiting[0].missing():
                    yield waiting.popleft().result(self._many)
        while waiting:
            finish(waiting[0])
            yield waiting.popleft().result(self._many)

    def _at_once(self, size):
        return min(self.batch, self.pixel_limit // (size[0] * size[1]))

    def _is_full(self, waiting):
        pixels = sum(picture.picture.shape[0] * picture.picture.shape[1] for picture in waiting)
        pixels *= len(self.views)
        return len(waiting) >= _WINDOW * self.batch or pixels >= _WINDOW * self.pixel_limit


def _traced(function, spec):
    # Once and for good. A `tf.function` that traced itself would warn of the many networks that a
    # report reads.
    return tf.function(function, [spec], autograph=False).get_concrete_function()


@dataclasses.dataclass
class _Picture:
    row: object
    picture: np.ndarray
    inputs: list  # one a view
    cells: list = dataclasses.field(init=False)

    def __post_init__(self):
        self.cells = [None] * len(self.inputs)

    def missing(self):
        return [view for view, cells in enumerate(self.cells) if cells is None]

    def result(self, many):
        return self.row, self.picture, self.cells if many else self.cells[0]


def _mapped(function, items, size=1):
    """Yields `function(*item)` in order where it is not None, from threads that work ahead: the
    less, the larger a result is.
    """
    threads = min(_DECODERS, len(os.sched_getaffinity(0)))
    pool, waiting = concurrent.futures.ThreadPoolExecutor(threads), collections.deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, *item))
            if len(waiting) > max(2 * threads // size, 1):
                result = waiting.popleft().result()
                if result is not None:
                    yield result
        for future in waiting:
            result = future.result()
            if result is not None:
                yield result
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(items, depth):
    """Yields a generator's items, which a thread makes up to `depth` of them ahead."""
    end = object()
    thread = concurrent.futures.ThreadPoolExecutor(1)
    try:
        waiting = collections.deque(thread.submit(next, items, end) for _ in range(depth))
        while (item := waiting.popleft().result()) is not end:
            waiting.append(thread.submit(next, items, end))
            yield item
    finally:
        thread.shutdown(cancel_futures=True)
        items.close()


@contextlib.contextmanager
def over_split(reader, run_dir, family, fill, worker=0, workers=1, concluded=lambda: False):
    """Gives `read(shard=None)`, `Reader.read` of a family's shard or of all.

    Through the feature cache where the model trains with one: training's, if it is still there. It
    holds the plain view's features.

    Args:
      family: images or erased pictures.
      fill: mean pixel for erased pictures, uint8 `[3]`.
      worker, workers: share the filling of the cache.
      concluded: `FeatureCache.fill_up`'s.
    """
    cache = None
    if reader.model.config.cache_features and reader.views == (geometry.PLAIN,):
        for mirrored in (True, False):
            cache = FeatureCache(run_dir, reader.model, family, fill, mirrored)
            if cache.directory.exists():
                break
        cache = cache.fill_up(worker, workers, concluded)

    def read(shard=None):
        first = sum(family.counts[: shard or 0])
        images = family.images if shard is None else family.counts[shard]
        features = (cache[index, 0] for index in range(first, first + images)) if cache else None
        return reader.read(family.read(shard), lambda row: datasets.picture(row, fill), features)

    yield read
