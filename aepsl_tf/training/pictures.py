"""Pictures for TensorBoard: what a network sees and says on the split's first images."""

import functools
import itertools

import numpy as np

from aepsl_tf.data import datasets, encoding, records
from aepsl_tf.inference import drawing
from aepsl_tf.inference.over_split import Reader
from aepsl_tf.inference.predictor import Predictor
from aepsl_tf.mining import heatmaps

_COUNT = 4


def _reader(model, cells, rows, fill):
    """`read()`: `Reader.read` of the rows with the weights as they are. Where a training has its
    frozen features cached, it computes these but once, too.
    """
    config = model.config
    reader = Reader(model, cells, config.pixel_limit, trained=False)

    def decode(row):
        return datasets.picture(row, fill)

    @functools.cache
    def features():
        frozen = Reader(model, lambda f: {"features": f}, config.pixel_limit, trained=False)
        return [found["features"] for _, _, found in frozen.read(rows, decode)]

    return lambda: reader.read(rows, decode, features() if config.cache_features else None)


def segmenter_overlays(model, families, classes):
    """`draw()`: picture, pseudo mask and prediction (by the run's policy) of the first images."""
    rows = list(itertools.islice(records.read_zipped(families), _COUNT))
    palette, predictor = classes.palette(), Predictor(model, model.config)
    read = _reader(model, model.cells, rows, None)

    def draw():
        cells = []
        for row, picture, outputs in read():
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
    read = _reader(model, heatmaps.cells(model), rows, fill)

    def draw():
        cells = []
        for row, picture, outputs in read():
            labels = row["image/labels"]
            maps = heatmaps.at_size(outputs["heatmaps"], labels, picture.shape[:2], config)
            cells.append([(row["image/id"], picture)] + [
                (names[c], drawing.heatmap_overlay(picture, heatmap))
                for c, heatmap in zip(labels, maps, strict=True)
            ])  # fmt: skip
        return {"heatmaps": np.asarray(drawing.panel(cells))}

    return draw
