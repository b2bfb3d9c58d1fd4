"""DRFI: learned saliency of regions (Jiang et al., CVPR 2013), the paper's background cue (§4.1).

An image is cut into regions at several levels; a random forest gives each region a saliency from
its descriptors; the levels are summed with learned weights. `data_prep.train_saliency` makes the
model file that is read here. Pool workers import this module: it is free of TensorFlow.
"""

import pathlib

import cv2
import numpy as np

from aepsl_tf.errors import InputError
from data_prep.saliency import descriptors
from data_prep.saliency.forest import Forest

MODEL = pathlib.Path(__file__).with_name("drfi_model.npz")
"""The model that ships with the project; drfi_model.json beside it says how it was made."""
VERSION = 1
"""Of segmentation and descriptors: a model fits only the version that it was trained with."""

SIDE = 320
"""Larger images are shrunk to this longer side: MSRC's, and enough for regions."""
LEVELS = (0.0, 2e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
"""k of each level's merging, in Lab distance × share of the image; 0 keeps the finest regions."""
_SMOOTHING, _SCALE, _SMALLEST = 0.8, 40, 6e-4
"""σ, k and least area (share of the image) of the finest, pixel-level segmentation."""
"""What reading a damaged or foreign file can raise."""


def shrink(image):
    """uint8 RGB `[H, W, 3]` → the same with no side above `SIDE`, averaged over areas."""
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    if scale >= 1:
        return image
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def segment(image):
    """Regions of uint8 RGB `[H, W, 3]` (Felzenszwalb & Huttenlocher, IJCV 2004).

    Returns:
      intp `[H, W]`, regions numbered 0..K−1.
    """
    smallest = max(1, round(_SMALLEST * image.shape[0] * image.shape[1]))
    graph = cv2.ximgproc.segmentation.createGraphSegmentation(_SMOOTHING, _SCALE, smallest)
    labels = graph.processImage(np.ascontiguousarray(image[..., ::-1])).astype(np.intp)
    present = np.bincount(labels.ravel()) > 0
    return (np.cumsum(present) - 1)[labels]


def merge(sums, k):
    """Joins regions by the same predicate on their graph, edges weighing the means' Lab distance.

    Two components join if the edge between them is at most each one's largest edge so far plus
    k / area. (The extended paper, IJCV 2017, builds its levels from superpixels this way too, with
    a learned distance.)

    Args:
      sums: `descriptors.Sums` of K regions.
      k: how readily small regions join.

    Returns:
      intp `[K]`, each region's group, numbered from 0.
    """
    area = sums.table[:, 0] / sums.table[:, 0].sum()
    one, other = np.nonzero(np.triu(sums.borders))
    lab = descriptors.mean_lab(sums)
    weight = np.linalg.norm(lab[one] - lab[other], axis=1)
    order = np.argsort(weight, kind="stable")
    parent, size, limit = list(range(len(area))), area.tolist(), (k / area).tolist()

    def find(region):
        while parent[region] != region:
            parent[region] = region = parent[parent[region]]
        return region

    edges = np.stack([one[order], other[order]], axis=1).tolist()
    for (a, b), w in zip(edges, weight[order].tolist(), strict=True):
        a, b = find(a), find(b)
        if a != b and w <= min(limit[a], limit[b]):
            parent[b] = a
            size[a] += size[b]
            limit[a] = w + k / size[a]
    roots = [find(region) for region in range(len(area))]
    return np.unique(roots, return_inverse=True)[1]


def describe(image):
    """Regions and descriptors of every level.

    Args:
      image: uint8 RGB `[H, W, 3]`, already shrunk.

    Returns:
      labels: intp `[H, W]`, the finest regions, K of them.
      groups: for each level intp `[K]`, the region of that level that each finest one is part of.
      rows: for each level float32 `[K_level, D]`.
    """
    pixels = descriptors.measure(image)
    labels = segment(image)
    sums, frame = descriptors.region_sums(pixels, labels), descriptors.frame_sums(pixels)
    groups = [merge(sums, k) for k in LEVELS]
    rows = [descriptors.describe(descriptors.merge_sums(sums, g), frame) for g in groups]
    return labels, groups, rows


def fuse(scores, groups, weights):
    """Sum over levels of weight × score, seen by the finest regions: float64 `[K]`."""
    return sum(w * s[g] for w, s, g in zip(weights, scores, groups, strict=True))


def sharpen(saliency, slope, middle):
    """σ(slope · (logit(saliency) − logit(middle))): the order stays, the middle goes to ½."""
    odds = [np.log(s / (1 - s)) for s in (np.clip(saliency, 1e-3, 1 - 1e-3), middle)]
    return 1 / (1 + np.exp(-slope * (odds[0] - odds[1])))


class Drfi:
    """A trained DRFI.

    Attributes:
      forest: `Forest` over the descriptors.
      weights: float64 `[levels]`, of the fusion.
      slope, middle: of `sharpen`.
    """

    def __init__(self, forest, weights, slope, middle):
        self.forest, self.weights = forest, np.asarray(weights, np.float64)
        self.slope, self.middle = float(slope), float(middle)

    @classmethod
    def load(cls, path=MODEL):
        """Reads a model file; nothing in it can execute code."""
        if not pathlib.Path(path).is_file():
            raise InputError(
                f"DRFI model {str(path)!r}: no such file; train one with "
                "python -m data_prep.train_saliency"
            )
        try:
            # Opened here: where the content is no archive, np.load leaves what it opened open.
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if arrays.pop("version").tolist() != VERSION:
                raise ValueError("it was trained for other regions or descriptors")
            weights, slope, middle = (arrays.pop(n) for n in ("weights", "slope", "middle"))
            model = cls(Forest(**arrays), weights, slope, middle)
            model.check()
        except Exception as error:  # zip, its packings and npy headers fail in all their ways
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"{path}: no DRFI model of this version ({reason}); train it again with "
                "python -m data_prep.train_saliency"
            ) from error
        return model

    def save(self, path):
        """Writes what `load` reads; the same model gives the same bytes."""
        numbers = {"version": VERSION, "weights": self.weights, "slope": self.slope,
                   "middle": self.middle}  # fmt: skip
        with open(path, "wb") as file:  # given a name, NumPy would add a suffix to it
            np.savez_compressed(file, **numbers, **self.forest.arrays())

    def check(self):
        """Raises ValueError where the parts do not fit this version's levels and descriptors."""
        self.forest.check(len(descriptors.NAMES))
        if self.weights.shape != (len(LEVELS),) or not np.isfinite(self.weights).all():
            raise ValueError(f"expected {len(LEVELS)} level weights, found {self.weights}")
        if not (0 < self.slope < 1000 and 0 < self.middle < 1):
            raise ValueError(f"slope {self.slope} or middle {self.middle} is out of range")

    def __call__(self, image):
        """uint8 RGB `[H, W, 3]` → float32 `[H, W]`, not yet stretched to 0..1."""
        labels, groups, rows = describe(shrink(image))
        ends = np.cumsum([len(r) for r in rows])[:-1]
        scores = np.split(self.forest.predict(np.concatenate(rows)), ends)
        fused = sharpen(fuse(scores, groups, self.weights), self.slope, self.middle)
        return cv2.resize(fused.astype(np.float32)[labels], image.shape[1::-1])
