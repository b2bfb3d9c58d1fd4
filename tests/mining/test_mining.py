"""CAM, erasing and mask fusion by hand, and on a real small classifier."""

import types

import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf.classes import VOID, ClassSet
from aepsl_tf.data import encoding, records
from aepsl_tf.inference.over_split import Reader
from aepsl_tf.mining import cam, erasing, heatmaps, pseudo_masks, regions
from aepsl_tf.models.classifier import Classifier


@pytest.fixture(scope="module", params=["crop", "warp"])
def model(request):
    config = configs.TrainClassifier(
        backbone="vgg16_small", weights="none", input_size=33, input=request.param
    )
    model = Classifier(config, 3)
    model.fc8.bias.assign([0.5, -1.0, 2.0])
    return model


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def test_pooled_cam_is_the_logit_less_the_bias(model):
    features = model.frozen(tf.cast(picture(33, 33)[None], tf.float32))
    fc7, logits = model.maps(features)
    maps = cam.class_activation_map(fc7, model.class_weights())
    assert maps.shape == (1, 5, 5, 3)
    pooled = tf.reduce_mean(maps, [1, 2])
    assert np.abs(pooled).max() > 0
    np.testing.assert_allclose(pooled, logits - model.fc8.bias, rtol=1e-4, atol=1e-6)


def heatmaps_of(model, image, labels, pixel_limit=1 << 40):
    reader = Reader(model, heatmaps.cells(model), pixel_limit)
    ((_, seen, cells),) = reader.read([image], tf.constant)
    return heatmaps.at_size(cells["heatmaps"], labels, seen.shape[:2], model.config)


def test_heatmaps_have_the_picture_s_size_and_class_order(model):
    image = picture(37, 29)
    one, three = heatmaps_of(model, image, [1, 3])
    assert one.shape == three.shape == (37, 29)
    (alone,) = heatmaps_of(model, image, [3])
    np.testing.assert_array_equal(alone, three)
    assert np.abs(one - three).max() > 0
    assert heatmaps_of(model, image, []).shape == (0, 37, 29)


def test_heatmap_of_network_size_meets_the_cells(model):
    image = picture(33, 33)
    (heatmap,) = heatmaps_of(model, image, [2])
    fc7, _ = model.maps(model.frozen(tf.cast(image[None], tf.float32)))
    cells = cam.class_activation_map(fc7, model.class_weights())[0, ..., 1]
    np.testing.assert_allclose(heatmap[::8, ::8], cells, rtol=1e-4, atol=1e-6)


def test_heatmaps_of_large_pictures_stay_at_the_limit(model):
    (heatmap,) = heatmaps_of(model, picture(40, 60), [2], pixel_limit=600)
    assert heatmap.shape == (20, 30)


def test_heatmaps_of_a_picture_alone_are_those_that_are_mined(model):
    image = picture(37, 29)
    for limit in (None, 600):
        alone = heatmaps.of_picture(model, image, [3, 1], limit)
        mined = heatmaps_of(model, image, [3, 1], limit or 1 << 40)
        np.testing.assert_allclose(alone, mined, rtol=1e-5, atol=1e-6)


def test_cam_by_hand():
    features = np.array([[[[1.0, 2.0], [3.0, 0.0]]]], np.float32)
    weights = np.array([[1.0, 0.0], [-1.0, 10.0]], np.float32)
    maps = cam.class_activation_map(features, weights)
    np.testing.assert_array_equal(maps, [[[[-1, 20], [3, 0]]]])


def test_fraction_of_max_by_hand():
    heatmap = np.array([[10.0, 2.0, 2.1], [-5.0, 0.0, 5.0]])
    region = erasing.discriminative_region(heatmap, 0.2, "fraction_of_max")
    np.testing.assert_array_equal(region, [[1, 0, 1], [0, 0, 1]])


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_fraction_of_max_finds_nothing_without_a_positive_value(value):
    region = erasing.discriminative_region(np.full((2, 3), value), 0.2, "fraction_of_max")
    assert region.shape == (2, 3) and region.dtype == bool and not region.any()


def test_top_pixels_by_hand():
    heatmap = np.array([[1.0, 9.0, -3.0, 4.0, 0.0], [8.0, -1.0, 2.0, 3.0, 5.0]])
    region = erasing.discriminative_region(heatmap, 0.2, "top_pixels")
    np.testing.assert_array_equal(region, [[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    # Unlike the other rule it always finds its share, negative values or not.
    assert erasing.discriminative_region(heatmap - 100, 0.5, "top_pixels").sum() == 5
    assert not erasing.discriminative_region(heatmap, 0.0, "top_pixels").any()
    assert erasing.discriminative_region(heatmap, 1.0, "top_pixels").all()


def test_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="top_pixels"):
        erasing.discriminative_region(np.zeros((2, 2)), 0.2, "half")


def test_combine_by_hand():
    """One column a case: low or high saliency, claimed by nothing, one region, or both."""
    saliency = np.array([[0.05, 0.9, 0.05, 0.9, 0.9, 0.05, 0.9, 0.12]])
    one = np.array([[0, 0, 1, 1, 0, 1, 1, 0]], bool)
    two = np.array([[0, 0, 0, 0, 1, 1, 1, 0]], bool)
    mask = pseudo_masks.combine([one, two], [3, 7], saliency, 0.12)
    # background | rule 3 | rule 2 | class | class | 1 and 2 | rule 1 | the threshold is not below
    np.testing.assert_array_equal(mask, [[0, VOID, VOID, 3, 7, VOID, VOID, VOID]])
    assert mask.dtype == np.uint8


def test_combine_without_tags():
    mask = pseudo_masks.combine([], [], np.array([[0.0, 1.0]]), 0.12)
    np.testing.assert_array_equal(mask, [[0, 0]])  # a negative is background, whatever is salient


def test_background_threshold_is_lower_indoors():
    classes = ClassSet(("cow", "sofa", "cat"), ((1, 1, 1),) * 3, (False, True, False))
    config = configs.MakeMasks()
    assert pseudo_masks.background_threshold([1, 3], classes, config) == 0.12
    assert pseudo_masks.background_threshold([1, 2], classes, config) == 0.06
    assert pseudo_masks.background_threshold([], classes, config) == 0.12


def test_merged_regions_are_the_union_and_only_grow(tmp_path):
    rng = np.random.default_rng(2)
    mined = rng.random((3, 2, 2, 6, 5)) < 0.3  # steps, images, labels
    for step in range(3):
        directory = tmp_path / str(step + 1)
        directory.mkdir()
        rows = [
            {"image/id": f"i{i}", "image/labels": [2, 4],
             "regions/pngs": [encoding.grey_png(r) for r in mined[step, i]],
             "regions/scores": [700, 300]}
            for i in range(2)
        ]  # fmt: skip
        records.write_family(directory, "regions", [1, 1], lambda s, rows=rows: [rows[s]])
    run = types.SimpleNamespace(regions=lambda step: tmp_path / str(step))
    previous = np.zeros_like(mined[0])
    for steps in (1, 2, 3):
        found = list(regions.merged(run, steps))
        assert [f[:2] for f in found] == [("i0", [2, 4]), ("i1", [2, 4])]
        union = np.array([f[2] for f in found])
        np.testing.assert_array_equal(union, mined[:steps].any(axis=0))
        assert not (previous & ~union).any()
        previous = union
    assert next(regions.merged(run, 3, shard=1))[0] == "i1"


def _scored(tags_and_counts, scores):
    return [
        {"image/labels": tags, "regions/scores": [round(1000 * scores[c - 1]) for c in tags]}
        for tags, count in tags_and_counts
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("reading", "scores", "lost"),
    [
        # Of 40 images 30 have class 1, of which 20 have class 2 too; 10 have class 3.
        ("sigmoid", [0.75, 0.5, 0.25], {}),  # as frequent as the tags, which a training tells
        ("sigmoid", [0.38, 0.26, 0.12], {3: (0.12, 0.25)}),
        ("sigmoid", [0.51, 0.2, 0.2], {2: (0.2, 0.5)}),
        ("cross_entropy", [0.51, 0.2, 0.2], {2: (0.2, 0.5)}),
        ("softmax", [0.51, 0.2, 0.2], {}),  # two tags share what there is
        ("softmax", [0.51, 0.12, 0.2], {2: (0.12, 0.25)}),
    ],
)
def test_a_lost_class_has_half_the_score_of_who_knows_nothing(reading, scores, lost):
    rows = _scored([([1], 10), ([1, 2], 20), ([3], 10)], scores)
    found = regions.lost(iter(rows), reading)
    assert found.keys() == lost.keys()
    assert all(found[c] == pytest.approx(lost[c]) for c in lost)


def test_nothing_is_said_of_a_class_by_few_images():
    assert regions.lost(_scored([([1], 9), ([2], 1)], [0.0, 0.0]), "sigmoid") == {}
    assert regions.lost(_scored([([1], 10), ([2], 1)], [0.0, 0.0]), "sigmoid").keys() == {1}
    assert regions.lost([], "sigmoid") == {}


def test_rows_of_before_the_scores_do_not_count():
    rows = _scored([([1], 10), ([2], 10)], [0.2, 0.9])
    before = [row | {"regions/scores": []} for row in rows] * 9
    assert regions.lost(before + rows, "sigmoid") == regions.lost(rows, "sigmoid") != {}
    assert regions.lost(before, "sigmoid") == {}
