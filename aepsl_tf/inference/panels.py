"""The first images of every class, and what a run makes of them: the report's material.

Rows, pictures and masks go by the image's position in its split. Each family is read once.
"""

import functools

import numpy as np

from aepsl_tf.data import datasets, encoding, geometry, records
from aepsl_tf.inference import drawing
from aepsl_tf.inference.over_split import Reader
from aepsl_tf.inference.predictor import Predictor
from aepsl_tf.mining import heatmaps, pseudo_masks, regions


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
    """Position → row of a family, of which nothing else is read."""
    return {index: family.at(index) for index in sorted(positions)}


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


_SHOWN = 8  # lines of a figure


def over_erased(run_dir, split, steps, decode, classes, settings):
    """What later steps mined that saliency calls background, the largest first (Figure 5 b).

    Tags and saliency decide, no ground truth.

    Args:
      decode: row → uint8 `[H, W, 3]` tensor.
      settings: `background_threshold`s and `pixel_limit`.

    Returns:
      Lines for `drawing.panel`: the picture, what was mined before, and what the step took.
    """
    families = [records.Family(run_dir.family(split, name)) for name in ("images", "saliency")]
    mined, worst = regions.families(run_dir, steps), []
    for position, (image, saliency, *rows) in enumerate(records.read_rows([*families, *mined])):
        low = pseudo_masks.background_threshold(image["image/labels"], classes, settings)
        background = encoding.read_grey_png(saliency["saliency/png"]) / 255.0 < low
        found = []
        for step in range(2, steps + 1):
            before, after = regions.union(rows[: step - 1]), regions.union(rows[:step])
            for label, old, new in zip(image["image/labels"], before, after, strict=True):
                fresh = new & ~old
                wrong = np.count_nonzero(fresh & background)
                if 2 * wrong > np.count_nonzero(fresh):
                    found.append((wrong / background.size, step, label, old, fresh))
        if found:  # of an image its worst step
            share, *of_step = max(found, key=lambda one: one[:3])
            kept = sorted([*worst, (share, -position, image, *of_step)], key=lambda one: one[:2])
            worst = kept[-_SHOWN:]
    lines = []
    for share, _, row, step, label, old, fresh in reversed(worst):
        picture = geometry.limited(decode(row)[None], settings.pixel_limit)[0].numpy()
        line, name = [(row["image/id"], picture)], classes.all_names()[label]
        for title, region in (("mined before", old), (f"step {step}: {share:.0%}, {name}", fresh)):
            mask = np.where(region, label, 0).astype(np.uint8)
            mask = encoding.resize_mask(mask, *picture.shape[:2])
            line.append((title, drawing.overlay(picture, mask, classes.palette())))
        lines.append(line)
    return lines


def examples(model, images, truth, named, palette, settings):
    """Pictures that an evaluation named, what a segmenter says of them and the truth (Figure 4).

    Args:
      images, truth: families of one split.
      named: [[id, mean IoU, number in the split]].

    Returns:
      Lines for `drawing.panel`.
    """
    rows = rows_of(images, [number for *_, number in named])
    decode = functools.partial(datasets.picture, fill=datasets.fill_pixel(images))
    predicted = predictions_of(model, rows, decode, settings)
    true, lines = masks_of(truth, rows), []
    for id_, iou, number in named:
        records.check_same_id(rows[number]["image/id"], id_, images.directory)
        picture = geometry.limited(decode(rows[number])[None], settings.pixel_limit)[0].numpy()
        line = [(id_, picture)]
        for title, mask in ((f"IoU {iou:.2f}", predicted[number]), ("truth", true[number])):
            mask = encoding.resize_mask(mask, *picture.shape[:2])
            line.append((title, drawing.overlay(picture, mask, palette)))
        lines.append(line)
    return lines
