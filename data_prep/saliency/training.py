"""How DRFI is trained: from pictures and object masks to a `drfi.Drfi`. Free of TensorFlow."""

import dataclasses
import functools
import pathlib
import zlib

import numpy as np
from absl import logging
from PIL import Image, ImageOps

from aepsl_tf.data import encoding, runners
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation import metrics
from data_prep.saliency import drfi, forest, methods

PURE = 0.8
"""Regions are trained with if at least this share of them is object, or is not (DRFI)."""
FOLDS = 4
"""Level weights and sharpening are learned from what forests say of images they have not seen."""
SLOPE = 4.0
"""Of the sharpening: most of a map near 0 or 1, as a cut at .12 of its range needs, yet graded."""
_MIDDLES = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
_FOREST = {"max_features": 1 / 3, "min_samples_leaf": 10, "max_samples": 0.3}
_FOLD_TREES = 30


@dataclasses.dataclass(frozen=True)
class Example:
    """One picture's regions and their truth; see `drfi.describe`.

    Attributes:
      name: the picture's stem.
      groups, rows: of each level.
      counted: float64 `[K]`, pixels of the finest regions that are not void.
      objects: float64 `[K]`, those of them that are object.
      pixels: float64 `[K]`, all of them.
    """

    name: str
    groups: list
    rows: list
    counted: np.ndarray
    objects: np.ndarray
    pixels: np.ndarray


def find(settings):
    """(picture, mask) paths in order of their names."""
    folders = [pathlib.Path(f) for f in (settings.object_images, settings.object_masks)]
    for name, folder in zip(("object_images", "object_masks"), folders, strict=True):
        if not folder.is_dir():
            raise InputError(f"--{name}={folder}: no such folder")
    # Where both lie in one folder, what is a PNG is a mask.
    suffixes = (".jpg",) if folders[0].samefile(folders[1]) else (".jpg", ".png")
    pictures = sorted(p for p in folders[0].iterdir() if p.suffix.lower() in suffixes)
    pairs = [(picture, folders[1] / f"{picture.stem}.png") for picture in pictures]
    missing = [mask.name for _, mask in pairs if not mask.is_file()]
    if missing or not pairs:
        raise InputError(
            f"{folders[1]}: {len(missing)} of {len(pairs)} pictures of {folders[0]} have a mask "
            f"missing, such as {missing[:3]}"
        )
    return pairs


def read_pair(pair, object_ids, void_id):
    """Picture, objects and what counts: uint8 RGB `[H, W, 3]`, bool `[H, W]`, bool `[H, W]`."""
    try:
        with Image.open(pair[0]) as picture, Image.open(pair[1]) as mask:
            image = np.asarray(encoding.to_rgb(ImageOps.exif_transpose(picture)))
            ids = np.asarray(mask)
    except OSError as error:
        raise InputError(f"{pair[0]} or its mask cannot be read ({error})") from error
    if ids.shape != image.shape[:2] or ids.dtype.kind not in "bu":
        raise InputError(
            f"{pair[1]}: expected a palette or grey mask as large as its picture "
            f"{list(image.shape[:2])}, found {ids.dtype} {list(ids.shape)}"
        )
    objects = np.isin(ids, object_ids) if object_ids else (ids != 0) & (ids != void_id)
    return image, objects, ids != void_id


def prepare(object_ids, void_id, pair):
    """An `Example`, or None of a picture without an object: there nothing is salient."""
    image, objects, counted = read_pair(pair, object_ids, void_id)
    if not objects.any():
        return None
    image = drfi.shrink(image)
    labels, groups, rows = drfi.describe(image)

    def total(mask):
        mask = encoding.resize_mask(mask, *labels.shape)
        return np.bincount(labels.ravel(), mask.ravel(), minlength=labels.max() + 1)

    return Example(pair[0].stem, groups, rows, total(counted), total(objects & counted),
                   np.bincount(labels.ravel()).astype(float))  # fmt: skip


def _samples(examples):
    """Descriptors `[N, D]` and truth `[N]` (0, 1) of the regions that are one or the other."""
    rows, truth = [], []
    for example in examples:
        for level, group in zip(example.rows, example.groups, strict=True):
            counted = np.bincount(group, example.counted)
            share = np.bincount(group, example.objects) / np.maximum(counted, 1)
            clear = counted > 0.5 * np.bincount(group, example.pixels)
            clear &= (share >= PURE) | (share <= 1 - PURE)
            rows.append(level[clear])
            truth.append((share[clear] > 0.5).astype(np.float32))
    return np.concatenate(rows), np.concatenate(truth)


def grow(examples, trees, leaves, seed, threads):
    """A `forest.Forest` over the regions of all levels."""
    # Only training needs scikit-learn; maps are computed without it.
    from sklearn.ensemble import RandomForestRegressor

    rows, truth = _samples(examples)
    if truth.min() == truth.max():
        raise InputError("the masks hold no clear object or no clear background region: check "
                         "--object_ids and --void_id")  # fmt: skip
    regressor = RandomForestRegressor(
        trees, max_leaf_nodes=leaves, random_state=seed, n_jobs=threads, **_FOREST
    )
    regressor.fit(rows, truth)
    return forest.from_trees([tree.tree_ for tree in regressor.estimators_]), rows.shape[0]


def level_scores(trees, example):
    """What a forest says at each level of the finest regions: float64 `[levels, K]`."""
    ends = np.cumsum([len(r) for r in example.rows])[:-1]
    scores = np.split(trees.predict(np.concatenate(example.rows)), ends)
    return np.stack([s[g] for s, g in zip(scores, example.groups, strict=True)])


def fit_weights(unseen):
    """Non-negative level weights of least squared pixel error, every image weighing the same.

    Args:
      unseen: pairs (`Example`, `level_scores` by a forest that was grown without it).
    """
    from scipy.optimize import nnls

    left, right = 0.0, 0.0
    for example, scores in unseen:
        total = example.counted.sum()
        left = left + (scores * example.counted / total) @ scores.T
        right = right + scores @ (example.objects / total)
    # |A w − b|² from its normal equations, A being the Cholesky factor's transpose.
    root = np.linalg.cholesky(left + 1e-9 * np.eye(len(left)))
    return nnls(root.T, np.linalg.solve(root, right))[0]


def fit_middle(unseen, weights):
    """The middle of `drfi.sharpen` under which the paper's cut tells best: by mean IoU.

    Two classes, background below the threshold and object above it, over the pixels of all images.

    Args:
      unseen: as `fit_weights` takes them.
      weights: what it gave.
    """
    threshold = metrics.BACKGROUND_THRESHOLDS[-1]

    def mean_iou(middle):
        confusion = np.zeros([2, 2])
        for example, scores in unseen:
            low = methods.normalize(drfi.sharpen(weights @ scores, SLOPE, middle)[None])[0]
            low = low < threshold
            for row, pixels in enumerate((example.counted - example.objects, example.objects)):
                confusion[row] += pixels[low].sum(), pixels[~low].sum()
        hits = np.diag(confusion)
        return (hits / (confusion.sum(0) + confusion.sum(1) - hits)).mean()

    return max(_MIDDLES, key=mean_iou)


def folds_of(names):
    """A fold for each name. Names that begin alike, up to the first _, stay together.

    In MSRC these are shots of one kind, so forests are asked about kinds they have not seen.
    """
    series = [name.partition("_")[0] for name in names]
    place = {name: i % FOLDS for i, name in enumerate(sorted(set(series)))}
    return [place[name] for name in series]


def is_held_out(name, one_in):
    """Whether a picture is kept for measuring: by its name alone, so that no draw changes it."""
    return zlib.crc32(name.encode()) % one_in == 0


def train(examples, settings, workers):
    """A `drfi.Drfi` and how many regions its forest was grown with."""
    folds = folds_of([e.name for e in examples])
    if len(set(folds)) < FOLDS:
        raise InputError(
            f"{len(examples)} pictures with objects are too few to train with, or all their names "
            "begin alike before the first _"
        )
    unseen = []
    for fold in range(FOLDS):
        others = [e for e, f in zip(examples, folds, strict=True) if f != fold]
        count = min(_FOLD_TREES, settings.trees)
        grown, _ = grow(others, count, settings.leaves, settings.seed, workers)
        unseen += [(e, level_scores(grown, e)) for e, f in zip(examples, folds, strict=True)
                   if f == fold]  # fmt: skip
        logging.info("fold %d of %d done", fold + 1, FOLDS)
    weights = fit_weights(unseen)
    middle = fit_middle(unseen, weights)
    grown, regions = grow(examples, settings.trees, settings.leaves, settings.seed, workers)
    return drfi.Drfi(grown, weights, SLOPE, middle), regions


def measure(model_path, pairs, object_ids, void_id, workers):
    """`metrics.Saliency.results` by method, of the shipped kind and of the untrained ones."""
    results = {}
    for method in ("drfi", "spectral_residual", "fine_grained"):
        compute = functools.partial(
            _measured, methods.build(method, drfi_model=model_path), object_ids, void_id
        )
        scores = metrics.Saliency()
        for measured in runners.ordered_map(compute, pairs, workers):
            scores.add(*measured)
        results[method] = scores.results()
    return results


def _measured(method, object_ids, void_id, pair):
    image, objects, counted = read_pair(pair, object_ids, void_id)
    saliency = np.round(method(pair[0].stem, image) * 255).astype(np.uint8)
    return saliency, objects, counted
