"""Mined regions as they lie on disk, merged over erase steps; what their classifier knows."""

import collections

import numpy as np

from aepsl_tf.data import encoding, records


def families(run_dir, steps):
    """The regions of steps 1 to `steps`."""
    return [records.Family(run_dir.regions(step)) for step in range(1, steps + 1)]


def union(rows):
    """F_1^c ∪ … ∪ F_t^c as bools `[L, H, W]`, from the rows of one image, a row a step."""
    return [
        np.any([encoding.read_grey_png(png) > 0 for png in pngs], axis=0)
        for pngs in zip(*(row["regions/pngs"] for row in rows), strict=True)
    ]


def merged(run_dir, steps, shard=None):
    """Yields (image id, labels `[L]`, their `union`) in split order."""
    for rows in records.read_rows(families(run_dir, steps), shard):
        yield rows[0]["image/id"], rows[0]["image/labels"], union(rows)


_ENOUGH = 10  # images of a class to say something by


def lost(rows, label_loss):
    """Classes that a classifier does not know, by its scores of the images that have them: those
    whose mean is below half of what is best of scores that are the same for every image.

    Args:
      rows: of a family of regions; those that older versions wrote, without scores, do not count.
      label_loss: the classifier's.

    Returns:
      {class id: (mean score, the best one that knows nothing of an image)}; nothing of a class of
      fewer than ten images.
    """
    from aepsl_tf.models import losses

    images, own = 0, collections.defaultdict(list)
    for row in rows:
        labels, scores = row["image/labels"], row["regions/scores"]
        if labels and not scores:
            continue
        images += 1
        for c, score in zip(labels, scores, strict=True):
            own[c].append((score / 1000, losses.target_of_each(len(labels), label_loss)))
    found = {}
    for c, of_class in sorted(own.items()):
        score, target = np.mean(of_class, axis=0)
        blind = target * len(of_class) / images
        if len(of_class) >= _ENOUGH and score < blind / 2:
            found[c] = float(score), float(blind)
    return found
