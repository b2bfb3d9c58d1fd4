"""Caffe's update against NumPy, and the rate policies step by step."""

import csv
import dataclasses
import os
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf.classes import VOC
from aepsl_tf.errors import InputError
from aepsl_tf.models.classifier import Classifier
from aepsl_tf.training import solver


def rates_over(config, steps_per_epoch, steps):
    rate = solver.learning_rate(config, steps_per_epoch)
    return [float(rate(t)) if callable(rate) else rate for t in range(steps)]


def test_caffe_sgd_against_numpy():
    rng = np.random.default_rng(0)
    start = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}
    rates = {"kernel": (10.0, 5e-2), "bias": (20.0, 0.0)}
    variables = {
        k: keras.Variable(v.astype(np.float32), name=k, dtype="float32") for k, v in start.items()
    }
    optimizer = solver.CaffeSGD(0.01, momentum=0.9)
    optimizer.set_rates({v.path: rates[k] for k, v in variables.items()})
    optimizer.build(list(variables.values()))
    w = {k: v.astype(np.float32).astype(np.float64) for k, v in start.items()}
    velocity = {k: np.zeros_like(v) for k, v in w.items()}
    for _ in range(5):
        grads = {k: rng.normal(size=v.shape).astype(np.float32) for k, v in w.items()}
        tensors = [keras.ops.convert_to_tensor(grads[k]) for k in variables]
        optimizer.apply_gradients(zip(tensors, variables.values(), strict=True))
        for k, (rate, decay) in rates.items():
            velocity[k] = 0.9 * velocity[k] + 0.01 * rate * (grads[k] + decay * w[k])
            w[k] = w[k] - velocity[k]
        for k, variable in variables.items():
            np.testing.assert_allclose(variable.numpy(), w[k], rtol=1e-5, atol=1e-6)


def test_step_policy_drops_at_the_epoch_boundary():
    config = configs.Solver(epochs=4, lr_drop_epochs="1,3", learning_rate=1.0)
    expected = [1.0] * 5 + [0.1] * 10 + [0.01] * 5
    np.testing.assert_allclose(rates_over(config, 5, 20), expected, rtol=1e-6)


def test_step_policy_ignores_drops_that_never_come():
    config = configs.Solver(epochs=6, lr_drop_epochs="6", learning_rate=0.5)
    assert solver.learning_rate(config, 5) == 0.5
    assert solver.learning_rate(dataclasses.replace(config, lr_drop_epochs=""), 5) == 0.5


def test_step_policy_refuses_words():
    with pytest.raises(InputError, match="lr_drop_epochs"):
        solver.learning_rate(configs.Solver(lr_drop_epochs="six"), 5)


def test_poly_policy():
    config = configs.Solver(epochs=2, lr_policy="poly", learning_rate=0.2)
    expected = [0.2 * (1 - t / 20) ** 0.9 for t in range(20)]
    np.testing.assert_allclose(rates_over(config, 10, 20), expected, rtol=1e-5)


def test_drop_reaches_the_optimizer():
    """The rate in force at each update, seen through plain steps of gradient one."""
    config = configs.Solver(epochs=2, lr_drop_epochs="1", learning_rate=1.0)
    variable = keras.Variable(np.zeros(1, np.float32), name="w")
    optimizer = solver.CaffeSGD(solver.learning_rate(config, 3), momentum=0.0)
    optimizer.set_rates({variable.path: (1.0, 0.0)})
    optimizer.build([variable])
    moves = []
    for _ in range(6):
        before = variable.numpy().copy()
        optimizer.apply_gradients([(keras.ops.ones(1), variable)])
        moves.append(float((before - variable.numpy())[0]))
    np.testing.assert_allclose(moves, [1, 1, 1, 0.1, 0.1, 0.1], rtol=1e-5)


def test_adam_follows_the_multiplier():
    variables = [keras.Variable(np.zeros(1, np.float32), name=n) for n in "ab"]
    optimizer = solver.LayerwiseAdam(0.01)
    optimizer.set_rates({variables[0].path: (1.0, 0.0), variables[1].path: (10.0, 0.0)})
    optimizer.build(variables)
    optimizer.apply_gradients([(keras.ops.ones(1), v) for v in variables])
    np.testing.assert_allclose([float(v.numpy()[0]) for v in variables], [-0.01, -0.1], rtol=1e-4)


DATA = os.environ.get("AEPSL_DATA")


@pytest.mark.skipif(not DATA, reason="AEPSL_DATA is not set: no pretrained weights, no pictures")
@pytest.mark.parametrize("reading", ["sigmoid", "softmax"])
def test_the_paper_s_solver_keeps_fc7_of_a_random_head(reading):
    """Sigmoid: from 16 to 11 in these 60 steps, and with --fc_scale=1 from 97 to 7."""
    data = pathlib.Path(DATA)
    with open(data / "voc2012_subset" / "image_labels.csv") as file:
        rows = list(csv.DictReader(file))[::9][:50]
    folder = data / "voc2012_subset" / "VOCdevkit" / "VOC2012" / "JPEGImages"
    images = np.stack([
        keras.utils.img_to_array(keras.utils.load_img(folder / f"{row['image']}.jpg",
                                                      target_size=(65, 65)))
        for row in rows
    ])  # fmt: skip
    labels = np.array([[float(n in row["labels"].split(";")) for n in VOC.names] for row in rows])
    settings = configs.TrainClassifier(
        freeze_through="conv3", fc6_dilation=3, fc_scale=0.4, precision="float32",
        kernel_gradients="library", label_loss=reading,
    )  # fmt: skip
    model = Classifier(settings, 20)
    model.load_pretrained(str(data / "weights" / "vgg16_imagenet_notop.weights.h5"))
    model.compile(optimizer=solver.build(model, settings, 1000))
    features = model.frozen(images)
    before = _seen(model, features)
    step, draws = tf.function(model.train_step, autograph=False), np.random.default_rng(0)
    for _ in range(60):
        some = draws.integers(0, len(rows), 5)
        step({"features": tf.gather(features, some),
              "labels": tf.constant(labels[some], tf.float32)})  # fmt: skip
    assert _seen(model, features) > before / 2


def _seen(model, features):
    """The size of a picture's mean fc7 activations."""
    pooled = np.mean(model.maps(features)[0], axis=(1, 2))
    return np.linalg.norm(pooled, axis=1).mean()
