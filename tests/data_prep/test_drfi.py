"""DRFI: descriptors by hand, the forest against its maker, regions, model files, odd images."""

import hashlib
import io
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from conftest import disk
from PIL import Image
from sklearn.ensemble import RandomForestRegressor

from aepsl_tf.data import encoding
from aepsl_tf.errors import InputError
from data_prep.saliency import descriptors, drfi, forest, methods

ROOT = pathlib.Path(__file__).parents[2]
COLUMN = {name: i for i, name in enumerate(descriptors.NAMES)}


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def stripes(*widths, colours=((255, 0, 0), (0, 0, 255), (0, 255, 0)), height=20):
    """Upright stripes of plain colours, and their labels."""
    labels = np.repeat(np.repeat(np.arange(len(widths)), widths)[None], height, 0)
    return np.uint8(colours)[labels], labels


def describe(image, labels):
    pixels = descriptors.measure(image)
    sums = descriptors.region_sums(pixels, labels)
    return descriptors.describe(sums, descriptors.frame_sums(pixels))


# ----------------------------------------------------------------------------------- descriptors


def test_there_are_as_many_descriptors_as_published():
    kinds = [name.split("_")[0] for name in descriptors.NAMES]
    assert len(set(descriptors.NAMES)) == 93 + 4
    assert descriptors.NAMES[92] == "neighbour_area"
    assert kinds.count("contrast") == kinds.count("background") == 29


def test_two_stripes_by_hand():
    image, labels = stripes(10, 30)
    rows = describe(image, labels)
    assert rows.dtype == np.float32
    red, blue = rows
    expected = {
        "contrast_mean_r": 1, "contrast_mean_g": 0, "contrast_mean_b": 1,
        "contrast_mean_saturation": 0, "contrast_mean_hue": 2 / 3,
        "contrast_histogram_rgb": 1, "contrast_histogram_hsv": 1, "contrast_histogram_lab": 1,
        "x_mean": 4.5 / 40, "y_mean": 9.5 / 20, "x_10": 0, "x_90": 8 / 40, "y_90": 17 / 20,
        # 20 pixels along the other stripe, 38 on the image's edge, corners counted once.
        "perimeter": (20 + 38) / 120, "aspect": 0.5,
        "variance_r": 0, "variance_l": 0, "area": 0.25, "neighbour_area": 0.75,
    }  # fmt: skip
    for name, value in expected.items():
        assert red[COLUMN[name]] == pytest.approx(value, abs=1e-6), name
    assert blue[COLUMN["contrast_mean_r"]] == 1
    assert blue[COLUMN["aspect"]] == 1.5
    assert blue[COLUMN["x_mean"]] == pytest.approx(24.5 / 40)


def test_backgroundness_is_the_difference_from_the_frame():
    image = np.full((40, 40, 3), (0, 0, 255), np.uint8)
    image[10:30, 10:30] = (255, 0, 0)  # away from the frame, which is 2 pixels wide here
    labels = (image[..., 0] > 0).astype(int)
    ground, square = describe(image, labels)
    for name in ("mean_r", "mean_b", "histogram_rgb"):
        assert ground[COLUMN[f"background_{name}"]] == 0
        assert square[COLUMN[f"background_{name}"]] == 1


def test_neighbours_count_by_their_area_and_others_do_not():
    image, labels = stripes(10, 10, 30, colours=((255, 0, 0), (0, 0, 0), (0, 0, 0)))
    image[:, 20:] = (51, 0, 0)
    left, middle, right = describe(image, labels)[:, COLUMN["contrast_mean_r"]]
    assert left == pytest.approx(1)  # black alone is its neighbour
    assert middle == pytest.approx(0.25 * 1 + 0.75 * 0.2)
    assert right == pytest.approx(0.2)


def test_sums_of_merged_regions_are_those_of_the_merged_labels():
    image = noise(24, 30)
    labels = (np.arange(24)[:, None] // 6) * 5 + np.arange(30) // 6
    groups = np.random.default_rng(1).permutation(np.arange(20) % 7)
    pixels = descriptors.measure(image)
    merged = descriptors.merge_sums(descriptors.region_sums(pixels, labels), groups)
    direct = descriptors.region_sums(pixels, groups[labels])
    np.testing.assert_allclose(merged.table, direct.table, rtol=1e-6)
    np.testing.assert_array_equal(merged.borders, direct.borders)


def test_the_numbering_of_regions_does_not_matter():
    image, order = noise(20, 30), np.array([3, 0, 4, 1, 2])
    labels = np.repeat(np.arange(30)[None] // 6, 20, 0)
    rows = describe(image, labels)
    np.testing.assert_allclose(describe(image, order[labels])[order], rows, atol=1e-5)


def test_variance_is_of_the_pixels():
    image = np.zeros((10, 10, 3), np.uint8)
    image[:5] = 255
    row = describe(image, np.zeros((10, 10), int))[0]
    assert row[COLUMN["variance_r"]] == pytest.approx(0.25)
    assert row[COLUMN["variance_hue"]] == 0


def test_a_single_region_has_no_contrast():
    row = describe(noise(9, 9), np.zeros((9, 9), int))[0]
    assert not row[:29].any()
    assert row[COLUMN["area"]] == 1
    assert np.isfinite(row).all()


def test_hold_on_the_edge_by_hand():
    image = np.full((20, 20, 3), 128, np.uint8)
    image[5:15, 5:15] = 255
    image[8:12, 8:12] = 128  # an island that looks like the ground
    labels = (image[..., 0] == 255).astype(int)
    labels[8:12, 8:12] = 2
    names = ("edge_share", "edge_length", "edge_connectivity", "from_centre")
    ground, ring, island = describe(image, labels)[:, [COLUMN[n] for n in names]]
    np.testing.assert_allclose(
        ground[:3], [76 / (76 + 40), 76 / 300**0.5, 76 / 316**0.5], rtol=1e-5
    )
    np.testing.assert_allclose(ring[:3], 0, atol=1e-3)
    np.testing.assert_allclose(island[:3], [0, 0, 76 / 316**0.5], rtol=1e-3)
    np.testing.assert_allclose([ground[3], ring[3], island[3]], np.hypot(0.025, 0.025), rtol=1e-5)


def test_local_binary_pattern_by_hand():
    grey = np.uint8([[9, 1, 1], [1, 5, 1], [5, 1, 1]])
    # From the upper left clockwise: bit 0 is the 9, bit 6 the other 5 (equal counts as bright).
    assert descriptors.local_binary_pattern(grey)[1, 1] == 1 << 0 | 1 << 6
    assert (descriptors.local_binary_pattern(np.full((4, 5), 7, np.uint8)) == 255).all()


def test_filters_ignore_plain_grey_and_know_directions():
    bank = descriptors.filter_bank()
    assert len(bank) == 15
    for kernel in bank:
        assert kernel.sum() == pytest.approx(0, abs=1e-5)
        assert np.abs(kernel).sum() == pytest.approx(1, abs=1e-5)
    step = np.zeros((19, 19), np.float32)
    step[:, 10:] = 1
    answers = [abs((kernel * step).sum()) for kernel in bank]
    assert np.argmax(answers[:6]) == 0  # across an upright edge
    assert answers[3] == pytest.approx(0, abs=1e-3)  # along it


# ---------------------------------------------------------------------------------------- forest


@pytest.fixture(scope="module")
def grown():
    """A scikit-learn forest, its arrays, and rows to ask."""
    rng = np.random.default_rng(0)
    rows = rng.random((600, 93)).astype(np.float32)
    truth = (rows[:, 3] + rows[:, 7] ** 2 > 0.9).astype(float)
    regressor = RandomForestRegressor(12, min_samples_leaf=3, random_state=0).fit(rows, truth)
    return regressor, forest.from_trees([t.tree_ for t in regressor.estimators_]), rows


def test_forest_answers_like_the_one_it_was_made_from(grown):
    regressor, arrays, rows = grown
    others = np.random.default_rng(1).random((200, 93)).astype(np.float32)
    for asked in (rows, others, others[:1]):
        np.testing.assert_allclose(arrays.predict(asked), regressor.predict(asked), atol=1e-6)


def test_a_value_at_the_threshold_goes_left(grown):
    _, arrays, _ = grown
    root = arrays.roots[0]
    row = np.full((1, 93), 0.5, np.float32)
    stump = forest.Forest(
        np.int32([0]), np.int32([1, 1, 2]), np.uint8([4, 0, 0]),
        np.float32([arrays.threshold[root], np.inf, np.inf]), np.float32([0, 10, 20]),
    )  # fmt: skip
    row[0, 4] = stump.threshold[0]
    assert stump.predict(row) == 10
    row[0, 4] = np.nextafter(stump.threshold[0], np.float32(np.inf))
    assert stump.predict(row) == 20


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("child", 0, 10**6, "outside"),
        ("child", -1, 0, "outside"),  # back to the root: a walk without an end
        ("roots", 0, -1, "outside"),
        ("feature", 0, 93, "outside"),
        ("threshold", 0, np.nan, "finite"),
        ("value", -1, np.inf, "finite"),
    ],
)
def test_check_refuses_forests_that_lead_astray(grown, name, place, value, message):
    arrays = {k: v.copy() for k, v in grown[1].arrays().items()}
    forest.Forest(**arrays).check(93)
    arrays[name][place] = value
    with pytest.raises(ValueError, match=message):
        forest.Forest(**arrays).check(93)


# ------------------------------------------------------------------------ regions and their fusion


def test_segment_separates_plain_colours():
    image, labels = stripes(30, 50, 40, height=60)
    found = drfi.segment(image)
    assert sorted(np.unique(found)) == list(range(found.max() + 1))
    inner = np.s_[:, 5:25], np.s_[:, 40:70], np.s_[:, 90:110]  # the smoothing blurs the seams
    for part in inner:
        assert len(np.unique(found[part])) == 1
    assert len({found[part][0, 0] for part in inner}) == 3
    assert labels.shape == found.shape


def test_merging_joins_more_and_similar_ones_first():
    image, labels = stripes(20, 20, 20, colours=((0, 0, 0), (20, 20, 20), (255, 255, 255)))
    sums = descriptors.region_sums(descriptors.measure(image), labels)
    assert len(set(drfi.merge(sums, 0.0))) == 3
    one, two, three = drfi.merge(sums, 0.05)
    assert one == two != three
    assert set(drfi.merge(sums, 10.0)) == {0}


def test_levels_grow_coarser_and_nest_the_finest_regions():
    labels, groups, rows = drfi.describe(noise(60, 80))
    assert len(groups) == len(rows) == len(drfi.LEVELS)
    counts = [len(r) for r in rows]
    assert counts == sorted(counts, reverse=True)
    for group, row in zip(groups, rows, strict=True):
        assert group.shape == (labels.max() + 1,)
        assert sorted(set(group)) == list(range(len(row)))


def test_fuse_by_hand():
    scores = [np.array([1.0, 0.0, 0.5]), np.array([0.2, 0.8])]
    groups = [np.array([0, 1, 2]), np.array([0, 0, 1])]
    np.testing.assert_allclose(drfi.fuse(scores, groups, [0.5, 2]), [0.9, 0.4, 1.85])


def test_sharpening_keeps_the_order_and_puts_the_middle_in_the_middle():
    values = np.linspace(0.01, 0.99, 50)
    sharp = drfi.sharpen(values, 3.0, 0.3)
    assert (np.diff(sharp) > 0).all()
    assert drfi.sharpen(np.array([0.3]), 3.0, 0.3)[0] == pytest.approx(0.5)
    np.testing.assert_allclose(drfi.sharpen(values, 1.0, 0.5), values)
    assert np.isfinite(drfi.sharpen(np.array([-0.1, 0.0, 1.0, 1.2]), 4.0, 0.5)).all()


# ------------------------------------------------------------------------------- the shipped model


@pytest.fixture(scope="module")
def shipped():
    return drfi.Drfi.load()


def test_shipped_model_is_small_and_is_the_one_its_provenance_tells_of():
    provenance = json.loads(drfi.MODEL.with_suffix(".json").read_text())
    assert drfi.MODEL.stat().st_size <= 5 * 2**20
    assert provenance["model_sha256"] == hashlib.sha256(drfi.MODEL.read_bytes()).hexdigest()
    assert provenance["data"] and provenance["command"] and provenance["libraries"]


def test_drfi_finds_the_disk(shipped):
    image, inside = disk()
    saliency = methods.normalize(shipped(image))
    assert saliency[inside].mean() > 0.8
    assert saliency[~inside].mean() < 0.1
    np.testing.assert_array_equal(methods.build("drfi")("a", image), saliency)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (8, 8), (3, 200), (200, 3), (400, 500)])
def test_any_size_grey_or_coloured(size):
    compute = methods.build("drfi")
    for image in (noise(*size), np.repeat(noise(*size)[..., :1], 3, -1)):
        saliency = compute("a", image)
        assert saliency.shape == size
        assert saliency.dtype == np.float32
        assert np.isfinite(saliency).all()
        assert saliency.min() >= 0 and saliency.max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "I;16"])
def test_files_of_other_modes_as_write_voc_takes_them_in(mode):
    image, inside = disk()
    picture = Image.fromarray(image)
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    elif mode in ("LA", "RGBA"):
        picture.putalpha(200)
    file = io.BytesIO()
    (picture if mode == "I;16" else picture.convert(mode)).save(file, "PNG")
    encoded, *_ = encoding.standard_image(file.getvalue(), "disk.png")
    saliency = methods.build("drfi")("disk", encoding.rgb_pixels(encoded))
    assert saliency.shape == inside.shape
    assert saliency[inside].mean() > saliency[~inside].mean() + 0.3


def test_huge_images_are_worked_on_small(shipped, monkeypatch):
    seen = []
    real = descriptors.measure
    monkeypatch.setattr(descriptors, "measure", lambda i: seen.append(i.shape) or real(i))
    image = np.zeros((4000, 6000, 3), np.uint8)
    image[1000:2000, 2000:4000] = (200, 30, 30)
    saliency = shipped(image)
    assert seen == [(213, 320, 3)]
    assert saliency.shape == (4000, 6000)
    assert saliency[1500, 3000] > saliency[3500, 500]


def test_uniform_image_has_no_saliency():
    assert not methods.build("drfi")("a", np.full((40, 60, 3), 90, np.uint8)).any()


def test_maps_are_computed_without_tensorflow_and_scikit_learn():
    code = (
        "import sys, numpy as np; from data_prep.saliency import methods;"
        "methods.build('drfi')('a', np.zeros((9, 9, 3), np.uint8));"
        "sys.exit(bool({'tensorflow', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def _text(path, arrays):
    path.write_text("no model\nat all")


def _cut(path, arrays):
    np.savez_compressed(path, **arrays)
    path.write_bytes(path.read_bytes()[:-400])


def _spoilt_bytes(path, arrays):
    np.savez_compressed(path, **arrays)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    path.write_bytes(data)


def _array(path, arrays):
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))


def _objects(path, arrays):
    np.savez_compressed(path, **arrays | {"weights": np.array([{}], object)})


def _version(path, arrays):
    np.savez_compressed(path, **arrays | {"version": 0})


def _field_missing(path, arrays):
    np.savez_compressed(path, **{k: v for k, v in arrays.items() if k != "child"})


def _levels(path, arrays):
    np.savez_compressed(path, **arrays | {"weights": np.ones(2)})


def _loop(path, arrays):
    np.savez_compressed(path, **arrays | {"child": arrays["child"] * 0})


def _middle(path, arrays):
    np.savez_compressed(path, **arrays | {"middle": 1.5})


def _dtype(path, arrays):
    np.savez_compressed(path, **arrays | {"roots": arrays["roots"] > 0})


def _shape(path, arrays):
    np.savez_compressed(path, **arrays | {"threshold": arrays["threshold"][:, None]})


def _slope(path, arrays):
    np.savez_compressed(path, **arrays | {"slope": np.inf})


def _encrypted(path, arrays):
    np.savez(path, **arrays)
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02")  # the central directory, whose flags say so
    data[place + 8] |= 1
    path.write_bytes(data)


def _packing(path, arrays):
    np.savez(path, **arrays)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 10] = 97  # a packing that there is not
    path.write_bytes(data)


@pytest.mark.parametrize(
    "spoil",
    [_text, _cut, _spoilt_bytes, _array, _objects, _version, _field_missing, _levels, _loop,
     _middle, _dtype, _shape, _slope, _encrypted, _packing],
)  # fmt: skip
def test_broken_model_is_one_clear_line(spoil, tmp_path):
    with np.load(drfi.MODEL) as file:
        arrays = dict(file)
    path = tmp_path / "m.npz"
    spoil(path, arrays)
    with pytest.raises(InputError, match=r"m\.npz: no DRFI model of this version") as error:
        methods.build("drfi", drfi_model=str(path))  # before a worker is started
    assert "\n" not in str(error.value)


def test_missing_model_is_named():
    with pytest.raises(InputError, match=r"'no\.npz': no such file"):
        methods.build("drfi", drfi_model="no.npz")


def test_saved_model_is_what_was_loaded_and_always_the_same_bytes(shipped, tmp_path):
    for name in ("a.npz", "b.npz"):
        shipped.save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    image = disk()[0]
    np.testing.assert_array_equal(drfi.Drfi.load(tmp_path / "a.npz")(image), shipped(image))
