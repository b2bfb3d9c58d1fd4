"""Pictures for TensorBoard: what a network sees and says on the split's first images."""

import functools
import itertools

import numpy as np

from aepsl_tf.data import datasets, records, transforms
from aepsl_tf.inference import drawing
from aepsl_tf.inference.predictor import Predictor
from aepsl_tf.mining.heatmaps import Heatmaps

_COUNT = 4


def segmenter_overlays(families, classes):
    """`draw(model)`: picture, pseudo mask and prediction of the first images."""
    rows = list(itertools.islice(records.read_zipped(families), _COUNT))
    images = [transforms.decode_image(row["image/encoded"]).numpy() for row in rows]
    masks = [transforms.decode_mask(row["mask/png"]).numpy() for row in rows]
    palette = classes.palette()
    predictor_of = functools.cache(lambda model: Predictor(model, 0.0, 1 << 40))  # traced once

    def draw(model):
        predictor = predictor_of(model)
        cells = []
        for row, image, mask in zip(rows, images, masks, strict=True):
            prediction = predictor.segment(image[None])["mask"][0].numpy()
            cells.append([
                (row["image/id"], image),
                ("S", drawing.overlay(image, mask, palette)),
                ("prediction", drawing.overlay(image, prediction, palette)),
            ])  # fmt: skip
        return {"masks": np.asarray(drawing.panel(cells))}

    return draw


def classifier_heatmaps(family, fill, classes):
    """`draw(model)`: the picture as M_t sees it and the heatmap of each tag."""
    rows = list(itertools.islice(family.read(), _COUNT))
    images = [datasets.picture(row, fill).numpy() for row in rows]
    names = classes.all_names()
    heatmaps_of = functools.cache(Heatmaps)  # traced once

    def draw(model):
        heatmaps = heatmaps_of(model)
        cells = [
            [(row["image/id"], image)]
            + [(names[c], drawing.heatmap_overlay(image, h)) for c, h in
               zip(row["image/labels"], heatmaps.of(image, row["image/labels"]), strict=True)]
            for row, image in zip(rows, images, strict=True)
        ]  # fmt: skip
        return {"heatmaps": np.asarray(drawing.panel(cells))}

    return draw
