"""From a network's cells to a picture's mask, as workers do it: without TensorFlow.

A picture's cells are a third of a megabyte where its probabilities are sixteen, so processes pass
cells on, and each worker makes what the CRF needs of them.
"""

import functools
import typing

import numpy as np

from aepsl_tf.classes import VOID
from aepsl_tf.data import encoding
from aepsl_tf.inference import crf

_STRIP = 1 << 18  # pixels whose probabilities of all classes are in memory, a view


class Seen(typing.NamedTuple):
    """What a segmenter says of one view of a picture (`geometry.View`).

    Attributes:
      logits: float32 `[h, w, C+1]`.
      rows, columns: float32 `[H]`, `[W]`: where the picture's pixels lie among the cells.
    """

    logits: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


class Cells(typing.NamedTuple):
    """One picture and what a segmenter says of it.

    Attributes:
      picture: uint8 `[H, W, 3]`.
      weights: float32 `[C+1]`: [1, v], and 0 for a class that is prohibited.
      views: a `Seen` for each view.
    """

    picture: np.ndarray
    weights: np.ndarray
    views: tuple


def interpolate(cells, rows, columns):
    """`geometry.from_network` in NumPy: `[h, w, D]` → float32 `[H, W, D]`, the same bits."""
    for axis, positions in enumerate((rows, columns)):
        low = np.floor(positions)
        share = (positions - low).reshape([-1] + [1] * (2 - axis))
        index = low.astype(int)
        before = cells.take(index, axis)
        after = cells.take(np.minimum(index + 1, cells.shape[axis] - 1), axis)
        cells = before + share * (after - before)
    return cells


def prohibit(logits, weights):
    """What the CRF takes (§3.2): the probabilities of the classes, weighed and renormalised.

    Args:
      logits: float32 `[H, W, C+1]` before softmax, background first.
      weights: `predictor.class_weights` of the picture, `[C+1]`.

    Returns:
      float32 `[H, W, C+1]`, as `losses.weigh` has it in TensorFlow.
    """
    with np.errstate(divide="ignore"):  # log 0 = -inf is what prohibits
        weighed = logits + np.log(weights.astype(np.float64)).astype(np.float32)
    weighed = np.exp(weighed - weighed.max(-1, keepdims=True))
    return weighed / weighed.sum(-1, keepdims=True)


def mean_over_views(views, possible):
    """log f of some classes, where f is the mean over views of the probabilities of all.

    Args:
      views: `Seen`s of one picture.
      possible: int `[D]` class ids.

    Returns:
      float32 `[H, W, D]`.
    """
    rows, columns = (len(positions) for positions in views[0][1:])
    found = np.empty((rows, columns, len(possible)), np.float32)
    step = max(_STRIP // columns, 1)
    for first in range(0, rows, step):
        part = slice(first, first + step)
        strips = (interpolate(seen.logits, seen.rows[part], seen.columns) for seen in views)
        # As logarithms: a class far behind in all views still has its place among the others.
        logs = (strip[..., possible] - _log_sum(strip) for strip in strips)
        found[part] = functools.reduce(np.logaddexp, logs) - np.float32(np.log(len(views)))
    return found


def _log_sum(logits):
    highest = logits.max(-1, keepdims=True)
    return highest + np.log(np.exp(logits - highest).sum(-1, keepdims=True))


def probabilities(cells):
    """([1, v] ⊗ f, renormalised, of the classes that are not prohibited; their ids) of a `Cells`.

    Returns:
      float32 `[H, W, D]`, int `[D]`.
    """
    possible = np.flatnonzero(cells.weights)  # as a rule few: the others cost nothing
    if len(cells.views) == 1:
        ((logits, rows, columns),) = cells.views
        log_f = interpolate(logits[..., possible], rows, columns)
    else:
        log_f = mean_over_views(cells.views, possible)
    return prohibit(log_f, cells.weights[possible]), possible


def plain_mask(cells):
    """The mask of a `Cells` without the CRF: uint8 `[H, W]`. Of the plain view alone
    `Predictor.mask` is what the exported model says to the bit.
    """
    likely, possible = probabilities(cells)
    return possible.astype(np.uint8)[likely.argmax(-1)]


def crf_mask(preset, cells):
    """The mask of a `Cells` after the CRF: uint8 `[H, W]`; `preset` is `crf.settings_of`."""
    likely, possible = probabilities(cells)
    mask = crf.dense_crf(cells.picture, likely, **preset)
    return possible.astype(np.uint8)[mask]


def clean(preset, item):
    """A worker's share of a split: (id, (height, width), mask without the CRF or None, `Cells`) →
    (id, mask, mask after the CRF), masks of that size. A mask that is None is made here. `preset`
    None leaves the CRF out; the last mask is then None.
    """
    id_, size, mask, cells = item
    if mask is None:
        mask = encoding.resize_mask(plain_mask(cells), *size)
    if preset is None:
        return id_, mask, None
    return id_, mask, encoding.resize_mask(crf_mask(preset, cells), *size)


def mask_row(preset, item):
    """A row of a masks family, of (id, (height, width), mask without the CRF or its `Cells`, class
    ids that become void).
    """
    id_, size, mask, outside = item
    if isinstance(mask, Cells):
        made = plain_mask(mask) if preset is None else crf_mask(preset, mask)
        mask = encoding.resize_mask(made, *size)
    mask = np.where(np.isin(mask, outside), np.uint8(VOID), mask)
    return {"image/id": id_, "mask/png": encoding.grey_png(mask)}
