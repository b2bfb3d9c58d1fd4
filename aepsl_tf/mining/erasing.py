"""The discriminative region of Algorithm 1; erasing it is a transform (`data.transforms.erase`)."""

import numpy as np


def discriminative_region(heatmap, threshold, rule):
    """R = {H^c > δ} (Algorithm 1, line 7; §4.1 "top 20% of the largest value").

    Args:
      heatmap: float `[H, W]` at image size.
      threshold: δ.
      rule: `fraction_of_max`: above δ·max, nothing where no value is positive;
        `top_pixels`: the δ share of pixels with the largest values.

    Returns:
      bool `[H, W]`.
    """
    heatmap = np.asarray(heatmap)
    if rule == "fraction_of_max":
        peak = heatmap.max()
        return (heatmap > threshold * peak) & (peak > 0)
    if rule == "top_pixels":
        count = round(threshold * heatmap.size)
        region = np.zeros(heatmap.size, bool)
        if count:
            region[np.argpartition(-heatmap.ravel(), count - 1)[:count]] = True
        return region.reshape(heatmap.shape)
    raise ValueError(f"rule: expected fraction_of_max or top_pixels, got {rule!r}")
