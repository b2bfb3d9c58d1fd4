"""Metrics: PASCAL VOC's mean IoU, what a partly labelled mask adds to it, and those of saliency.

IoU = TP / (TP + FP + FN) of a class, summed over the pixels of all images (VOC 2012 devkit).
"""

import numpy as np

from aepsl_tf.classes import VOID
from aepsl_tf.errors import InputError
from aepsl_tf.files import read_json


def _count(truth, prediction, num_classes, image_id):
    """Pixel counts of one image; see `Confusion.counts`."""
    truth, prediction = np.asarray(truth), np.asarray(prediction)
    where = f"image {image_id}: " if image_id else ""
    if truth.shape != prediction.shape:
        raise InputError(
            f"{where}the prediction {list(prediction.shape)} and the truth {list(truth.shape)} "
            "differ in size; predict at the truth's size"
        )
    for name, ids in (("truth", truth), ("prediction", prediction)):
        bad = ids[((ids < 0) | (ids >= num_classes)) & (ids != VOID)]
        if bad.size:
            raise InputError(
                f"{where}the {name} holds class id {bad[0]}, allowed are 0..{num_classes - 1} and "
                f"{VOID} (void); check that it was made with this run's classes"
            )
    counted = truth != VOID
    rows = truth[counted].astype(np.int64)
    columns = prediction[counted].astype(np.int64)
    columns[columns == VOID] = num_classes
    shape = (num_classes, num_classes + 1)
    return np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).reshape(shape)


EXAMPLES = 8
"""Images that results name as the best and the worst."""
_SHARE = (float, None)
RESULTS = {"images": int, "miou": _SHARE, "pixel_accuracy": _SHARE, "labelled_share": _SHARE,
           "miou_void_wrong": _SHARE, "iou": {str: _SHARE}, "confusion": [[int]],
           "worst?": [[object]], "best?": [[object]]}  # fmt: skip
"""The shape of `Confusion.results`, for `files.read_json`."""


def load(path):
    """An evaluation's results by name, as `evaluate` wrote them; none where there is no file."""
    try:
        return read_json(path, {str: RESULTS}, "remove it and evaluate again")
    except FileNotFoundError:
        return {}


class Confusion:
    """Pixel counts summed over images, and the metrics they give.

    Attributes:
      counts: int64 `[num_classes, num_classes + 1]`: rows truth, columns prediction, the
        background included; the last column counts unlabelled pixels.
      images: how many were added.
      worst, best: (mean IoU of an image's own classes, its number, its id), ascending and
        descending.
    """

    def __init__(self, num_classes):
        self.counts = np.zeros((num_classes, num_classes + 1), np.int64)
        self.images = 0
        self.worst, self.best = [], []

    def add(self, truth, prediction, image_id=""):
        """Counts one image.

        Args:
          truth: integer `[H, W]` class ids; VOID pixels are left out.
          prediction: integer `[H, W]` class ids; VOID is unlabelled.
          image_id: names the image in errors.
        """
        counts = _count(truth, prediction, len(self.counts), image_id)
        self.counts += counts
        self.images += 1
        score = _mean_of_true(counts)
        if score is not None:
            found = score, self.images - 1, image_id
            self.worst = sorted([*self.worst, found])[:EXAMPLES]
            self.best = sorted([*self.best, found], reverse=True)[:EXAMPLES]

    def results(self, class_names):
        """The metrics, ready for JSON; shares are 0..1, and None where nothing was counted.

        Args:
          class_names: by class id, the background first.

        Returns:
          A dict. `iou` by class name, its mean `miou`, `pixel_accuracy` and `confusion` see
          labelled pixels only; `miou_void_wrong` counts an unlabelled pixel as a miss of its true
          class; `labelled_share` is the labelled part of the pixels with a truth. A class in
          neither truth nor prediction has IoU None and no part in the mean. `worst` and `best` are
          [id, mean IoU of the objects in its truth, its number in the split] of some images that
          hold any.
        """
        confusion = self.counts[:, :-1]
        labelled = int(confusion.sum())
        iou = _iou(confusion, confusion.sum(axis=1))
        return {
            "images": self.images,
            "miou": _mean(iou),
            "pixel_accuracy": _share(np.trace(confusion), labelled),
            "labelled_share": _share(labelled, self.counts.sum()),
            "miou_void_wrong": _mean(_iou(confusion, self.counts.sum(axis=1))),
            "iou": dict(zip(class_names, iou, strict=True)),
            "confusion": confusion.tolist(),
            "worst": [[id_, score, number] for score, number, id_ in self.worst],
            "best": [[id_, score, number] for score, number, id_ in self.best],
        }


def _iou(confusion, truths):
    """IoU by class, floats or None, of classes with `truths` true pixels."""
    hits = np.diag(confusion)
    unions = truths + confusion.sum(axis=0) - hits
    return [_share(hit, union) for hit, union in zip(hits, unions, strict=True)]


def _mean_of_true(counts):
    """The mean IoU of the objects in one image's truth, unlabelled pixels missed; None without."""
    truths = counts.sum(axis=1)
    iou = _iou(counts[:, :-1], truths)
    return _mean([share for share, size in list(zip(iou, truths, strict=True))[1:] if size])


def mean_iou_of_objects(truth, prediction, num_classes):
    """The mean IoU of the objects in one image's truth, 0..1; None where there are none.

    Args: as `Confusion.add`'s; `num_classes` with the background.
    """
    return _mean_of_true(_count(truth, prediction, num_classes, ""))


def _share(part, whole):
    return float(part / whole) if whole else None


def _mean(values):
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def object_shares(confusion):
    """[predicted, true]: the share 0..1 of pixels that are of any object, by `Confusion.results`'s
    "confusion"; zeros without a pixel.
    """
    confusion = np.asarray(confusion)
    total = max(confusion.sum(), 1)
    shares = confusion[:, 1:].sum() / total, confusion[1:].sum() / total
    return [float(share) for share in shares]


# ------------------------------------------------------------------------------------ saliency

BETA2 = 0.3
"""β² of F_β: precision weighs more than recall (Achanta et al., CVPR 2009)."""
BACKGROUND_THRESHOLDS = (0.06, 0.12)
"""The paper's: below them a pixel is background (§4.1)."""


class Saliency:
    """How well saliency maps tell objects from the rest, over images that hold an object.

    MAE and the curves behind max F_β are means over images, as saliency is usually measured; the
    background's precision and recall are of all pixels together, as they enter the masks.

    Attributes:
      images, without_object: how many were counted and how many left out, holding no object pixel.
    """

    def __init__(self):
        self.images = self.without_object = 0
        self._mae, self._precision, self._recall = 0.0, np.zeros(256), np.zeros(256)
        self._low_and_true, self._low = np.zeros([2, len(BACKGROUND_THRESHOLDS)], np.int64)
        self._true = 0

    def add(self, saliency, is_object, counted):
        """Counts one image.

        Args:
          saliency: uint8 `[H, W]`, 0..255 standing for 0..1.
          is_object, counted: bool `[H, W]`; what is not counted (void) is left out.
        """
        saliency, is_object = saliency[counted], is_object[counted]
        if not is_object.any():
            self.without_object += 1
            return
        self.images += 1
        self._mae += np.abs(saliency / 255 - is_object).mean()
        # Pixels at or above each level, from 255 down to 0.
        found = np.bincount(saliency, minlength=256)[::-1].cumsum()
        hits = np.bincount(saliency[is_object], minlength=256)[::-1].cumsum()
        self._precision += np.where(found > 0, hits / np.maximum(found, 1), 1)
        self._recall += hits / hits[-1]
        self._true += int((~is_object).sum())
        for i, threshold in enumerate(BACKGROUND_THRESHOLDS):
            low = saliency / 255 < threshold
            self._low[i] += low.sum()
            self._low_and_true[i] += (low & ~is_object).sum()

    def results(self):
        """`images`, `without_object`, `mae`, `max_f` and, by threshold, `background_precision`
        and `background_recall`; shares 0..1, None where nothing was counted."""
        if not self.images:
            return {"images": 0, "without_object": self.without_object, "mae": None, "max_f": None,
                    "background_precision": {}, "background_recall": {}}  # fmt: skip
        precision, recall = self._precision / self.images, self._recall / self.images
        weighed = BETA2 * precision + recall
        f = (1 + BETA2) * precision * recall / np.where(weighed > 0, weighed, 1)
        precisions, recalls = {}, {}
        for i, threshold in enumerate(map(str, BACKGROUND_THRESHOLDS)):
            hits = int(self._low_and_true[i])
            precisions[threshold] = _share(hits, int(self._low[i]))
            recalls[threshold] = _share(hits, self._true)
        return {
            "images": self.images,
            "without_object": self.without_object,
            "mae": float(self._mae / self.images),
            "max_f": float(f.max()),
            "background_precision": precisions,
            "background_recall": recalls,
        }
