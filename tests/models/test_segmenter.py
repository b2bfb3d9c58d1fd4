"""The two networks' train steps: what joins the loss, its norms, and cached features."""

import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf.classes import VOID
from aepsl_tf.errors import InputError
from aepsl_tf.models import losses
from aepsl_tf.models.classifier import Classifier
from aepsl_tf.models.segmenter import PslStart, Segmenter
from aepsl_tf.training import solver

BASE = dict(backbone="vgg16_small", weights="none", input_size=33, dropout=0.0)


def segmenter(**changes):
    model = Segmenter(configs.TrainSegmenter(**BASE | changes), 3)
    model.compile(optimizer=solver.build(model, model.config, 10))
    return model


def batch(seed=0, count=2):
    rng = np.random.default_rng(seed)
    mask = rng.choice(np.array([0, 1, 2, VOID], np.uint8), (count, 5, 5))
    mask[0, 1:] = VOID  # so that image and batch norm differ
    labels = np.zeros((count, 3), np.float32)
    labels[:, :2] = 1
    images = rng.uniform(0, 255, (count, 33, 33, 3)).astype(np.float32)
    return {"image": tf.constant(images), "labels": tf.constant(labels), "mask": tf.constant(mask)}


def test_parts_of_each_mode():
    branch = {"loss", "j", "label", "tag_score"}
    keys = {"none": {"loss", "j"}, "branch_only": branch, "full": branch | {"j_hat"}}
    for psl, expected in keys.items():
        model = segmenter(psl=psl)
        assert model.has_scores == (psl != "none")
        logs = model.train_step(batch())
        assert set(logs) == expected
        parts = sum(float(v) for k, v in logs.items() if k not in ("loss", "tag_score"))
        np.testing.assert_allclose(float(logs["loss"]), parts, rtol=1e-6)


def test_first_step_s_losses_are_the_formulas():
    model, data = segmenter(), batch()
    model.psl_active.assign(1.0)
    outputs = model(data["image"])
    online = losses.prohibitive_mask(outputs["logits"], model.scores(outputs), data["labels"])
    label = losses.squared_label_loss(data["labels"] / 2, tf.nn.softmax(outputs["label_logits"]))
    expected = {
        "j": np.mean(losses.segmentation_loss(outputs["logits"], data["mask"])),
        "j_hat": np.mean(losses.segmentation_loss(outputs["logits"], online)),
        "label": np.mean(label),
        "tag_score": np.mean(np.minimum(tf.nn.softmax(outputs["label_logits"])[:, :2] * 2, 1)),
    }
    logs = model.train_step(data)
    for key, value in expected.items():
        assert value > 0
        np.testing.assert_allclose(float(logs[key]), value, rtol=1e-4)


def test_image_and_batch_norm():
    data = batch()
    j = {n: float(segmenter(psl="none", pixel_norm=n).train_step(data)["j"])
         for n in ("image", "batch")}  # fmt: skip
    logits = segmenter(psl="none")(data["image"])["logits"]
    total, labelled = (np.array(x) for x in losses.segmentation_loss_sums(logits, data["mask"]))
    assert labelled[0] != labelled[1]
    np.testing.assert_allclose(j["image"], np.mean(total / labelled), rtol=1e-4)
    np.testing.assert_allclose(j["batch"], total.sum() / labelled.sum(), rtol=1e-4)


def test_classification_weight_scales_the_branch():
    logs = segmenter(psl="branch_only", classification_weight=3.0).train_step(batch())
    np.testing.assert_allclose(
        float(logs["loss"]), float(logs["j"]) + 3 * float(logs["label"]), rtol=1e-6
    )


def test_online_mask_joins_at_its_epoch():
    model = segmenter(psl_start="2")
    callback = PslStart()
    callback.set_model(model)
    callback.on_train_begin()
    active = []
    for epoch in range(4):
        callback.on_epoch_begin(epoch)
        active.append(float(model.psl_active))
        callback.on_epoch_end(epoch, {"tag_score": 0.0})
    assert active == [0, 0, 1, 1] and callback.joined() == 2
    model.psl_active.assign(0.0)
    assert float(model.train_step(batch())["j_hat"]) == 0


@pytest.mark.parametrize("resumed", [0, 1, 2, 3])
def test_online_mask_waits_for_the_scores_of_the_tags(resumed, caplog):
    """auto: from the epoch after the first that ends ready, for good, and after a resume too."""
    scores, active = [0.3, 0.81, 0.6, 0.9], []
    model = segmenter(psl_start="auto")
    callback = PslStart()
    callback.set_model(model)
    callback.on_train_begin({"history": [{"tag_score": s} for s in scores[:resumed]]})
    with caplog.at_level("INFO", logger="absl"):
        for epoch in range(resumed, 4):
            callback.on_epoch_begin(epoch)
            active.append(float(model.psl_active))
            callback.on_epoch_end(epoch, {"tag_score": scores[epoch]})
    said = "Ŝ joins the loss from epoch 3 on: the tags' mean score is 0.81"
    assert caplog.text.count(said) == (resumed < 3)
    assert active == [0, 0, 1, 1][resumed:]
    assert callback.joined() == 2


def test_scores_that_never_get_ready_are_told(caplog):
    callback = PslStart()
    callback.set_model(segmenter(psl_start="auto"))
    callback.on_train_begin()
    for epoch, score in enumerate((0.3, 0.5, 0.9)):  # ready when there is no epoch left
        callback.on_epoch_begin(epoch)
        callback.on_epoch_end(epoch, {"tag_score": score})
    with caplog.at_level("WARNING"):
        callback.on_train_end()
    assert "Ŝ never joined the loss" in caplog.text and callback.joined() is None
    assert "ended at 0.90, and --psl_start=auto waits for 0.8: no epoch was left" in caplog.text


def test_start_that_is_no_number_is_refused():
    with pytest.raises(InputError, match="--psl_start=soon: expected auto or a whole number"):
        segmenter(psl_start="soon")


def test_training_scores_are_chosen():
    scores, labels = tf.constant([[0.2, 0.8]]), tf.constant([[1.0, 0.0]])
    expected = {"predicted": [[0.2, 0.8]], "tags": [[1, 0]], "ones": [[1, 1]]}
    for name, value in expected.items():
        model = segmenter(psl_scores=name)
        np.testing.assert_allclose(model._training_scores(scores, labels), value)


def test_last_layers_learn_at_their_own_rates():
    model = segmenter()
    rates = solver.variable_rates(model, model.config)
    named = {path.split("/")[-2] + "/" + path.split("/")[-1]: r for path, r in rates.items()}
    assert named["fc8_seg/kernel"] == named["fc8_cls/kernel"] == (10, 5e-4)
    assert named["fc8_seg/bias"] == named["fc8_cls/bias"] == (20, 0)
    assert named["fc6/kernel"] == (1, 5e-4) and named["fc6/bias"] == (2, 0)


@pytest.mark.parametrize("kind", [Classifier, Segmenter])
def test_cached_features_train_to_the_same_weights(kind):
    cls = configs.TrainClassifier if kind is Classifier else configs.TrainSegmenter
    config = cls(**BASE | dict(input="warp", freeze_through="pool5a", dropout=0.5))
    data, after = batch(), []
    for cached in (False, True):
        model = kind(config, 3)
        model.compile(optimizer=solver.build(model, config, 10))
        before = model.tuned.get_weights()
        step = dict(data)
        if cached:
            step["features"] = model.frozen(step.pop("image"))
        for _ in range(2):
            model.train_step(step)
        after.append(model.tuned.get_weights())
    assert any(np.abs(b - a).max() > 0 for b, a in zip(before, after[1], strict=True))
    for one, other in zip(*after, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_frozen_layers_do_not_move():
    model = segmenter(freeze_through="conv4")
    before, tuned = model.frozen.get_weights(), model.tuned.get_weights()
    model.train_step(batch())
    for one, other in zip(before, model.frozen.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert any((a != b).any() for a, b in zip(tuned, model.tuned.get_weights(), strict=True))
