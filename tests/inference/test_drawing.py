"""Pictures change where they should and nowhere else."""

import io

import numpy as np
import pytest

from aepsl_tf.classes import VOC, VOID
from aepsl_tf.errors import InputError
from aepsl_tf.inference.drawing import (
    curves,
    heatmap_overlay,
    overlay,
    panel,
)

PALETTE = VOC.palette()


def png(picture):
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def noise(height=40, width=60):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_overlay_leaves_the_background_and_tints_the_rest():
    image = noise()
    mask = np.zeros((40, 60), np.uint8)
    mask[5:25, 5:30] = 12
    mask[5:25, 30:50] = VOID
    drawn = overlay(image, mask, PALETTE, alpha=0.5)
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn[mask == 0], image[mask == 0])
    expected = image[6:24, 6:29] / 2 + PALETTE[12] / 2
    np.testing.assert_allclose(drawn[6:24, 6:29], expected, atol=0.51)
    edge = 0.3 * (image[5:25, 5] / 2 + PALETTE[12] / 2)
    np.testing.assert_allclose(drawn[5:25, 5], edge, atol=0.51)
    assert (drawn[mask == VOID] != image[mask == VOID]).any(axis=1).mean() > 0.9


def test_overlay_is_transparent_at_alpha_zero_inside_classes():
    image = noise()
    np.testing.assert_array_equal(overlay(image, np.full((40, 60), 3, np.uint8), PALETTE, 0), image)


def test_heatmap_grows_with_heat_and_ignores_negatives_and_scale():
    image = np.full((10, 20, 3), 128, np.uint8)
    heat = np.tile(np.linspace(-1, 1, 20), (10, 1))
    drawn = heatmap_overlay(image, heat)
    np.testing.assert_array_equal(drawn, heatmap_overlay(image, 37 * heat.astype(np.float32)))
    assert (drawn[:, :10] == drawn[0, 0]).all()  # negative is cold
    red, _, blue = drawn[0, -1].astype(int)
    assert red > blue + 50
    cold = drawn[0, 0].astype(int)
    assert abs(cold - 128).max() < 40
    np.testing.assert_array_equal(heatmap_overlay(image, -np.ones((10, 20)))[0, 0], drawn[0, 0])


def test_sizes_must_agree():
    with pytest.raises(InputError, match=r"mask \[2, 2\] on an image \[40, 60, 3\]"):
        overlay(noise(), np.zeros((2, 2), np.uint8), PALETTE)
    with pytest.raises(InputError, match=r"heatmap \[2, 2\]"):
        heatmap_overlay(noise(), np.zeros((2, 2)))


def test_panel_fits_ragged_rows_and_shows_every_picture():
    red = np.full((30, 60, 3), (255, 0, 0), np.uint8)
    blue = np.full((90, 20, 3), (0, 0, 255), np.uint8)
    sheet = panel([[("a", red), ("a caption far too long for its cell", blue)], [("c", red)]], 80)
    titled = panel([[("a", red)]], 80, title="A title")
    assert sheet.dtype == np.uint8
    assert (sheet[0] == 255).all() and (sheet[:, 0] == 255).all()
    assert (sheet == (255, 0, 0)).all(axis=2).sum() == 2 * 80 * 40
    assert (sheet == (0, 0, 255)).all(axis=2).sum() == 80 * 18
    assert (titled[:20] < 128).any()
    np.testing.assert_array_equal(titled, panel([[("a", red)]], 80, title="A title"))


def test_panel_without_pictures_is_an_empty_sheet():
    assert (panel([]) == 255).all()
    assert (panel([[]]) == 255).all()


def test_curves_rise_where_the_numbers_do():
    """Axes from 0 to the largest number."""
    rising = curves({"a": [0.0, 1.0, 2.0]}, "t", "epoch", size=(400, 300))
    assert rising.shape == (300, 400, 3)
    line = (rising == (214, 39, 40)).all(-1)
    rows, columns = np.nonzero(line[:, : 400 - 130])
    first, last = rows[columns == columns.min() + 3], rows[columns == columns.max() - 3]
    assert first.min() > 240 and last.max() < 60


def test_curves_of_one_number_and_of_different_lengths():
    curves({"a": [0.0]}, "t", "epoch")
    curves({"a": [1.0], "b": [0.5, 0.25]}, "t" * 300, "epoch")
