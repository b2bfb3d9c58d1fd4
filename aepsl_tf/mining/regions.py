"""Mined regions as they lie on disk, merged over erase steps."""

import numpy as np

from aepsl_tf.data import encoding, records


def merged(run_dir, steps, shard=None):
    """Yields (image id, labels `[L]`, F_1^c ∪ … ∪ F_steps^c as bool `[L, H, W]`) in split order."""
    families = [records.Family(run_dir.regions(step)) for step in range(1, steps + 1)]
    for rows in zip(*(family.read(shard) for family in families), strict=True):
        regions = [
            np.any([encoding.read_grey_png(png) > 0 for png in pngs], axis=0)
            for pngs in zip(*(row["regions/pngs"] for row in rows), strict=True)
        ]
        yield rows[0]["image/id"], rows[0]["image/labels"], regions
