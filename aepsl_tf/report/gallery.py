"""The pictures that one slides through: layers of small pictures, as files and a list of them.

`gallery.json`: pictures, each with its id, split, tags (class ids), the mean IoU of its objects
(null without truth), what was judged so, and its layers, [title, erase step or null, file].
"""

import collections
import dataclasses
import io

import numpy as np
from PIL import Image

from aepsl_tf.data import encoding, geometry
from aepsl_tf.evaluation import metrics, verdict
from aepsl_tf.files import read_json, sealed, write_atomic
from aepsl_tf.inference import drawing
from aepsl_tf.mining import regions

SIDE = 320
"""Pixels of a layer's longer side."""
BUDGET = 10_000_000
"""Bytes of all layers; in a page, as base64, they take a third more."""
_PICTURE = {"id": str, "split": str, "tags": [int], "iou": (float, None), "judged": str,
            "layers": [[(str, int, None)]]}  # fmt: skip


@dataclasses.dataclass
class Seen:
    """What a run makes of some training images; each by position in the split.

    Attributes:
      heats: of each erase step, `panels.heatmaps_of`.
      erased: of each step, the row that its classifier saw.
      regions: of each step, the row of its regions.
      step_masks: of each step, the masks S of the steps up to it, or None where there are none.
      masks: title → masks: S that was trained on, a prediction, the truth.
    """

    heats: list
    erased: list
    regions: list
    step_masks: list
    masks: dict


def of_training(split, rows, decode, seen, classes, pixel_limit):
    """Yields `write`'s items of training images, the first ones of every class before the second.

    Args:
      rows: position → row.
      decode: row → uint8 `[H, W, 3]` tensor; erased rows too.
      seen: `Seen` of them; its "Truth" judges the last of its other masks.
    """
    palette, names = classes.palette(), classes.all_names()
    for index in _fair(rows):
        row = rows[index]
        shown = [("Picture", None, _picture(decode, row, pixel_limit))]
        picture = shown[0][2]
        for step, heats in enumerate(seen.heats, start=1):
            if step > 1:
                erased = _picture(decode, seen.erased[step - 1][index], pixel_limit)
                shown.append((f"Erased before step {step}", step, erased))
            shown += [(f"Heatmap of {names[label]}", step, heat)
                      for label, heat in heats[index].items()]  # fmt: skip
            mined = _mined([rows[index] for rows in seen.regions[:step]])
            till = verdict.merged(step)
            shown.append((f"Mined by {till}", step, _tinted(picture, mined, palette)))
            if seen.step_masks[step - 1]:
                mask = seen.step_masks[step - 1][index]
                shown.append((f"Mask S of {till}", step, _tinted(picture, mask, palette)))
        shown += [(title, None, _tinted(picture, masks[index], palette))
                  for title, masks in seen.masks.items()]  # fmt: skip
        judged, iou = _judged(seen.masks, index, len(names))
        yield {"id": row["image/id"], "split": split, "tags": row["image/labels"], "iou": iou,
               "judged": judged, "layers": shown}  # fmt: skip


def _judged(masks, index, num_classes):
    """(title, mean IoU of the objects or None) of the last of an image's masks but the truth."""
    titles = [title for title in masks if title != "Truth"]
    if not titles or "Truth" not in masks:
        return "", None
    truth = masks["Truth"][index]
    said = encoding.resize_mask(masks[titles[-1]][index], *truth.shape)
    return titles[-1], metrics.mean_iou_of_objects(truth, said, num_classes)


def of_examples(split, rows, named, lines, title):
    """Yields `write`'s items of `panels.examples`: pictures that an evaluation named.

    Args:
      rows: position → row.
      named: [[id, mean IoU, position]], as `lines`.
      title: of the prediction.
    """
    for (id_, iou, number), line in zip(named, lines, strict=True):
        titles = ("Picture", title, "Truth")
        layers = [(t, None, picture) for t, (_, picture) in zip(titles, line, strict=True)]
        yield {"id": id_, "split": split, "tags": rows[number]["image/labels"], "iou": iou,
               "judged": title, "layers": layers}  # fmt: skip


def write(folder, items):
    """`gallery.json` and its files; items for which `BUDGET` has no room are left out."""
    (folder / "gallery").mkdir(exist_ok=True)
    pictures, size, left_out = [], 0, 0
    for number, item in enumerate(items):
        encoded = [_webp(picture) for _, _, picture in item["layers"]]
        size += sum(map(len, encoded))
        if size > BUDGET:
            left_out += 1
            continue
        layers = []
        for place, ((title, step, _), webp) in enumerate(zip(item["layers"], encoded, strict=True)):
            name = f"gallery/{number:04}_{place:02}.webp"
            (folder / name).write_bytes(webp)
            layers.append([title, step, name])
        pictures.append(item | {"tags": [int(t) for t in item["tags"]], "layers": layers})
    write_atomic(folder / "gallery.json", sealed({"pictures": pictures, "left_out": left_out}))


def read(folder):
    """(pictures, how many were left out), as `write` made them; of an older report ([], 0)."""
    shape = {"pictures": [_PICTURE], "left_out": int}
    try:
        advice = f"remove {folder} and make the report again"
        found = read_json(folder / "gallery.json", shape, advice)
    except FileNotFoundError:
        return [], 0
    return found["pictures"], found["left_out"]


def _fair(rows):
    """Positions: of every class the first, then of every class the second, …"""
    seen, ranked = collections.Counter(), []
    for index, row in rows.items():
        labels = row["image/labels"]
        ranked.append((min((seen[label] for label in labels), default=0), index))
        seen.update(labels)
    return [index for _, index in sorted(ranked)]


def _picture(decode, row, pixel_limit):
    return geometry.limited(decode(row)[None], pixel_limit)[0].numpy()


def _mined(rows):
    """The regions of one image, a row a step, as a mask of class ids."""
    labels, mined = rows[0]["image/labels"], regions.union(rows)
    mask = np.zeros(mined[0].shape, np.uint8)
    for label, region in zip(labels, mined, strict=True):
        mask[region] = label
    return mask


def _tinted(picture, mask, palette):
    return drawing.overlay(picture, encoding.resize_mask(mask, *picture.shape[:2]), palette)


def _webp(picture):
    small, encoded = Image.fromarray(picture), io.BytesIO()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    small.save(encoded, "WEBP", quality=72, method=4)
    return encoded.getvalue()
