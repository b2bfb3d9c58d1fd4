"""The shared train step: pieces of a batch, rows that only fill it, precisions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf.classes import VOID
from aepsl_tf.errors import InputError
from aepsl_tf.models import backbones
from aepsl_tf.models.classifier import Classifier
from aepsl_tf.models.segmenter import Segmenter
from aepsl_tf.training import solver

BASE = dict(backbone="vgg16_small", weights="none", input_size=33, dropout=0.0, fc6_dilation=2)
KINDS = {"classifier": (Classifier, configs.TrainClassifier),
         "segmenter": (Segmenter, configs.TrainSegmenter)}  # fmt: skip


def build(kind, **changes):
    cls, config = KINDS[kind]
    config = config(**BASE | changes)
    model = cls(config, 3)
    model.compile(optimizer=solver.build(model, config, 10))
    if kind == "segmenter":
        model.psl_active.assign(1.0)
    return model


def batch(count=4, seed=0):
    rng = np.random.default_rng(seed)
    mask = rng.choice(np.array([0, 1, 2, VOID], np.uint8), (count, 5, 5))
    mask[0, 1:] = VOID
    return {
        "image": tf.constant(rng.uniform(0, 255, (count, 33, 33, 3)).astype(np.float32)),
        "labels": tf.constant(np.eye(3, dtype=np.float32)[rng.integers(0, 3, count)]),
        "mask": tf.constant(mask),
    }


def change(model, data, steps=1):
    """How the weights move: (changes, logs of the last step)."""
    before = model.tuned.get_weights()
    step = tf.function(model.train_step, autograph=False)
    for _ in range(steps):
        logs = step(data)
    pairs = zip(model.tuned.get_weights(), before, strict=True)
    return [a - b for a, b in pairs if b.dtype.kind == "f"], logs


def distance(ones, others):
    """Largest relative distance, in norm, over the tensors."""
    return max(np.linalg.norm(a - b) / np.linalg.norm(a) for a, b in zip(ones, others, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [2, 4])
def test_accumulated_step_is_the_whole_batch_s(kind, pieces):
    whole, logs = change(build(kind), batch())
    cut, logs_cut = change(build(kind, accumulate=pieces), batch())
    assert distance(whole, cut) < 1e-4
    for name in logs:
        np.testing.assert_allclose(logs_cut[name], logs[name], rtol=1e-5)


def test_accumulation_knows_the_whole_batch_s_pixels():
    settings = dict(psl="none", pixel_norm="batch")
    whole, _ = change(build("segmenter", **settings), batch())
    cut, _ = change(build("segmenter", **settings, accumulate=2), batch())
    assert distance(whole, cut) < 1e-4


def test_accumulation_that_cannot_be_exact_is_refused():
    with pytest.raises(InputError, match="--accumulate needs --pixel_norm=image"):
        configs.TrainSegmenter(accumulate=2, pixel_norm="batch")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["image", "batch"])
def test_rows_that_fill_a_batch_change_nothing(kind, norm):
    settings = {"pixel_norm": norm} if kind == "segmenter" else {}
    data = batch(3)
    filled = {k: tf.concat([v, v[:1]], 0) for k, v in data.items()}
    filled["mask"] = tf.concat([data["mask"], tf.fill([1, 5, 5], tf.constant(VOID, tf.uint8))], 0)
    filled["present"] = tf.constant([1.0, 1, 1, 0])
    plain, logs = change(build(kind, **settings), data)
    padded, logs_padded = change(build(kind, **settings), filled)
    assert distance(plain, padded) < 1e-4
    np.testing.assert_allclose(logs_padded["loss"], logs["loss"], rtol=1e-5)


def smooth(model):
    """The model with nothing in it that rounding switches: means of cells, softplus."""
    for layer in model.tuned.layers:
        if isinstance(layer, keras.layers.MaxPool2D):
            layer.pool_mode = "average"
        elif getattr(layer, "activation", None) is keras.activations.relu:
            layer.activation = keras.activations.softplus
    return model


# Of a smooth network rounding alone is left: .012 and .003 here, .021 and .005 with other batches.
# Maxima and ReLUs that rounding switches send gradients another way: .22 and .043 at conv1, which
# would hide any fault. Layer by layer, at the real size, it is in test_backbones.
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision, most", [("mixed_bfloat16", 0.03), ("mixed_float16", 0.008)])
def test_gradients_of_mixed_precision_are_float32_s(kind, precision, most):
    exact, _ = change(smooth(build(kind, learning_rate=0.1)), batch())
    mixed, _ = change(smooth(build(kind, precision=precision, learning_rate=0.1)), batch())
    assert 1e-6 < distance(exact, mixed) < most


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_losses_of_mixed_precision_are_float32_s(kind, precision):
    exact, mixed = (change(build(kind, precision=p), batch())[1] for p in ("float32", precision))
    for name in exact:
        np.testing.assert_allclose(mixed[name], exact[name], rtol=0.01, atol=1e-3)


def test_weights_and_outputs_stay_float32_under_mixed_precision():
    model = build("segmenter", precision="mixed_bfloat16", freeze_through="conv4")
    assert {v.dtype for v in model.tuned.trainable_variables} == {"float32"}
    assert model.frozen(batch()["image"]).dtype == tf.bfloat16
    assert {v.dtype for v in model(batch()["image"]).values()} == {tf.float32}


def test_a_precision_that_is_imitated_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr(backbones, "_trains_dilated", lambda dtype: dtype == "float32")
    backbones._warn_where_imitated.cache_clear()
    for precision in ("float32", "mixed_bfloat16", "mixed_bfloat16"):
        build("segmenter", precision=precision)
    told = [message for message in caplog.messages if "imitates" in message]
    assert len(told) == 1 and told[0].startswith("--precision=mixed_bfloat16: this machine")


def test_float16_overflow_skips_the_step_and_halves_the_scale():
    model = build("classifier", precision="mixed_float16")
    scale = float(model.optimizer.dynamic_scale)
    change(model, batch())
    assert float(model.optimizer.dynamic_scale) == scale
    model.optimizer.dynamic_scale.assign(1e30)
    moved, _ = change(model, batch())
    assert all((m == 0).all() for m in moved)
    np.testing.assert_allclose(float(model.optimizer.dynamic_scale), 5e29, rtol=1e-3)
    assert int(model.optimizer.iterations) == 1


# Keras says it of every dataset that a generator does not feed.
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
def test_plain_fit_serves_notebooks():
    model = build("segmenter")
    rows = tf.data.Dataset.from_tensor_slices(batch(6)).batch(2)
    before = model.tuned.get_weights()
    history = model.fit(rows, epochs=2, verbose=0, callbacks=[keras.callbacks.TerminateOnNaN()])
    assert set(history.history) == {"loss", "j", "label", "tag_score", "j_hat"}
    assert any((a != b).any() for a, b in zip(before, model.tuned.get_weights(), strict=True))
