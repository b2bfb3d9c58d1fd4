"""Dense CRF: what inference must keep, what it must mend, and what may be left out of it."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from aepsl_tf.errors import InputError
from aepsl_tf.inference import crf
from aepsl_tf.inference.crf import PRESETS, dense_crf

SMALL = PRESETS["small"]


def two_colours(size=48, edge=24):
    """An image, dark left of column `edge` and light right of it, and its true mask."""
    mask = np.zeros((size, size), np.uint8)
    mask[:, edge:] = 1
    return np.where(mask, 210, 40)[:, :, None].repeat(3, axis=2).astype(np.uint8), mask


def one_hot(mask, classes):
    return np.eye(classes, dtype=np.float32)[mask]


def soft(mask, classes, blur=4, seed=0):
    """One-hot probabilities, blurred and with a little of every class everywhere."""
    noise = np.random.default_rng(seed).random((*mask.shape, classes), np.float32)
    return cv2.GaussianBlur(one_hot(mask, classes), (0, 0), blur) + 0.1 * noise


@pytest.mark.parametrize("preset", PRESETS)
def test_confident_probabilities_on_a_uniform_image_stay(preset):
    mask = two_colours()[1]
    image = np.full((48, 48, 3), 128, np.uint8)
    np.testing.assert_array_equal(dense_crf(image, one_hot(mask, 2), **PRESETS[preset]), mask)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_blurred_and_shifted_edge_moves_to_the_colour_edge(preset):
    image, mask = two_colours()
    shifted = soft(np.roll(mask, 4, axis=1) | (np.arange(48) >= 44), 2)
    before = (shifted.argmax(axis=2) != mask).mean()
    after = (dense_crf(image, shifted, **PRESETS[preset]) != mask).mean()
    assert before > 0.05
    assert after < 0.01


def test_an_isolated_error_is_outvoted():
    image, mask = two_colours()
    probabilities = np.where(one_hot(mask, 2) == 1, 0.8, 0.2)
    probabilities[10, 5] = [0.3, 0.7]
    np.testing.assert_array_equal(dense_crf(image, probabilities, **SMALL), mask)


def test_classes_that_are_zero_everywhere_change_nothing(monkeypatch):
    image, mask = two_colours()
    ids = np.array([0, 13])[mask]
    probabilities = soft(ids, 21)
    probabilities[:, :, [k for k in range(21) if k not in (0, 7, 13)]] = 0
    pruned = dense_crf(image, probabilities, **SMALL)
    assert set(np.unique(pruned)) == {0, 13}
    monkeypatch.setattr(crf, "NEGLIGIBLE", -1.0)
    np.testing.assert_array_equal(pruned, dense_crf(image, probabilities, **SMALL))


def test_negligible_classes_change_nothing(monkeypatch):
    image, mask = two_colours()
    probabilities = soft(mask * 2, 21)
    probabilities /= probabilities.sum(axis=2, keepdims=True)
    probabilities[:, :, 3:] *= 0.9 * crf.NEGLIGIBLE / probabilities[:, :, 3:].max()
    pruned = dense_crf(image, probabilities, **PRESETS["sec"])
    monkeypatch.setattr(crf, "NEGLIGIBLE", -1.0)
    np.testing.assert_array_equal(pruned, dense_crf(image, probabilities, **PRESETS["sec"]))


def test_only_classes_that_can_win_reach_the_inference(monkeypatch):
    sizes = []
    make = crf.densecrf.DenseCRF2D
    monkeypatch.setattr(
        crf.densecrf, "DenseCRF2D", lambda w, h, n: sizes.append(n) or make(w, h, n)
    )
    image, mask = two_colours()
    probabilities = one_hot(mask * 4, 21)
    dense_crf(image, probabilities, **SMALL)
    assert sizes == [2]
    # One class left: a constant mask, no inference.
    probabilities[:, :, 0] = 0
    probabilities[:, :, 4] += 1e-6
    assert (dense_crf(image, probabilities, **SMALL) == 4).all()
    assert sizes == [2]


def test_scale_of_the_probabilities_and_class_order_do_not_matter():
    image, mask = two_colours()
    probabilities = soft(mask, 3).astype(np.float64)
    result = dense_crf(image, probabilities, **SMALL)
    np.testing.assert_array_equal(dense_crf(image, 7 * probabilities, **SMALL), result)
    order = np.array([2, 0, 1])
    permuted = dense_crf(image, probabilities[:, :, order], **SMALL)
    np.testing.assert_array_equal(order[permuted], result)


def test_deterministic_and_leaves_its_inputs_alone():
    image, mask = two_colours()
    probabilities = soft(mask, 3)
    image.setflags(write=False)
    probabilities.setflags(write=False)
    first = dense_crf(image, probabilities, **SMALL)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, dense_crf(image, probabilities, **SMALL))


def test_pixels_without_mass_take_their_neighbours_class():
    image, mask = two_colours()
    probabilities = one_hot(mask, 2)
    probabilities[20:23, 30:33] = 0
    np.testing.assert_array_equal(dense_crf(image, probabilities, **SMALL), mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (2, 3)])
def test_tiny_images(shape):
    image = np.zeros((*shape, 3), np.uint8)
    probabilities = np.full((*shape, 3), [0.1, 0.2, 0.7])
    assert (dense_crf(image, probabilities, **SMALL) == 2).all()


def test_rows_and_columns_are_not_mixed_up():
    image, mask = two_colours()
    image, mask = image[:20].transpose(1, 0, 2), mask[:20].T  # not contiguous, H != W
    np.testing.assert_array_equal(dense_crf(image, one_hot(mask, 2), **SMALL), mask)


def test_bad_input_is_told():
    image, mask = two_colours()
    good = one_hot(mask, 2)
    with pytest.raises(InputError, match=r"do not fit the image.*resize them to \[48, 48, C\+1\]"):
        dense_crf(image, good[:, :-1], **SMALL)
    with pytest.raises(InputError, match="do not fit"):
        dense_crf(image, mask, **SMALL)
    with pytest.raises(InputError, match=r"uint8 \[H, W, 3\], got float64"):
        dense_crf(image / 255, good, **SMALL)
    with pytest.raises(InputError, match=r"non-empty.*\[0, 48, 3\]"):
        dense_crf(image[:0], good[:0], **SMALL)
    for value in (np.nan, np.inf, -0.1):
        bad = good.copy()
        bad[3, 3, 0] = value
        with pytest.raises(InputError, match="finite and >= 0"):
            dense_crf(image, bad, **SMALL)


def test_workers_do_not_load_tensorflow():
    code = (
        "import sys, aepsl_tf.inference.cells, aepsl_tf.evaluation.metrics, "
        "aepsl_tf.inference.drawing; sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
