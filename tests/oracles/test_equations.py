"""The code against the paper's equations as plain loops (`equations`), on inputs of every kind.

`mutants` breaks each function on purpose and asks whether its test here fails.
"""

import equations
import numpy as np
import pytest
import tensorflow as tf
from equations import VOID
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aepsl_tf import config as configs
from aepsl_tf.classes import ClassSet
from aepsl_tf.data import encoding, geometry, transforms
from aepsl_tf.evaluation import metrics
from aepsl_tf.inference import cells, predictor
from aepsl_tf.mining import cam, erasing, pseudo_masks, regions
from aepsl_tf.models import losses
from aepsl_tf.models.classifier import Classifier
from aepsl_tf.models.segmenter import Segmenter

CALM = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


def on(*cases):
    """`given`, always with the same examples; `test.unshrunk` fails with the first it finds."""

    def decorate(check):
        test = settings(CALM)(given(*cases)(check))
        test.unshrunk = settings(CALM, phases=[Phase.generate])(given(*cases)(check))
        return test

    return decorate


def floats(low, high):
    return st.floats(low, high, width=32)


def floats_of(shape, low, high):
    return arrays(np.float32, shape, elements=floats(low, high), fill=st.nothing())


@st.composite
def batches(draw):
    """(logits `[B, h, w, C+1]`, tags `[B, C]`, masks of those tags and void, scores v `[B, C]`)."""
    images, height, width, classes = (draw(st.integers(1, n)) for n in (3, 3, 3, 3))
    far = draw(st.sampled_from([1, 10]))  # how sure the network is
    logits = draw(floats_of((images, height, width, classes + 1), -far, far))
    one_or_none = st.integers(0, 1)  # each drawn: filled arrays hardly ever have two tags
    tags = draw(arrays(np.int8, (images, classes), elements=one_or_none, fill=st.nothing()))
    masks = draw(arrays(np.int32, logits.shape[:3], elements=st.integers(0, classes + 1)))
    allowed = np.concatenate([np.ones_like(tags[:, :1]), tags, np.zeros_like(tags[:, :1])], axis=1)
    for image in range(images):  # S holds the image's own classes
        masks[image][allowed[image][masks[image]] == 0] = VOID
    scores = draw(floats_of((images, classes), 0, 1))
    return logits, tags.astype(np.float32), masks, scores


def ids(tags):
    return [c for c, tag in enumerate(tags, start=1) if tag]


@on(batches())
def test_j(batch):
    logits, tags, masks, _ = batch
    ours = losses.segmentation_loss(logits, masks)
    f = equations.softmax(logits)
    theirs = [equations.j(*image) for image in zip(f, masks, map(ids, tags), strict=True)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@on(batches())
def test_online_mask(batch):
    logits, tags, _, scores = batch
    ours = losses.prohibitive_mask(logits, scores, tags).numpy()
    for mask, f, v, tag in zip(ours, equations.softmax(logits), scores, tags, strict=True):
        maps = equations.weighed(f, v)
        for u in equations.pixels(mask):
            # Among equals, up to rounding, the paper does not choose. J(f, Ŝ) sums over O^seg.
            best = np.flatnonzero(maps[u] >= max(maps[u]) * (1 - 1e-5))
            assert mask[u] in [c if c in [0, *ids(tag)] else VOID for c in best]


@on(st.integers(0, 2**32 - 1))
def test_j_of_the_online_mask(seed):
    """J(f, Ŝ) as it stands in the paper: its sum over O^seg leaves other classes' pixels out."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, [2, 3, 4, 4]).astype(np.float32)
    tags = rng.integers(0, 2, [2, 3]).astype(np.float32)
    v = rng.uniform(0, 1, [2, 3]).astype(np.float32)
    online = losses.prohibitive_mask(logits, v, tags)
    ours = losses.segmentation_loss(logits, online)
    f = equations.softmax(logits)
    theirs = [
        equations.j(f[i], equations.online_mask(f[i], v[i]), ids(tags[i])) for i in range(len(f))
    ]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


READINGS = ["softmax", "sigmoid", "cross_entropy"]


def scores_of(logits, reading):
    return equations.softmax(logits) if reading == "softmax" else 1 / (1 + np.exp(-logits))


def label_cost(tags, v, reading):
    """What one image's scores cost; HCP divides tags by their sum."""
    if reading == "cross_entropy":
        return equations.cross_entropy(tags, v)
    return equations.label_loss(tags / max(sum(tags), 1) if reading == "softmax" else tags, v)


@on(batches())
def test_label_loss(batch):
    _, tags, _, scores = batch
    for reading in ("sigmoid", "softmax"):
        targets = losses.label_targets(tags, reading)
        ours = losses.squared_label_loss(targets, scores)
        theirs = [label_cost(*image, reading) for image in zip(tags, scores, strict=True)]
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@on(batches())
def test_label_loss_of_logits(batch):
    logits, tags, _, _ = batch
    logits = 3 * logits[:, 0, 0, 1:].astype(np.float64)
    for reading in READINGS:
        theirs = [label_cost(*image, reading)
                  for image in zip(tags, scores_of(logits, reading), strict=True)]  # fmt: skip
        ours = losses.label_loss(tags, logits.astype(np.float32), reading)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_objective_of_the_classifier():
    """The label loss, the mean over the images."""
    for reading in READINGS:
        check_classifier(reading)


def check_classifier(reading):
    config = configs.TrainClassifier(
        backbone="vgg16_small", weights="none", input_size=33, dropout=0.0, label_loss=reading
    )
    model = Classifier(config, 3)
    rng = np.random.default_rng(3)
    model.fc8.kernel.assign(rng.normal(0, 0.3, model.fc8.kernel.shape))
    images = rng.uniform(0, 255, [2, 33, 33, 3]).astype(np.float32)
    tags = np.array([[1, 0, 1], [0, 1, 0]], np.float32)
    batch = {"labels": tags, "present": np.ones(2, np.float32)}
    ours = model.objective(model.frozen(images), batch, model.counts(batch))["loss"]
    v = scores_of(model(images).numpy(), reading)
    theirs = np.mean([label_cost(*image, reading) for image in zip(tags, v, strict=True)])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_objective():
    """J(f, S) + J(f, Ŝ) + λ · the label loss, the mean over the images."""
    for reading in READINGS:
        check_segmenter(reading)


def check_segmenter(reading):
    config = configs.TrainSegmenter(
        backbone="vgg16_small", weights="none", input_size=33, dropout=0.0, psl="full",
        classification_weight=0.5, label_loss=reading,
    )  # fmt: skip
    model = Segmenter(config, 3)
    model.psl_active.assign(1.0)
    rng = np.random.default_rng(3)
    for layer in (model.fc8_seg, model.fc8_cls):  # large enough for Ŝ to hold several classes
        layer.kernel.assign(rng.normal(0, 0.3, layer.kernel.shape))
    images = rng.uniform(0, 255, [2, 33, 33, 3]).astype(np.float32)
    tags = np.array([[1, 0, 1], [0, 1, 1]], np.float32)
    masks = np.array([rng.choice([0, *ids(tag), VOID], [5, 5]) for tag in tags])
    batch = {"labels": tags, "mask": masks, "present": np.ones(2, np.float32)}
    ours = model.objective(model.frozen(images), batch, model.counts(batch))["loss"]

    outputs = model(images)
    f = equations.softmax(outputs["logits"])
    v = scores_of(outputs["label_logits"].numpy(), reading)
    theirs = 0.0
    for i, tag in enumerate(tags):
        online = equations.online_mask(f[i], v[i])
        assert len(set(online.ravel())) > 1
        theirs += equations.j(f[i], masks[i], ids(tag)) + equations.j(f[i], online, ids(tag))
        theirs += 0.5 * label_cost(tag, v[i], reading)
    np.testing.assert_allclose(ours, theirs / 2, rtol=1e-4)


@st.composite
def features(draw):
    """(conv7 of one image `[h, w, K]`, fully connected weights `[K, C]`)."""
    height, width, channels, classes = (draw(st.integers(1, n)) for n in (3, 3, 4, 3))
    return (
        draw(floats_of((height, width, channels), -4, 4)),
        draw(floats_of((channels, classes), -4, 4)),
    )


@on(features())
def test_cam(case):
    conv7, weights = case
    ours = cam.class_activation_map(conv7[None], weights)
    theirs = [equations.heatmap(conv7, weights, c) for c in range(weights.shape[1])]
    np.testing.assert_allclose(ours[0], np.stack(theirs, axis=-1), rtol=1e-5, atol=1e-4)


CROP, WARP = (configs.Network(input=mode, input_size=17) for mode in ("crop", "warp"))


@st.composite
def enlargements(draw):
    """(cells `[h, w]`, height, width), the size of a picture that pads to 8(h−1)+1 × 8(w−1)+1."""
    shape = [draw(st.integers(1, 4)) for _ in range(2)]
    area = [draw(st.integers(max(8 * (n - 2) + 2, 1), 8 * (n - 1) + 1)) for n in shape]
    return draw(floats_of(tuple(shape), -4, 4)), *area


@on(enlargements())
def test_from_network(case):
    """Padded: enlarged with the corners aligned, cut to the picture."""
    cells, height, width = case
    ours = geometry.from_network(cells[None, ..., None], [height, width], CROP)[0, ..., 0]
    whole = equations.enlarged(cells, *(8 * (n - 1) + 1 for n in cells.shape))
    np.testing.assert_allclose(ours, whole[:height, :width], rtol=1e-5, atol=1e-5)


@on(floats_of((3, 3), -4, 4), st.integers(1, 40), st.integers(1, 40))
def test_from_warped(cells, height, width):
    """Warped: enlarged with the corners aligned, then resized as the picture was."""
    ours = geometry.from_network(cells[None, ..., None], [height, width], WARP)[0, ..., 0]
    theirs = equations.resized(equations.enlarged(cells, 17, 17), height, width)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


# Whole numbers and halves of halves are exact in floating point: then `>` is not `>=`.
FRACTIONS = st.sampled_from([0.0, 0.25, 0.5, 0.75])
HEATMAPS = arrays(np.float32, (3, 4), elements=st.integers(-8, 20).map(float))


@on(HEATMAPS, FRACTIONS)
def test_region(heatmap, fraction):
    ours = erasing.discriminative_region(heatmap, fraction, "fraction_of_max")
    np.testing.assert_array_equal(ours, equations.region(heatmap, fraction))


@on(floats_of((3, 4), -4, 4), st.floats(0, 0.99))
def test_region_of_any_values(heatmap, fraction):
    ours = erasing.discriminative_region(heatmap, fraction, "fraction_of_max")
    rounded = np.abs(heatmap - fraction * heatmap.max()) < 1e-5
    assert (ours == equations.region(heatmap, fraction))[~rounded].all()


@on(floats_of((3, 4), -4, 4), st.floats(0, 1))
def test_region_of_top_pixels(heatmap, share):
    """The other reading of "those pixels belonging to top 20%": a share of the pixels."""
    ours = erasing.discriminative_region(heatmap, share, "top_pixels")
    assert abs(ours.sum() - share * 12) <= 0.5
    if 0 < ours.sum() < 12:
        assert heatmap[ours].min() >= heatmap[~ours].max()


@st.composite
def minings(draw):
    """(picture, mean pixel, heatmaps by step and tag)."""
    steps, tags = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    picture = draw(arrays(np.uint8, (3, 4, 3)))
    mean_pixel = draw(arrays(np.uint8, 3))
    return picture, mean_pixel, [[draw(HEATMAPS) for _ in range(tags)] for _ in range(steps)]


@on(minings(), FRACTIONS)
def test_algorithm_1(case, fraction):
    picture, mean_pixel, heatmaps = case
    rows = [
        {"regions/pngs": [
            encoding.grey_png(erasing.discriminative_region(h, fraction, "fraction_of_max"))
            for h in of_step
        ]}
        for of_step in heatmaps
    ]  # fmt: skip
    ours = regions.union(rows)
    erased_png = encoding.grey_png(np.any(ours, axis=0))
    erased = transforms.erase(tf.constant(picture), erased_png, tf.constant(mean_pixel))
    mined, image = equations.algorithm_1(picture, mean_pixel, heatmaps, fraction)
    np.testing.assert_array_equal(ours, mined)
    np.testing.assert_array_equal(erased, image)


@st.composite
def fusions(draw):
    """(regions by tag, tags, saliency, threshold), saliency often at the threshold itself."""
    labels = draw(st.lists(st.integers(1, 20), min_size=1, max_size=3, unique=True))
    mined = [draw(arrays(bool, (3, 4))) for _ in labels]
    threshold = draw(st.sampled_from([0.06, 0.12, 0.5]))
    values = st.sampled_from([0.0, 0.05, 0.1, threshold, 0.3, 1.0])
    return mined, labels, draw(arrays(float, (3, 4), elements=values)), threshold


@on(fusions())
def test_fusion(case):
    ours = pseudo_masks.combine(*case)
    np.testing.assert_array_equal(ours, equations.fused(*case))


@on(st.lists(st.integers(1, 3), unique=True))
def test_background_threshold(labels):
    """§4.1: .06 "for those images belonging to indoor scenes", .12 for the others."""
    classes = ClassSet(("cow", "sofa", "table"), ((1, 1, 1),) * 3, (False, True, True))
    theirs = 0.06 if 2 in labels or 3 in labels else 0.12
    assert pseudo_masks.background_threshold(labels, classes, configs.MakeMasks()) == theirs


@st.composite
def policies(draw):
    """(f `[H, W, C+1]`, v `[C]`, p), p sometimes one of the scores itself."""
    height, width, classes = (draw(st.integers(1, n)) for n in (2, 3, 4))
    f = equations.softmax(draw(floats_of((height, width, classes + 1), -5, 5)))
    v = draw(floats_of(classes, 0, 1))
    p = draw(st.one_of(floats(0, 1), st.sampled_from([0.1, *map(float, v)])))
    return f.astype(np.float32), v, np.float32(p)


@on(policies())
def test_prohibition(case):
    f, v, p = case
    ours = cells.prohibit(np.log(f), predictor.class_weights(v, p).numpy())
    np.testing.assert_allclose(ours, equations.prohibited(f, v, p), rtol=1e-4, atol=1e-6)


@st.composite
def evaluations(draw):
    """(number of classes, (truth, prediction) by image)."""
    classes = draw(st.integers(1, 3))
    masks = arrays(np.uint8, (2, 3), elements=st.sampled_from([*range(classes), VOID]))
    return classes, draw(st.lists(st.tuples(masks, masks), min_size=1, max_size=3))


@on(evaluations())
def test_miou(case):
    classes, pairs = case
    confusion = metrics.Confusion(classes)
    for truth, prediction in pairs:
        confusion.add(truth, prediction)
    ours = confusion.results([str(c) for c in range(classes)])
    theirs = equations.ious(pairs, classes, unlabelled_is_wrong=False)
    wrong = equations.mean(equations.ious(pairs, classes, unlabelled_is_wrong=True))
    assert list(ours["iou"].values()) == pytest.approx(theirs)
    assert ours["miou"] == pytest.approx(equations.mean(theirs))
    assert ours["miou_void_wrong"] == pytest.approx(wrong)
