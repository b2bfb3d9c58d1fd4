"""Who comes when: a training's order of images and their random draws, a pure function.

Each epoch shows every image once, shuffled by (seed, epoch). A row says which image comes, whether
it is mirrored and where it is cropped, so whoever loads a picture, a mask or cached features for a
row agrees with the others, and a training that goes on at (epoch, position) sees what one that
was never interrupted sees.
"""

import functools

import numpy as np


def steps(images, batch):
    """Batches an epoch; the last one may have rows that do not count."""
    return -(-images // batch)


def epoch_rows(images, batch, seed, epoch):
    """The rows of one epoch, as many as fill its batches.

    Returns:
      {"image": int64 `[N]` number in the split; "mirror": bool `[N]`; "crop": int32 `[N, 2]` in
      0..2³⁰−1, taken modulo the free height and width; "present": bool `[N]`}. What fills the last
      batch is not present, and its image is 0.
    """
    draws, rows = np.random.default_rng([seed, epoch]), steps(images, batch) * batch
    image = np.zeros(rows, np.int64)
    image[:images] = draws.permutation(images)
    return {
        "image": image,
        "mirror": draws.integers(0, 2, rows).astype(bool),
        "crop": draws.integers(0, 2**30, (rows, 2), np.int32),
        "present": np.arange(rows) < images,
    }


@functools.lru_cache(maxsize=2)  # of the epoch that ends and the one that begins
def _epoch(images, batch, seed, epoch):
    return epoch_rows(images, batch, seed, epoch)


def filled(batch, shares):
    """Rows of a global batch that is cut into equal shares: some may not count."""
    return -(-batch // shares) * shares


def batch_rows(images, batch, seed, number, pipeline=0, pipelines=1, shares=None):
    """One input pipeline's rows of a global batch, a pure function of its number.

    Pipeline k of K has the k-th K-th of every batch. Of that, replica r of the R it feeds takes
    the r-th R-th.

    Args:
      batch: images of a global batch.
      number: of the global batch, counted from the first one of epoch 0 on.
      shares: a multiple of `pipelines`, these if None: so many equal parts it is cut into. Rows
        that are not present fill it up for that.

    Returns:
      A dictionary as `epoch_rows` returns, of `filled(batch, shares) / pipelines` rows.
    """
    epoch, position = divmod(number, steps(images, batch))
    rows, size = _epoch(images, batch, seed, epoch), filled(batch, shares or pipelines)
    share, first = size // pipelines, position * batch

    def own(values):
        whole = np.zeros((size, *values.shape[1:]), values.dtype)
        whole[:batch] = values[first : first + batch]
        return whole[pipeline * share : (pipeline + 1) * share]

    return {name: own(values) for name, values in rows.items()}
