"""From a network's cells to a picture's mask, as workers do it: without TensorFlow.

A picture's cells are a third of a megabyte where its probabilities are sixteen, so processes pass
cells on, and each worker makes what the CRF needs of them.
"""

import typing

import numpy as np

from aepsl_tf.data import encoding
from aepsl_tf.inference import crf, drawing


class Cells(typing.NamedTuple):
    """One picture and what a segmenter says of it.

    Attributes:
      picture: uint8 `[H, W, 3]`.
      logits: float32 `[h, w, C+1]`.
      weights: float32 `[C+1]`: [1, v], and 0 for a class that is prohibited.
      rows, columns: float32 `[H]`, `[W]`: where the picture's pixels lie among the cells.
    """

    picture: np.ndarray
    logits: np.ndarray
    weights: np.ndarray
    rows: np.ndarray
    columns: np.ndarray


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


def crf_mask(preset, cells):
    """The mask of a `Cells` after the CRF: uint8 `[H, W]`; `preset` is `crf.settings_of`."""
    possible = np.flatnonzero(cells.weights)  # as a rule few: the others cost nothing
    logits = interpolate(cells.logits[..., possible], cells.rows, cells.columns)
    probabilities = prohibit(logits, cells.weights[possible])
    mask = crf.dense_crf(cells.picture, probabilities, **preset)
    return possible.astype(np.uint8)[mask]


def clean(preset, item):
    """A worker's share of a split: (id, mask without the CRF, `Cells`) → (id, mask, mask after the
    CRF), masks of one size. `preset` None leaves the CRF out; the last mask is then None.
    """
    id_, mask, cells = item
    if preset is None:
        return id_, mask, None
    return id_, mask, encoding.resize_mask(crf_mask(preset, cells), *mask.shape)


def mask_row(preset, item):
    """A row of a masks family, of (id, (height, width), mask without the CRF or its `Cells`)."""
    id_, size, mask = item
    if preset is not None:
        mask = encoding.resize_mask(crf_mask(preset, mask), *size)
    return {"image/id": id_, "mask/png": encoding.grey_png(mask)}


def mask_files(preset, palette, item):
    """A picture's mask and overlay as PNG files, of (name, (height, width), mask, `Cells`).

    The overlay is the picture's at --pixel_limit, the mask has the picture's own size.

    Returns:
      (name, palette PNG, RGB PNG).
    """
    name, size, mask, cells = item
    if preset is not None:
        mask = crf_mask(preset, cells)
    shown = encoding.resize_mask(mask, *cells.picture.shape[:2])
    overlay = encoding.rgb_png(drawing.overlay(cells.picture, shown, palette))
    return name, encoding.palette_png(encoding.resize_mask(mask, *size), palette), overlay
