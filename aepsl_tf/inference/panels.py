"""The first images of every class, and what a run makes of them: the report's material.

Rows, pictures and masks go by the image's position in its split. Each family is read once.
"""

import numpy as np

from aepsl_tf.data import encoding, geometry
from aepsl_tf.inference import drawing
from aepsl_tf.inference.over_split import Reader
from aepsl_tf.inference.predictor import Predictor
from aepsl_tf.mining import heatmaps


def choose(images, num_classes, count):
    """Position → row of the first `count` images of every class of an images family."""
    chosen, seen = {}, np.zeros(num_classes + 1, int)
    for index, row in enumerate(images.read()):
        labels = np.array(row["image/labels"], int)
        if labels.size and (seen[labels] < count).any():
            chosen[index] = row
            seen[labels] += 1
    return chosen


def rows_of(family, positions):
    """Position → row of a family."""
    return {index: row for index, row in enumerate(family.read()) if index in positions}


def masks_of(family, positions):
    """Position → mask uint8 `[H, W]` of a family of masks or of ground truth."""
    rows = rows_of(family, positions)
    return {index: encoding.read_grey_png(row["mask/png"]) for index, row in rows.items()}


def heatmaps_of(model, rows, decode, pixel_limit):
    """Position → {class id: heatmap over the picture, for the image's tags}.

    Args:
      model: a `Classifier`.
      rows: position → row.
      decode: row → uint8 `[H, W, 3]` tensor.
    """
    drawn, read = {}, Reader(model, heatmaps.cells(model), pixel_limit).read(rows.values(), decode)
    for index, (row, picture, cells) in zip(rows, read, strict=True):
        labels, size = row["image/labels"], picture.shape[:2]
        maps = heatmaps.at_size(cells["heatmaps"], labels, size, model.config)
        drawn[index] = {
            label: drawing.heatmap_overlay(picture, heatmap)
            for label, heatmap in zip(labels, maps, strict=True)
        }
    return drawn


def predictions_of(model, rows, decode, settings):
    """Position → mask uint8 `[H, W]` by a `Segmenter`, for a picture at --pixel_limit."""
    predictor = Predictor(model, settings)
    read = Reader(model, model.cells, settings.pixel_limit).read(rows.values(), decode)
    return {
        index: predictor.mask_of(cells, picture.shape[:2])
        for index, (_, picture, cells) in zip(rows, read, strict=True)
    }


def lines(rows, decode, heats, masks, palette, pixel_limit):
    """Position → (row, `line(class id)`): the (caption, picture)s of one image for one class.

    Args:
      heats: title → `heatmaps_of`.
      masks: title → `masks_of` or `predictions_of`, of any size.
    """

    def line_of(index, row):
        picture = geometry.limited(decode(row)[None], pixel_limit)[0].numpy()
        after = [
            (title, drawing.overlay(
                picture, encoding.resize_mask(mask[index], *picture.shape[:2]), palette))
            for title, mask in masks.items()
        ]  # fmt: skip

        def line(class_id):
            drawn = [(title, heat[index][class_id]) for title, heat in heats.items()]
            return [(row["image/id"], picture), *drawn, *after]

        return row, line

    return {index: line_of(index, row) for index, row in rows.items()}
