"""S = F ∪ B: mined regions and low-saliency background, with the paper's three ignore rules."""

import numpy as np

from aepsl_tf.classes import BACKGROUND, VOID


def combine(regions, labels, saliency, background_threshold):
    """The pseudo mask of one image (§3.1); without a label, an image is all background.

    Ignored (255) are 1) pixels that regions of different classes claim, 2) low-saliency pixels
    inside a region, 3) pixels that neither a region nor the background claims.

    Args:
      regions: bool `[L, H, W]`, F of each label, merged over erase steps.
      labels: class ids `[L]`.
      saliency: float `[H, W]` in 0..1.
      background_threshold: below it a pixel is background.

    Returns:
      uint8 `[H, W]`.
    """
    if not len(labels):
        return np.full(saliency.shape, BACKGROUND, np.uint8)
    low = saliency < background_threshold
    claims = np.sum(regions, axis=0)
    mask = np.full(saliency.shape, VOID, np.uint8)  # rule 3
    mask[low & (claims == 0)] = BACKGROUND
    for region, label in zip(regions, labels, strict=True):
        mask[region & (claims == 1) & ~low] = label  # what is left out are rules 1 and 2
    return mask


def background_threshold(labels, classes, config):
    """0.06 for an image with an indoor tag, 0.12 otherwise (§4.1), as `config` sets them."""
    indoor = any(classes.indoor[label - 1] for label in labels)
    return config.indoor_background_threshold if indoor else config.background_threshold
