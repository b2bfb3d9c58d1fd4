"""Masks as COCO's annotations: one a class of a picture, as compressed run lengths."""

import numpy as np

from aepsl_tf.classes import BACKGROUND, VOID


def run_lengths(mask):
    """Class id → its run lengths in a mask, COCO's way: down the columns, zeros first.

    Args:
      mask: uint8 `[H, W]`.

    Returns:
      {class id: [pixels that are not of the class, that are, that are not, …]}, without background
      and void.
    """
    ids = mask.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(ids[1:] != ids[:-1]) + 1])
    ends = np.append(starts[1:], ids.size)
    found = {}
    for class_id in np.unique(ids[starts]):
        if class_id not in (BACKGROUND, VOID):
            own = ids[starts] == class_id
            borders = np.stack([starts[own], ends[own]], 1).ravel()
            lengths = np.diff(borders, prepend=0, append=ids.size).tolist()
            found[int(class_id)] = lengths if lengths[-1] else lengths[:-1]
    return found


def compressed(lengths):
    """Run lengths as COCO's text: from the third on as differences to the last but one, each in
    pieces of five bits, low ones first, the sixth bit saying that more follow, from "0" on.
    """
    text = []
    for number, length in enumerate(lengths):
        rest, more = length - (lengths[number - 2] if number > 2 else 0), True
        while more:
            piece, rest = rest & 31, rest >> 5
            more = rest != (-1 if piece & 16 else 0)
            text.append(chr(48 + (piece | (32 if more else 0))))
    return "".join(text)


def annotations(mask):
    """A mask's annotations, but for their ids: [{"category_id", "segmentation", "area", …}]."""
    found = []
    for class_id, lengths in run_lengths(mask).items():
        rows, columns = (np.flatnonzero((mask == class_id).any(axis)) for axis in (1, 0))
        x, y = int(columns[0]), int(rows[0])
        found.append({
            "category_id": class_id,
            "segmentation": {"size": list(mask.shape), "counts": compressed(lengths)},
            "area": sum(lengths[1::2]),
            "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
            "iscrowd": 0,
        })  # fmt: skip
    return found


def document(pictures, names):
    """COCO's file as a dictionary; ids count from 1.

    Args:
      pictures: (file name, (height, width), `annotations`) of each.
      names: of the classes, background first.
    """
    images, found = [], []
    for number, (name, (height, width), own) in enumerate(pictures, start=1):
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        found += [{"id": len(found) + i, "image_id": number} | one
                  for i, one in enumerate(own, start=1)]  # fmt: skip
    categories = [{"id": i, "name": name} for i, name in enumerate(names) if i != BACKGROUND]
    return {"images": images, "annotations": found, "categories": categories}
