"""What is compared with ground truth, image by image: a model's masks, given masks, mined regions.

Each function returns `metrics.Confusion`s by suffix of the result's name: "", and "_crf" after the
CRF. Ground truth is a family that the caller opens.
"""

import functools

import numpy as np

from aepsl_tf.classes import VOID
from aepsl_tf.data import datasets, encoding, records, runners
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation import metrics
from aepsl_tf.inference import cells, crf
from aepsl_tf.inference.over_split import Reader, over_split
from aepsl_tf.inference.predictor import Predictor, views_of
from aepsl_tf.mining import regions
from aepsl_tf.models import model_dir
from aepsl_tf.progress import progress


def _compare(truth, masks, num_classes):
    """Confusions of (id, mask, …) against the truth family, one a mask; None is left out."""
    found = {}
    with progress(truth.images, "evaluate") as bar:
        for row, (id_, *several) in zip(truth.read(), masks, strict=True):
            records.check_same_id(row["image/id"], id_, truth.directory)
            expected = encoding.read_grey_png(row["mask/png"])
            for suffix, mask in zip(("", "_crf"), several, strict=False):
                if mask is not None:
                    confusion = found.setdefault(suffix, metrics.Confusion(num_classes))
                    confusion.add(expected, mask, id_)
            bar.update()
    return found


def of_masks(masks, truth, num_classes):
    """A family of masks."""
    pairs = ((r["image/id"], encoding.read_grey_png(r["mask/png"])) for r in masks.read())
    return _compare(truth, pairs, num_classes)


def of_regions(run_dir, steps, truth, num_classes):
    """The union of the steps; what no region claims is background, conflicts are void."""

    def pairs():
        found = regions.merged(run_dir, steps)
        for row, (id_, labels, mined) in zip(truth.read(), found, strict=True):
            mask = np.zeros_like(encoding.read_grey_png(row["mask/png"]))
            for label, region in zip(labels, mined, strict=True):
                mask[region] = np.where(mask[region] == 0, label, VOID)
            yield id_, mask

    return _compare(truth, pairs(), num_classes)


def of_model(settings, run_dir, truth, num_classes, workers):
    """A segmenter on a split, without and, with --crf, with the CRF, from one pass.

    Raises:
      InputError: --with_tags of a model without scores or a split without tags.
    """
    model = model_dir.load(run_dir.model(settings.model))
    images = records.Family(run_dir.family(settings.split, "images"))
    if settings.with_tags and not model.has_scores:
        raise InputError(
            f"--with_tags: {settings.model} was trained with --psl=none and takes no scores"
        )
    if settings.with_tags and not any(row["image/labels"] for row in images.read()):
        raise InputError(
            f"--with_tags: split {settings.split} has no tags; write it again with --tags_from, "
            "or evaluate without --with_tags"
        )
    views = views_of(settings.multi_scale, settings.flip)
    predictor = Predictor(model, settings, views)
    # One picture at a time, as the exported model is asked: its masks, bit for bit, but where the
    # feature cache, which is filled in batches, gives features of other last bits.
    reader = Reader(model, model.cells, settings.pixel_limit, batch=1, views=views)

    def items(read):
        for row, picture, outputs in read():
            if settings.with_tags:
                tagged = np.isin(np.arange(1, num_classes), row["image/labels"])
                outputs = [cells | {"scores": tagged.astype(np.float32)} for cells in outputs]
            weights, size = predictor.weights(*outputs), (row["image/height"], row["image/width"])
            logits = [cells["logits"] for cells in outputs]
            mask = predictor.mask(*logits, weights, size).numpy() if predictor.is_plain else None
            yield row["image/id"], size, mask, predictor.to_worker(picture, weights, *logits)

    clean = functools.partial(cells.clean, crf.settings_of(settings) if settings.crf else None)
    with over_split(reader, run_dir, images, datasets.fill_pixel(images)) as read:
        busy = settings.crf or not predictor.is_plain
        masks = runners.ordered_map(clean, items(read), workers if busy else 1)
        return _compare(truth, masks, num_classes)
