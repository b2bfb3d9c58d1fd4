"""The LargeFOV trunk: shapes, LargeFOV's changes to VGG-16, and pretrained weights."""

import os
import pathlib

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf.data.transforms import INPUT_MEAN
from aepsl_tf.errors import InputError
from aepsl_tf.models import backbones


def small(**changes):
    base = dict(backbone="vgg16_small", weights="none", input_size=33)
    return configs.TrainClassifier(**base | changes)


def all_layers(parts):
    return {layer.name: layer for part in parts for layer in part.layers}


@pytest.fixture(scope="module")
def vgg16():
    return backbones.build(small(backbone="vgg16"))


def test_vgg16_has_eighth_resolution(vgg16):
    frozen, tuned = vgg16
    assert tuned(frozen(np.zeros([1, 33, 33, 3], np.float32))).shape == (1, 5, 5, 1024)


@pytest.mark.parametrize("size", [9, 33, 41])
def test_8k_plus_1_pixels_give_k_plus_1_cells(size):
    frozen, tuned = backbones.build(small())
    cells = (size - 1) // 8 + 1
    out = tuned(frozen(np.zeros([2, size, 33, 3], np.float32)))
    assert out.shape == (2, cells, 5, 128)


def test_vgg16_layers_are_largefov_s(vgg16):
    layers = all_layers(vgg16)
    dilations = {n: layer.dilation_rate[0] for n, layer in layers.items() if "conv" in n}
    assert len(dilations) == 13
    assert {n for n, d in dilations.items() if d == 2} == {f"block5_conv{i}" for i in (1, 2, 3)}
    assert set(dilations.values()) == {1, 2}
    assert layers["fc6"].dilation_rate == (12, 12) and layers["fc6"].kernel_size == (3, 3)
    assert layers["fc7"].kernel_size == (1, 1)
    pools = [layers[f"pool{i}"] for i in range(1, 6)]
    assert [p.strides[0] for p in pools] == [2, 2, 2, 1, 1]
    assert {p.pool_size for p in pools} == {(3, 3)}
    kernels = [layers[f"block{b}_conv1"].kernel.shape for b in range(1, 6)]
    assert [tuple(k) for k in kernels] == [
        (3, 3, 3, 64), (3, 3, 64, 128), (3, 3, 128, 256), (3, 3, 256, 512), (3, 3, 512, 512)
    ]  # fmt: skip


def test_fc6_dilation_is_the_config_s():
    assert all_layers(backbones.build(small(fc6_dilation=2)))["fc6"].dilation_rate == (2, 2)


@pytest.mark.parametrize(
    ("backbone", "name", "last", "first"),
    [
        ("vgg16_small", "none", "caffe_input", "block1_conv1"),
        ("vgg16_small", "conv3", "pool3", "block4_conv1"),
        ("vgg16_small", "pool5a", "block5_conv1", "fc6"),
        ("vgg16", "conv4", "pool4", "block5_conv1"),
        ("vgg16", "pool5a", "pool5a", "fc6"),
    ],
)
def test_freezing_cuts_after_the_named_block(backbone, name, last, first):
    frozen, tuned = backbones.build(small(backbone=backbone, freeze_through=name))
    assert frozen.layers[-1].name == last
    assert tuned.layers[1].name == first
    assert not frozen.trainable_variables


def test_small_trunk_has_the_stride_but_not_the_widening():
    layers = all_layers(backbones.build(small()))
    assert {n for n in layers if n.startswith("pool")} == {"pool1", "pool2", "pool3"}
    assert {layers[f"block{b}_conv1"].dilation_rate for b in range(1, 6)} == {(1, 1)}


def test_caffe_input_scales_and_survives_saving():
    layer = backbones.CaffeInput(1 / 64)
    images = np.array([[[INPUT_MEAN, (10, 20, 30)]]], np.float32)
    np.testing.assert_allclose(layer(images), backbones.CaffeInput()(images) / 64, atol=1e-6)
    again = backbones.CaffeInput.from_config(layer.get_config())
    np.testing.assert_array_equal(layer(images), again(images))
    scales = [all_layers(backbones.build(small(backbone=b)))["caffe_input"].scale
              for b in ("vgg16", "vgg16_small")]  # fmt: skip
    assert scales[0] == 1 and scales[1] < 1  # ImageNet weights want the pictures as they are


def test_a_cut_network_computes_the_same():
    images = np.random.default_rng(0).uniform(0, 255, [1, 33, 33, 3]).astype(np.float32)
    outs = []
    for name in ("none", "conv4", "pool5a"):
        frozen, tuned = backbones.build(small(freeze_through=name))
        outs.append(tuned(frozen(images)).numpy())
    assert np.abs(outs[0]).max() > 0
    np.testing.assert_allclose(outs[1], outs[0], rtol=1e-5)
    np.testing.assert_allclose(outs[2], outs[0], rtol=1e-5)


def test_start_depends_on_seed_and_layer_alone():
    one, same, other = (all_layers(backbones.build(small(seed=s))) for s in (1, 1, 2))
    np.testing.assert_array_equal(one["fc6"].kernel, same["fc6"].kernel)
    assert np.abs(one["fc6"].kernel - other["fc6"].kernel).max() > 0


def test_caffe_input_is_bgr_less_the_mean():
    out = backbones.CaffeInput()(np.array([[[INPUT_MEAN, (10, 20, 30)]]], np.float32))
    r, g, b = INPUT_MEAN
    np.testing.assert_allclose(out, [[[[0, 0, 0], [30 - b, 20 - g, 10 - r]]]], atol=1e-5)


def test_pool5a_divides_by_nine_at_the_borders():
    out = backbones.CaffeAveragePool()(np.full([1, 3, 4, 1], 9, np.float32))[0, ..., 0]
    np.testing.assert_allclose(out, [[4, 6, 6, 4], [6, 9, 9, 6], [4, 6, 6, 4]], rtol=1e-6)


@pytest.mark.parametrize("trains", ["what the machine can", "float32 alone", "nothing"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_dilated_convolution_is_keras_s(trains, dtype, monkeypatch):
    """On machines of every kind; the truth is Keras's way in float32, which is right."""
    if trains != "what the machine can":
        monkeypatch.setattr(
            backbones, "_trains_dilated", lambda d: trains == "float32 alone" and d == "float32"
        )
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=[2, 9, 11, 3]).astype(np.float32))
    weigh = rng.normal(size=[2, 9, 11, 4]).astype(np.float32)
    # No ReLU: where rounding turns one off its gradient is another.
    ours = backbones.DilatedConv2D(4, 3, padding="same", dilation_rate=2, dtype=dtype)
    theirs = keras.layers.Conv2D(4, 3, padding="same", dilation_rate=2)
    ours.build(x.shape)
    theirs.build(x.shape)
    theirs.set_weights(ours.get_weights())
    results = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = tf.cast(layer(x), tf.float32)
            loss = tf.reduce_sum(out * weigh)
        variables = [x, *(w.value for w in layer.weights)]
        results.append([out, *tape.gradient(loss, variables)])
    near = 1e-5 if dtype == "float32" else 0.02  # relative distance; the known fault is .23 to .7
    for one, other in zip(*results, strict=True):
        assert np.linalg.norm(one - other) < near * np.linalg.norm(other)


def test_decimate_by_hand():
    kernel = np.arange(7 * 7 * 2 * 8, dtype=np.float32).reshape(7, 7, 2, 8)
    bias = np.arange(8.0)
    ours, b = backbones.decimate(kernel, bias, channels=4)
    assert ours.shape == (3, 3, 2, 4)
    np.testing.assert_array_equal(b, [0, 2, 4, 6])
    for i, row in enumerate((0, 3, 6)):
        for j, column in enumerate((0, 3, 6)):
            np.testing.assert_array_equal(ours[i, j], kernel[row, column][:, [0, 2, 4, 6]])


def test_decimate_takes_the_inputs_its_input_layer_kept():
    kernel = np.arange(8 * 8, dtype=np.float32).reshape(1, 1, 8, 8)
    ours, _ = backbones.decimate(kernel, np.zeros(8), channels=4)
    np.testing.assert_array_equal(ours[0, 0], kernel[0, 0][::2, ::2])


def test_weights_none_leaves_the_start():
    parts = backbones.build(small())
    before = parts[1].get_weights()
    backbones.load_weights(parts, "none", "vgg16_small")
    for one, other in zip(before, parts[1].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_small_backbone_has_no_imagenet_weights():
    with pytest.raises(InputError, match="--weights=none"):
        backbones.load_weights(backbones.build(small()), "imagenet", "vgg16_small")


def test_missing_weights_file(vgg16, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        backbones.load_weights(vgg16, str(tmp_path / "none.weights.h5"), "vgg16")


def test_wrong_weights_file(vgg16, tmp_path):
    text = tmp_path / "text.weights.h5"
    text.write_text("no weights")
    other = tmp_path / "other.weights.h5"
    with h5py.File(other, "w") as file:
        file["layers/dense/vars/0"] = np.zeros(3)
    for path in (text, other):
        with pytest.raises(InputError, match=r"keras\.applications\.VGG16") as caught:
            backbones.load_weights(vgg16, str(path), "vgg16")
        assert "\n" not in str(caught.value)


DATA = os.environ.get("AEPSL_DATA")


@pytest.mark.skipif(not DATA, reason="AEPSL_DATA is not set: no pretrained weights to load")
def test_pretrained_weights_land_in_their_layers():
    path = pathlib.Path(DATA) / "weights" / "vgg16_imagenet_notop.weights.h5"
    parts = backbones.build(small(backbone="vgg16", freeze_through="pool5a"))
    backbones.load_weights(parts, str(path), "vgg16")
    source = keras.applications.VGG16(include_top=False, weights=None)
    source.load_weights(path)
    for name in ("block1_conv1", "block5_conv3"):
        for ours, theirs in zip(
            parts[0].get_layer(name).get_weights(), source.get_layer(name).get_weights(),
            strict=True,
        ):  # fmt: skip
            np.testing.assert_array_equal(ours, theirs)
            assert np.abs(ours).max() > 0
