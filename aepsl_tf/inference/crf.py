"""Dense CRF: move a soft segmentation's borders to the image's. Krähenbühl & Koltun, NIPS 2011.

No TensorFlow here: the CRF runs in spawned worker processes, which must start fast and stay small.
"""

import numpy as np
from pydensecrf import densecrf

from aepsl_tf.errors import InputError


def _preset(gaussian_weight, gaussian_sxy, bilateral_weight, bilateral_sxy, bilateral_srgb):
    return {
        "iterations": 10,
        "gaussian_weight": gaussian_weight,
        "gaussian_sxy": gaussian_sxy,
        "bilateral_weight": bilateral_weight,
        "bilateral_sxy": bilateral_sxy,
        "bilateral_srgb": bilateral_srgb,
    }


PRESETS = {
    # DeepLab v1's test prototxt; the scripts that came with it have 4, 49, 5 (its paper: found by
    # cross-validation, in ranges that hold the former).
    "deeplab": _preset(3, 3, 5, 50, 10),
    "oaa": _preset(3, 1, 4, 67, 3),  # OAA, which took DeepLab v2's
    "sec": _preset(3, 3, 10, 80, 13),  # SEC and PSA
    "small": _preset(2, 3, 4, 40, 5),  # ours, for inputs of about 225 pixels
}
"""Keyword arguments of `dense_crf` by name; sxy in pixels, srgb in grey levels of 0..255."""

FLOOR = 1e-8
"""Least probability: prohibition leaves exact zeros, and -log 0 is no energy."""

# The kernels are normalised, so messages add about W = the sum of the weights, times a class's
# own share, to a log-probability: from p = 0.01 and W = 13 the mean field climbs to the fixed point
# q = p exp(W q) = 0.0116 and stays there, below the winner's share (>= 1/n of n classes, n < 86).
# Measured against carrying all 21 classes, on noisy soft versions of VOC 2012 masks with 6 to 12
# classes left out, 40 runs over the presets, 225x225 pixels and two at full size: 4 pixels differ
# in all, at most one in an image.
NEGLIGIBLE = 1e-2
"""A class whose probability peaks no higher takes no part; inference costs time by the class."""


def dense_crf(
    image,
    probabilities,
    *,
    iterations,
    gaussian_weight,
    gaussian_sxy,
    bilateral_weight,
    bilateral_sxy,
    bilateral_srgb,
):
    """The likeliest class of every pixel after mean-field inference with Potts compatibility.

    Args:
      image: uint8 `[H, W, 3]`, RGB 0..255.
      probabilities: float `[H, W, C+1]`, finite, >= 0; renormalised here. Pixels without any mass
        have no opinion and take their neighbours'.
      iterations: mean-field steps.
      gaussian_weight, gaussian_sxy: the smoothness kernel, over position alone.
      bilateral_weight, bilateral_sxy, bilateral_srgb: the appearance kernel, position and colour.

    Returns:
      uint8 `[H, W]` of class ids; the same input always gives the same mask.
    """
    _check(image, probabilities)
    height, width = image.shape[:2]
    probabilities = probabilities.astype(np.float32)
    probabilities /= np.maximum(probabilities.sum(axis=2, keepdims=True), FLOOR)

    peaks = probabilities.max(axis=(0, 1))
    kept = np.flatnonzero(peaks > NEGLIGIBLE)
    if kept.size <= 1:
        return np.full((height, width), peaks.argmax(), np.uint8)

    unary = -np.log(np.maximum(probabilities[:, :, kept], FLOOR))
    unary = np.ascontiguousarray(unary.reshape(-1, kept.size).T)
    crf = densecrf.DenseCRF2D(width, height, kept.size)
    crf.setUnaryEnergy(unary)
    crf.addPairwiseGaussian(sxy=gaussian_sxy, compat=gaussian_weight)
    crf.addPairwiseBilateral(
        sxy=bilateral_sxy,
        srgb=bilateral_srgb,
        rgbim=np.array(image, order="C"),  # a copy: pydensecrf refuses read-only arrays
        compat=bilateral_weight,
    )
    winner = np.asarray(crf.inference(iterations)).argmax(axis=0)
    return kept[winner].astype(np.uint8).reshape(height, width)


def _check(image, probabilities):
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(
            "dense_crf: image must be a non-empty uint8 [H, W, 3], "
            f"got {image.dtype} {list(image.shape)}"
        )
    if probabilities.ndim != 3 or probabilities.shape[:2] != image.shape[:2]:
        raise InputError(
            f"dense_crf: probabilities {list(probabilities.shape)} do not fit the image "
            f"{list(image.shape)}; resize them to [{image.shape[0]}, {image.shape[1]}, C+1] first"
        )
    if not np.isfinite(probabilities).all() or probabilities.min() < 0:
        raise InputError(
            "dense_crf: probabilities must be finite and >= 0; apply softmax to scores first"
        )


def settings_of(config):
    """Keyword arguments of `dense_crf` from a `config.Inference`."""
    return PRESETS[config.crf_preset] | {"iterations": config.crf_iterations}
