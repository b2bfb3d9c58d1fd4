"""The CRF against pydensecrf called by hand, with every class and the numbers written out."""

import numpy as np
from pydensecrf import densecrf

from aepsl_tf.inference import crf

# Weight and sxy of the smoothness kernel; weight, sxy and srgb of the appearance kernel.
BY_HAND = {"deeplab": (3, 3, 5, 50, 10), "oaa": (3, 1, 4, 67, 3), "sec": (3, 3, 10, 80, 13),
           "small": (2, 3, 4, 40, 5)}  # fmt: skip


def scene(seed):
    """A noisy picture of three blocks of colour, and a soft segmentation that is right in most
    places; of 21 classes it gives 16 a chance anywhere.
    """
    rng = np.random.default_rng(seed)
    mask = np.zeros([40, 56], int)
    mask[8:30, 6:28], mask[14:36, 24:50] = 8, 15
    colours = rng.uniform(0, 255, [21, 3])
    image = (colours[mask] + rng.normal(0, 12, [40, 56, 3])).clip(0, 255).astype(np.uint8)
    scores = rng.normal(0, 1.5, [40, 56, 21]) + 3 * np.eye(21)[mask]
    scores[..., [1, 4, 9, 12, 20]] -= 20
    probabilities = np.exp(scores)
    return image, (probabilities / probabilities.sum(2, keepdims=True)).astype(np.float32)


def by_hand(image, probabilities, preset, iterations):
    smooth, near, appearance, far, colour = BY_HAND[preset]
    theirs = densecrf.DenseCRF2D(56, 40, 21)
    theirs.setUnaryEnergy(np.ascontiguousarray(-np.log(probabilities.reshape(-1, 21).T)))
    theirs.addPairwiseGaussian(sxy=(near, near), compat=smooth)
    theirs.addPairwiseBilateral(sxy=(far, far), srgb=(colour,) * 3, rgbim=image, compat=appearance)
    return np.argmax(theirs.inference(iterations), axis=0).reshape(40, 56)


def test_crf():
    for iterations in (2, 10):
        image, probabilities = scene(seed=iterations)
        for preset in BY_HAND:
            expected = by_hand(image, probabilities, preset, iterations)
            assert (expected != probabilities.argmax(2)).mean() > 0.05
            settings = crf.PRESETS[preset] | {"iterations": iterations}
            ours = crf.dense_crf(image, probabilities, **settings)
            # Near-ties may go the other way: floats are added in another order.
            assert (ours != expected).mean() < 0.002
