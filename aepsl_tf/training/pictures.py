"""Pictures for TensorBoard: what a network sees and says on the split's first images."""

import itertools

import numpy as np

from aepsl_tf.data import datasets, encoding, records
from aepsl_tf.inference import drawing
from aepsl_tf.inference.over_split import Reader
from aepsl_tf.inference.predictor import Predictor
from aepsl_tf.mining import heatmaps

_COUNT = 4


def segmenter_overlays(model, families, classes):
    """`draw()`: picture, pseudo mask and prediction (by the run's policy) of the first images."""
    rows = list(itertools.islice(records.read_zipped(families), _COUNT))
    palette, config = classes.palette(), model.config
    predictor = Predictor(model, config)
    reader = Reader(model, model.cells, config.pixel_limit, trained=False)

    def draw():
        cells = []
        for row, picture, outputs in reader.read(rows, lambda row: datasets.picture(row, None)):
            size = picture.shape[:2]
            pseudo = encoding.resize_mask(encoding.read_grey_png(row["mask/png"]), *size)
            predicted = predictor.mask_of(outputs, size)
            cells.append([
                (row["image/id"], picture),
                ("S", drawing.overlay(picture, pseudo, palette)),
                ("prediction", drawing.overlay(picture, predicted, palette)),
            ])  # fmt: skip
        return {"masks": np.asarray(drawing.panel(cells))}

    return draw


def classifier_heatmaps(model, family, fill, classes):
    """`draw()`: the picture as M_t sees it and the heatmap of each tag."""
    rows = list(itertools.islice(family.read(), _COUNT))
    names, config = classes.all_names(), model.config
    reader = Reader(model, heatmaps.cells(model), config.pixel_limit, trained=False)

    def draw():
        cells = []
        for row, picture, outputs in reader.read(rows, lambda row: datasets.picture(row, fill)):
            labels = row["image/labels"]
            maps = heatmaps.at_size(outputs["heatmaps"], labels, picture.shape[:2], config)
            cells.append([(row["image/id"], picture)] + [
                (names[c], drawing.heatmap_overlay(picture, heatmap))
                for c, heatmap in zip(labels, maps, strict=True)
            ])  # fmt: skip
        return {"heatmaps": np.asarray(drawing.panel(cells))}

    return draw
