"""What workers make of cells, against TensorFlow's own way."""

import io
import pickle

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from aepsl_tf import config as configs
from aepsl_tf.classes import VOC
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
    return cells.Cells(picture, logits, np.float32(weights), *positions)


@pytest.mark.parametrize("mode", ["crop", "warp"])
@pytest.mark.parametrize("size", [(33, 33), (20, 41), (1, 1), (75, 100)])
def test_interpolation_is_tensorflows_to_the_bit(mode, size):
    config = configs.Network(input=mode, input_size=33)
    one = cells_of(size, config, [1, 1, 1])
    expected = geometry.from_network(one.logits[None], tf.constant(size), config)[0]
    found = cells.interpolate(one.logits, one.rows, one.columns)
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
    logits = geometry.from_network(one.logits[None], tf.constant([20, 41]), config)
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
    assert cells.clean(None, ("a", mask, None)) == ("a", mask, None)
    row = cells.mask_row(None, ("a", (3, 3), mask))
    assert row["image/id"] == "a"
    np.testing.assert_array_equal(encoding.read_grey_png(row["mask/png"]), mask)


def test_crf_masks_are_brought_to_the_image():
    one = cells_of((20, 41), configs.Network(input="crop", input_size=33), [1, 1, 0.5])
    cleaned = cells.crf_mask(SMALL, one)
    id_, first, second = cells.clean(SMALL, ("a", np.ones((20, 41), np.uint8), one))
    assert id_ == "a" and first.all()
    np.testing.assert_array_equal(second, cleaned)
    assert cells.clean(SMALL, ("a", np.ones((40, 82), np.uint8), one))[2].shape == (40, 82)
    row = cells.mask_row(SMALL, ("a", (40, 82), one))
    large = encoding.read_grey_png(row["mask/png"])
    assert large.shape == (40, 82)
    np.testing.assert_array_equal(large[::2, ::2], cleaned)


@pytest.mark.parametrize("preset", [None, SMALL])
def test_mask_files(preset):
    one = cells_of((20, 41), configs.Network(input="crop", input_size=33), [1, 1, 0.5])
    mask = np.zeros((40, 82), np.uint8)
    mask[:, 41:] = 2
    name, png, overlay = cells.mask_files(preset, VOC.palette(), ("a", (40, 82), mask, one))
    found, shown = (np.array(Image.open(io.BytesIO(data))) for data in (png, overlay))
    assert name == "a" and found.shape == (40, 82)
    expected = mask[1::2, 1::2] if preset is None else cells.crf_mask(preset, one)
    np.testing.assert_array_equal(found[1::2, 1::2], expected)
    assert shown.shape == (20, 41, 3)  # the picture at --pixel_limit
    np.testing.assert_array_equal(shown[expected == 0], one.picture[expected == 0])
    assert (shown[expected == 2] != one.picture[expected == 2]).any(1).mean() > 0.9
