"""Mined regions as they lie on disk, merged over erase steps."""

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
