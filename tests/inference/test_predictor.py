"""The test policy by hand, and masks of pictures of any size."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from aepsl_tf import config as configs
from aepsl_tf.data import geometry
from aepsl_tf.inference import cells
from aepsl_tf.inference.over_split import Reader
from aepsl_tf.inference.predictor import Predictor, class_weights, scores_of, views_of
from aepsl_tf.models import losses
from aepsl_tf.models.segmenter import Segmenter


def segmenter(**changes):
    base = dict(backbone="vgg16_small", weights="none", input_size=33)
    model = Segmenter(configs.TrainSegmenter(**base | changes), 3)
    kernel = np.random.default_rng(0).normal(0, 0.2, model.fc8_seg.kernel.shape)
    model.fc8_seg.kernel.assign(kernel.astype(np.float32))
    means = tf.reduce_mean(model(pictures(33, 33).astype(np.float32))["logits"], [0, 1, 2])
    model.fc8_seg.bias.assign(-means)  # no class wins everywhere
    return model


@pytest.fixture(scope="module")
def model():
    return segmenter()


def pictures(height, width, count=1, seed=0):
    shape = (count, height, width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def logits(height, width, classes=4, seed=0, scale=3.0):
    shape = (1, height, width, classes)
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def prohibit(logits, scores, p):
    """The policy over a batch, as workers apply it to each picture."""
    weights = class_weights(scores, p).numpy()
    return np.stack([cells.prohibit(*one) for one in zip(logits, weights, strict=True)])


def test_prohibit_by_hand():
    f = np.log(np.array([[[[0.4, 0.5, 0.1]]]], np.float32))
    out = prohibit(f, np.array([[0.05, 0.5]], np.float32), 0.1)
    np.testing.assert_allclose(out, [[[[0.4 / 0.45, 0, 0.05 / 0.45]]]], rtol=1e-6)


def test_prohibit_zeroes_below_p_and_keeps_the_others_ratio():
    rng = np.random.default_rng(0)
    f = rng.dirichlet([1] * 5, (2, 4, 6)).astype(np.float32)
    v = np.array([[0.09, 0.1, 0.5, 0.31], [0.6, 0.0, 0.2, 0.05]], np.float32)
    out = prohibit(np.log(f), v, 0.1)
    np.testing.assert_allclose(out.sum(-1), 1, rtol=1e-5)
    for image, low in enumerate(([1], [2, 4])):
        np.testing.assert_array_equal(out[image][..., low], 0)
        kept = [c for c in range(1, 5) if c not in low]
        ratio = out[image][..., kept] / out[image][..., :1]
        expected = v[image][[c - 1 for c in kept]] * f[image][..., kept] / f[image][..., :1]
        np.testing.assert_allclose(ratio, expected, rtol=1e-4)


def test_prohibit_keeps_a_score_of_exactly_p():
    out = prohibit(np.zeros((1, 1, 1, 2), np.float32), np.array([[0.25]], np.float32), 0.25)
    assert out[0, 0, 0, 1] > 0


def test_p_zero_prohibits_nothing():
    f = np.zeros((1, 1, 1, 2), np.float32)
    np.testing.assert_allclose(prohibit(f, np.ones((1, 1), np.float32), 0.0), [[[[0.5, 0.5]]]])


def in_tensorflow(logits, scores, p):
    """What masks without a CRF are the largest of."""
    return tf.nn.softmax(losses.weigh(logits, class_weights(scores, p)))


@settings(max_examples=150, deadline=None)
@given(
    logits=arrays(np.float32, (1, 1, 2, 4), elements=st.floats(-300, 300, width=32)),
    scores=arrays(
        np.float32, (1, 3), elements=st.floats(0, 1, width=32, allow_subnormal=False)
    ),  # TensorFlow takes them for 0
    p=st.floats(0, 1),
)
@example(np.float32([[[[-200, 9, 0, 0], [0, 88, -88, 3]]]]), np.float32([[0, 0, 0]]), 0.1)
@pytest.mark.parametrize("function", [prohibit, in_tensorflow])
def test_prohibition_is_always_a_distribution(function, logits, scores, p):
    out = np.asarray(function(logits, scores, p))
    assert out.dtype == np.float32 and np.isfinite(out).all()
    np.testing.assert_allclose(out.sum(-1), 1, rtol=1e-5)
    low = 1 + np.flatnonzero(scores[0] < np.float32(p))
    np.testing.assert_array_equal(out[..., low], 0)
    f = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    weighed = f * np.concatenate([[1], np.where(scores[0] < np.float32(p), 0, scores[0])])
    plain = weighed / weighed.sum(-1, keepdims=True)  # never 0 / 0: 600 is little in float64
    np.testing.assert_allclose(out, plain, rtol=1e-3, atol=1e-6)


def test_a_mask_where_the_background_trails_by_far_and_all_else_is_prohibited(model):
    """The plain formula's 0 / 0."""
    predictor = Predictor(model, configs.Segmentation())
    far = np.zeros((5, 5, 4), np.float32)
    far[..., 1:] = 300
    nothing = {"logits": far, "scores": np.zeros(3, np.float32)}
    assert not predictor.mask_of(nothing, (33, 33)).any()
    only = {"logits": far, "scores": np.float32([0.05, 0, 0.2])}
    assert (predictor.mask_of(only, (33, 33)) == 3).all()


def bit_equal_outputs(model, sizes, pixel_limit=4_000_000):
    """Masks of pictures of these sizes by `segment`, one by one, and through the reader."""
    predictor = Predictor(model, configs.Segmentation(p=0.3, pixel_limit=pixel_limit))
    images = [pictures(*size, seed=i)[0] for i, size in enumerate(sizes)]
    reader = Reader(model, model.cells, pixel_limit, batch=1)
    read = reader.read(range(len(images)), lambda i: tf.constant(images[i]))
    for index, _, outputs in read:
        whole = predictor.segment(images[index][None])
        yield whole["mask"][0], predictor.mask_of(outputs, sizes[index])


@pytest.mark.parametrize("mode", ["crop", "warp"])
def test_segment_gives_masks_of_the_pictures_size(mode):
    predictor = Predictor(segmenter(input=mode), configs.Segmentation())
    for height, width in ((33, 33), (20, 41)):
        images = pictures(height, width, 2)
        out = predictor.segment(images)
        assert out["mask"].shape == (2, height, width) and out["mask"].dtype == tf.uint8
        assert out["probabilities"].shape == (2, height, width, 4)
        np.testing.assert_allclose(tf.reduce_sum(out["probabilities"], -1), 1, rtol=1e-5)
        weighed = prohibit(np.log(out["probabilities"]), out["scores"], 0.1)
        np.testing.assert_array_equal(out["mask"], np.argmax(weighed, -1))
        alone = predictor.segment(images[1:])
        np.testing.assert_allclose(
            alone["probabilities"][0], out["probabilities"][1], rtol=1e-3, atol=1e-5
        )


def test_probabilities_of_an_aligned_picture_meet_the_cells(model):
    images = pictures(33, 41)
    predictor = Predictor(model, configs.Segmentation())  # tf.function holds it weakly
    out = predictor.segment(images)
    logits = model(tf.cast(images, tf.float32))["logits"]
    assert logits.shape == (1, 5, 6, 4)
    np.testing.assert_allclose(
        out["probabilities"][:, ::8, ::8], tf.nn.softmax(logits), rtol=1e-3, atol=1e-5
    )


def test_high_p_leaves_background_alone(model):
    predictor = Predictor(model, configs.Segmentation(p=1.0))  # tf.function holds it weakly
    out = predictor.segment(pictures(33, 33))
    assert np.argmax(out["probabilities"], -1).any()  # without prohibition it is not
    assert not out["mask"].numpy().any()


def test_pixel_limit_shrinks_the_probabilities_but_not_the_mask(model):
    predictor = Predictor(model, configs.Segmentation(pixel_limit=4096))  # held weakly
    out = predictor.segment(pictures(80, 120))
    assert out["mask"].shape == (1, 80, 120)
    assert out["probabilities"].shape[1:3] == (52, 78)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("weights", [1, 0, 0.2, 0.4]), ("max", [1, 0, 0.5, 1]), ("threshold", [1, 0, 1, 1]),
     ("none", [1, 1, 1, 1])],
)  # fmt: skip
def test_each_policy_s_weights_by_hand(policy, expected):
    scores = np.float32([[0.05, 0.2, 0.4], [0.4, 0.05, 0.2], [0, 0, 0]])
    made = class_weights(scores, 0.1, policy).numpy()
    np.testing.assert_allclose(made[0], expected, rtol=1e-6)
    np.testing.assert_allclose(made[1], [expected[i] for i in (0, 3, 1, 2)], rtol=1e-6)
    np.testing.assert_array_equal(made[2], [1] + 3 * [1 if policy == "none" else 0])


def test_without_a_branch_nothing_is_prohibited():
    predictor = Predictor(segmenter(psl="none"), configs.Segmentation(p=1.0))
    out = predictor.segment(pictures(33, 33))
    assert set(out) == {"mask", "probabilities"}
    np.testing.assert_array_equal(out["mask"], np.argmax(out["probabilities"], -1))


@pytest.mark.parametrize("mode", ["crop", "warp"])
@pytest.mark.parametrize("psl", ["full", "none"])
def test_the_reader_s_masks_are_the_exported_model_s(mode, psl):
    """Bit for bit, of sizes aligned and not, shrunk and not."""
    sizes = [(33, 33), (33, 33), (20, 41), (1, 1), (33, 30), (64, 48), (20, 41), (90, 70)]
    seen = set()
    for exported, read in bit_equal_outputs(segmenter(input=mode, psl=psl), sizes, 4096):
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(exported, read)
        seen |= set(np.unique(read))
    assert len(seen) > 2


# ------------------------------------------------------------------------------------ several views


def test_views_of_the_settings():
    def of(multi_scale, flip):
        return [tuple(view) for view in views_of(multi_scale, flip)]

    assert of("1", False) == [tuple(geometry.PLAIN)] == [(1.0, False)]
    assert of("1", True) == [(1.0, False), (1.0, True)]
    assert of("0.5, 1", False) == [(0.5, False), (1.0, False)]
    assert len(of("0.5,0.75,1,1.25,1.5", True)) == 10


def seen_mask(model, image, settings):
    """A picture's mask by way of reader and worker, its weights."""
    views = views_of(settings.multi_scale, settings.flip)
    predictor = Predictor(model, settings, views)
    reader = Reader(model, model.cells, settings.pixel_limit, batch=1, views=views)
    [(_, picture, outputs)] = reader.read([image], tf.constant)
    weights = predictor.weights(*outputs)
    one = predictor.to_worker(picture, weights, *(cells["logits"] for cells in outputs))
    return cells.plain_mask(one), weights, predictor.is_plain


@pytest.mark.parametrize("mode", ["crop", "warp"])
@pytest.mark.parametrize("size", [(33, 41), (30, 50)])
def test_with_flip_a_mirrored_picture_has_the_mirrored_mask(mode, size):
    """Without, it has not: the network is not symmetric."""
    model, image = segmenter(input=mode), pictures(*size)[0]
    for flip in (True, False):
        settings = configs.Predict(flip=flip, test_policy="none")
        mask, _, is_plain = seen_mask(model, image, settings)
        other, _, _ = seen_mask(model, image[:, ::-1], settings)
        assert is_plain == (not flip) and len(np.unique(mask)) > 1
        assert ((other[:, ::-1] == mask).mean() > 0.995) == flip


@pytest.mark.parametrize("mode", ["crop", "warp"])
def test_the_plain_view_s_mask_is_the_exported_model_s(mode):
    model, image = segmenter(input=mode), pictures(33, 41)[0]
    settings = configs.Predict()
    mask, _, _ = seen_mask(model, image, settings)
    predictor = Predictor(model, settings)
    assert (mask == predictor.segment(image[None])["mask"][0].numpy()).mean() > 0.999


def test_scores_are_means_over_views():
    views = [{"scores": np.float32([0.2, 0.5])}, {"scores": np.float32([0.4, 0.1])}]
    np.testing.assert_allclose(scores_of(views), [0.3, 0.3])
    assert scores_of([{"logits": None}]) is None
    predictor = Predictor(segmenter(), configs.Predict(p=0.25, test_policy="threshold"))
    views = [{"scores": np.float32([0.2, 0.5, 0])}, {"scores": np.float32([0.4, 0.1, 0.1])}]
    np.testing.assert_allclose(predictor.weights(*views), [1, 1, 1, 0])
