"""The test policy by hand, and masks of pictures of any size."""

import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf.inference.predictor import Predictor, prohibit
from aepsl_tf.models.segmenter import Segmenter


def segmenter(**changes):
    base = dict(backbone="vgg16_small", weights="none", input_size=33)
    model = Segmenter(configs.TrainSegmenter(**base | changes), 3)
    kernel = np.random.default_rng(0).normal(0, 0.2, model.fc8_seg.kernel.shape)
    model.fc8_seg.kernel.assign(kernel.astype(np.float32))
    return model


@pytest.fixture(scope="module")
def model():
    return segmenter()


def pictures(height, width, count=1, seed=0):
    shape = (count, height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def test_prohibit_by_hand():
    f = np.array([[[0.4, 0.5, 0.1]]], np.float32)
    out = prohibit(f, np.array([0.05, 0.5], np.float32), 0.1)
    np.testing.assert_allclose(out, [[[0.4 / 0.45, 0, 0.05 / 0.45]]], rtol=1e-6)


def test_prohibit_zeroes_below_p_and_keeps_the_others_ratio():
    rng = np.random.default_rng(0)
    f = rng.dirichlet([1] * 5, (2, 4, 6)).astype(np.float32)
    v = np.array([[0.09, 0.1, 0.5, 0.31], [0.6, 0.0, 0.2, 0.05]], np.float32)
    out = prohibit(f, v, 0.1).numpy()
    np.testing.assert_allclose(out.sum(-1), 1, rtol=1e-5)
    for image, low in enumerate(([1], [2, 4])):
        np.testing.assert_array_equal(out[image][..., low], 0)
        kept = [c for c in range(1, 5) if c not in low]
        ratio = out[image][..., kept] / out[image][..., :1]
        expected = v[image][[c - 1 for c in kept]] * f[image][..., kept] / f[image][..., :1]
        np.testing.assert_allclose(ratio, expected, rtol=1e-4)


def test_prohibit_keeps_a_score_of_exactly_p():
    f = np.array([[[0.5, 0.5]]], np.float32)
    assert prohibit(f, np.array([0.25], np.float32), 0.25).numpy()[0, 0, 1] > 0


def test_p_zero_prohibits_nothing():
    f = np.array([[[0.5, 0.5]]], np.float32)
    np.testing.assert_allclose(prohibit(f, np.ones(1, np.float32), 0.0), f)


@pytest.mark.parametrize("mode", ["crop", "warp"])
def test_segment_gives_masks_of_the_pictures_size(mode):
    predictor = Predictor(segmenter(input=mode), 0.1, 4_000_000)
    for height, width in ((33, 33), (20, 41)):
        images = pictures(height, width, 2)
        out = predictor.segment(images)
        assert out["mask"].shape == (2, height, width) and out["mask"].dtype == tf.uint8
        assert out["probabilities"].shape == (2, height, width, 4)
        np.testing.assert_allclose(tf.reduce_sum(out["probabilities"], -1), 1, rtol=1e-5)
        expected = np.argmax(predictor.prohibited(out), -1)
        np.testing.assert_array_equal(out["mask"], expected)
        alone = predictor.segment(images[1:])
        np.testing.assert_allclose(
            alone["probabilities"][0], out["probabilities"][1], rtol=1e-3, atol=1e-5
        )


def test_probabilities_of_an_aligned_picture_meet_the_cells(model):
    images = pictures(33, 41)
    predictor = Predictor(model, 0.1, 4_000_000)  # tf.function holds it weakly
    out = predictor.segment(images)
    logits = model(tf.cast(images, tf.float32))["logits"]
    assert logits.shape == (1, 5, 6, 4)
    np.testing.assert_allclose(
        out["probabilities"][:, ::8, ::8], tf.nn.softmax(logits), rtol=1e-3, atol=1e-5
    )


def test_high_p_leaves_background_alone(model):
    predictor = Predictor(model, 2.0, 4_000_000)  # tf.function holds it weakly
    out = predictor.segment(pictures(33, 33))
    assert np.argmax(out["probabilities"], -1).any()  # without prohibition it is not
    assert not out["mask"].numpy().any()


def test_pixel_limit_shrinks_the_probabilities_but_not_the_mask(model):
    predictor = Predictor(model, 0.1, 600)  # tf.function holds it weakly
    out = predictor.segment(pictures(40, 60))
    assert out["mask"].shape == (1, 40, 60)
    assert out["probabilities"].shape[1:3] == (20, 30)


def test_small_pictures_are_not_touched_by_the_limit(model):
    images = pictures(20, 30)
    np.testing.assert_array_equal(Predictor(model, 0.1, 600).limited(images), images)


def test_without_a_branch_nothing_is_prohibited():
    predictor = Predictor(segmenter(psl="none"), 2.0, 4_000_000)
    out = predictor.segment(pictures(33, 33))
    assert set(out) == {"mask", "probabilities"}
    np.testing.assert_array_equal(out["mask"], np.argmax(out["probabilities"], -1))


def test_cached_features_give_the_same_outputs():
    model = segmenter(input="warp", freeze_through="pool5a")
    predictor = Predictor(model, 0.1, 4_000_000)
    image = pictures(27, 45)
    whole = predictor.segment(image)
    warped = tf.image.resize(tf.cast(image, tf.float32), [33, 33])
    cached = predictor.from_features(model.frozen(warped)[0], tf.constant([27, 45]))
    for key, value in cached.items():
        np.testing.assert_allclose(value, whole[key][0], rtol=1e-3, atol=1e-5)
