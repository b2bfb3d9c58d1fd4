"""What workers make of cells, against TensorFlow's own way."""

import pickle

import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf.data import encoding, geometry
from aepsl_tf.inference import cells, crf
from aepsl_tf.models import losses

SMALL = crf.PRESETS["small"]


def cells_of(size, config, weights, seed=0):
    rng = np.random.default_rng(seed)
    inputs = geometry.to_network(np.zeros((1, *size, 3), np.uint8), config, 1 << 40)
    shape = [(n - 1) // 8 + 1 for n in inputs.shape[1:3]]
    logits = rng.normal(0, 4, (*shape, len(weights))).astype(np.float32)
    positions = (geometry.cell_positions(n, config).numpy() for n in size)
    picture = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    return cells.Cells(picture, np.float32(weights), (cells.Seen(logits, *positions),))


@pytest.mark.parametrize("mode", ["crop", "warp"])
@pytest.mark.parametrize("size", [(33, 33), (20, 41), (1, 1), (75, 100)])
def test_interpolation_is_tensorflows_to_the_bit(mode, size):
    config = configs.Network(input=mode, input_size=33)
    one = cells_of(size, config, [1, 1, 1])
    expected = geometry.from_network(one.views[0].logits[None], tf.constant(size), config)[0]
    found = cells.interpolate(*one.views[0])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_prohibition_is_tensorflows_to_rounding():
    logits = np.random.default_rng(0).normal(0, 30, (6, 7, 4)).astype(np.float32)
    weights = np.float32([1, 0, 0.3, 1])
    found = cells.prohibit(logits, weights)
    expected = tf.nn.softmax(losses.weigh(logits[None], weights[None]))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found[..., 1], 0)


def test_the_crf_sees_the_probabilities_of_possible_classes(monkeypatch):
    config = configs.Network(input="crop", input_size=33)
    one = cells_of((20, 41), config, [1, 0, 0.4, 0, 0.9])
    logits = geometry.from_network(one.views[0].logits[None], tf.constant([20, 41]), config)
    whole = tf.nn.softmax(losses.weigh(logits, one.weights[None]))[0].numpy()
    expected = crf.dense_crf(one.picture, whole, **SMALL)
    seen = []
    inference = crf.dense_crf
    monkeypatch.setattr(
        crf, "dense_crf", lambda image, f, **preset: seen.append(f) or inference(image, f, **preset)
    )
    np.testing.assert_array_equal(cells.crf_mask(SMALL, one), expected)
    assert set(np.unique(expected)) == {0, 2, 4}
    np.testing.assert_allclose(seen[0], whole[..., [0, 2, 4]], rtol=1e-4, atol=1e-6)


def test_cells_are_a_fraction_of_the_probabilities():
    """What a worker is sent of an image of VOC's size and classes."""
    one = cells_of((375, 500), configs.Network(input="crop"), [1] * 21)
    sent = len(pickle.dumps(one, pickle.HIGHEST_PROTOCOL)) - one.picture.nbytes
    assert sent < 0.3e6 < 375 * 500 * 21 * 4 / 50


def test_masks_without_the_crf_are_passed_on():
    mask = np.eye(3, dtype=np.uint8)
    assert cells.clean(None, ("a", (3, 3), mask, None)) == ("a", mask, None)
    row = cells.mask_row(None, ("a", (3, 3), mask, ()))
    assert row["image/id"] == "a"
    np.testing.assert_array_equal(encoding.read_grey_png(row["mask/png"]), mask)


def test_crf_masks_are_brought_to_the_image():
    one = cells_of((20, 41), configs.Network(input="crop", input_size=33), [1, 1, 0.5])
    cleaned = cells.crf_mask(SMALL, one)
    id_, first, second = cells.clean(SMALL, ("a", (20, 41), np.ones((20, 41), np.uint8), one))
    assert id_ == "a" and first.all()
    np.testing.assert_array_equal(second, cleaned)
    assert cells.clean(SMALL, ("a", (40, 82), np.ones((40, 82), np.uint8), one))[2].shape == (
        40,
        82,
    )
    row = cells.mask_row(SMALL, ("a", (40, 82), one, ()))
    large = encoding.read_grey_png(row["mask/png"])
    assert large.shape == (40, 82)
    np.testing.assert_array_equal(large[::2, ::2], cleaned)


# ------------------------------------------------------------------------------------ several views


def several(size=(20, 41), weights=(1, 0, 0.4, 0.9), scale=4.0):
    """A `Cells` of three views of different cells."""
    rng = np.random.default_rng(1)
    views = []
    for rows, columns in ((4, 7), (3, 6), (6, 10)):
        logits = rng.normal(0, scale, (rows, columns, len(weights))).astype(np.float32)
        places = (np.linspace(0, n - 1, length, dtype=np.float32)
                  for n, length in zip((rows, columns), size, strict=True))  # fmt: skip
        views.append(cells.Seen(logits, *places))
    return cells.Cells(np.zeros((*size, 3), np.uint8), np.float32(weights), tuple(views))


def mean_of(one):
    """The mean of the views' probabilities, plainly: float64 `[H, W, C+1]`."""
    total = 0
    for seen in one.views:
        f = np.exp(cells.interpolate(*seen).astype(np.float64))
        total = total + f / f.sum(-1, keepdims=True)
    return total / len(one.views)


@pytest.mark.parametrize("strip", [1, 100, 1 << 18])
def test_probabilities_are_the_mean_over_views_then_weighed(strip, monkeypatch):
    monkeypatch.setattr(cells, "_STRIP", strip)
    one = several()
    likely, possible = cells.probabilities(one)
    expected = mean_of(one) * one.weights
    expected /= expected.sum(-1, keepdims=True)
    assert possible.tolist() == [0, 2, 3] and likely.dtype == np.float32
    np.testing.assert_allclose(likely, expected[..., possible], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(cells.plain_mask(one), expected.argmax(-1))


def test_a_class_far_behind_in_every_view_still_has_its_place():
    far = np.full((2, 2, 3), -300, np.float32)
    far[..., 2] = 0
    far[..., 1] = -200
    seen = cells.Seen(far, np.float32([0, 1]), np.float32([0, 1]))
    one = cells.Cells(np.zeros((2, 2, 3), np.uint8), np.float32([1, 1, 0]), (seen, seen))
    np.testing.assert_array_equal(cells.plain_mask(one), 1)
    assert np.isfinite(cells.probabilities(one)[0]).all()


def test_several_views_compose_with_the_crf():
    one = several(scale=1.0)
    possible = one.weights > 0
    f = mean_of(one) * one.weights
    expected = crf.dense_crf(one.picture, f[..., possible], **SMALL)
    np.testing.assert_array_equal(cells.crf_mask(SMALL, one), np.flatnonzero(possible)[expected])


def test_a_mask_that_no_one_made_is_made_where_the_split_is_cleaned():
    one = several()
    plain = cells.plain_mask(one)
    for preset in (None, SMALL):
        id_, first, second = cells.clean(preset, ("a", (40, 82), None, one))
        assert id_ == "a" and first.shape == (40, 82)
        np.testing.assert_array_equal(first[::2, ::2], plain)
        assert (second is None) == (preset is None)
