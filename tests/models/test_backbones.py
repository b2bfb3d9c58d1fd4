"""The LargeFOV trunk: shapes, LargeFOV's changes to VGG-16, and pretrained weights."""

import functools
import itertools
import os
import pathlib
import weakref

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.legacy.saving import legacy_h5_format

from aepsl_tf import config as configs
from aepsl_tf.data.transforms import INPUT_MEAN
from aepsl_tf.errors import InputError
from aepsl_tf.models import backbones
from aepsl_tf.models.classifier import Classifier


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


def test_fc_scale_is_of_random_fc6_and_fc7():
    usual, half = (all_layers(backbones.build(small(fc_scale=s))) for s in (1.0, 0.5))
    for name in usual:
        if usual[name].weights:
            times = 0.5 if name in ("fc6", "fc7") else 1
            kernel = times * usual[name].kernel.numpy()
            np.testing.assert_allclose(half[name].kernel, kernel, rtol=1e-5)


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


@pytest.mark.parametrize("side", [1, 3, 5])
@pytest.mark.parametrize("dilation", [1, 2, 4, 12])  # the first by rows of taps, unless side is 5
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("dtype, near", [("float32", 1e-5), ("mixed_bfloat16", 0.02)])
def test_kernel_gradients_by_taps_are_the_library_s(
    side, dilation, large, dtype, near, monkeypatch
):
    """Taps that see nothing, for their dilation is more than the picture, among them; and pictures
    one by one.
    """
    if large:
        monkeypatch.setattr(backbones, "_LARGE", 0)
    monkeypatch.setitem(backbones._TAPS, "taps", 3)
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=[2, 9, 11, 3]).astype(np.float32))
    weigh = rng.normal(size=[2, 9, 11, 4]).astype(np.float32)
    results = []
    for way, kind in (("taps", dtype), ("library", "float32")):
        layer = backbones.DilatedConv2D(
            4, side, padding="same", dilation_rate=dilation, dtype=kind, kernel_gradients=way,
            kernel_initializer=keras.initializers.RandomNormal(seed=1),
        )  # fmt: skip
        layer.build(x.shape)

        @tf.function
        def run(layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(x)
                out = tf.cast(layer(x), tf.float32)
                loss = tf.reduce_sum(out * weigh)
            return [out, *tape.gradient(loss, [x, *(w.value for w in layer.weights)])]

        results.append(run())
    used = [op.type for op in run.get_concrete_function().graph.get_operations()]
    assert "Conv2DBackpropFilter" in used  # the library's
    for one, other in zip(*results, strict=True):
        assert np.linalg.norm(one - other) <= near * np.linalg.norm(other)


# --------------------------------------------------------------- every layer of the real network


def real_layers(**changes):
    """Name → layer of VGG-16 LargeFOV, none built."""
    stages = backbones._blocks(small(backbone="vgg16", **changes))
    return {layer.name: layer for layer in itertools.chain(*stages)}


def output_shape(layer, shape):
    return layer.compute_output_spec(keras.KerasTensor(shape)).shape


def real_shapes():
    """Name → what the layer sees of a picture of 321²."""
    seen, shape = {}, (1, 321, 321, 3)
    for name, layer in real_layers().items():
        seen[name], shape = shape, output_shape(layer, shape)
    return seen


REAL = real_shapes()
POOLS = [name for name in REAL if name.startswith("pool")]
CONVOLUTIONS = [name for name in REAL if not name.startswith(("pool", "drop"))]


def both_ways(layer, x, weigh):
    """Of Σ output · weigh, as a training step computes it: [output, gradients by x, weights…]."""

    @tf.function
    def run(x, weigh):
        with tf.GradientTape() as tape:
            tape.watch(x)
            out = tf.cast(layer(x), tf.float32)
            loss = tf.reduce_sum(out * weigh)
        return [out, *tape.gradient(loss, [x, *(w.value for w in layer.weights)])]

    return run(tf.constant(x, tf.float32), tf.constant(weigh, tf.float32))


def assert_near(ones, others, near):
    """Each tensor within a relative distance, in norm."""
    for one, other in zip(ones, others, strict=True):
        assert np.linalg.norm(one - other) < near * np.linalg.norm(other)


def has_avx512():
    """Whether oneDNN computes in bfloat16 here; what does else rounds sums as well."""
    try:
        return "avx512f" in pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return True


# Measured: float32 up to 1.1e-6 (5.8e-6 where taps sum over 321² cells), bfloat16's convolutions
# .0024 to .0029 (its inputs, kernel and output are each rounded by .0017 in the mean), pools up to
# .004. What Keras does in bfloat16 shows in gradients of biases of dilated layers, .047 here and
# .23 to .7 on another machine. Without AVX-512 gradients by TensorFlow's own convolutions are .010
# to .030 off, and auto is float32.
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_real_convolutions_are_keras_s_in_float32(name):
    """Forward and every gradient, in each precision and by each way to the kernel's."""
    rng, shape, kind = np.random.default_rng(0), REAL[name], real_layers()[name]
    plain = keras.layers.Conv2D(
        kind.filters, kind.kernel_size, padding="same", dilation_rate=kind.dilation_rate
    )
    plain.build(shape)
    x, weigh = rng.normal(size=shape), rng.normal(size=output_shape(kind, shape))
    truth = both_ways(plain, x, weigh)
    ways = ["library", *(["all_taps"] if backbones._taps("all_taps", shape[-1]) else [])]
    for (dtype, near), way in itertools.product(
        [("float32", 5e-6), ("mixed_bfloat16", 0.005 if has_avx512() else 0.04)], ways
    ):
        if (dtype, way, shape[1]) == ("float32", "all_taps", 321):
            near = 1e-5
        layer = real_layers(precision=dtype, kernel_gradients=way)[name]
        layer.activation = keras.activations.linear  # a ReLU switched by rounding is no fault
        layer.build(shape)
        layer.set_weights(plain.get_weights())
        assert_near(both_ways(layer, x, weigh), truth, near)


@pytest.mark.parametrize("name", POOLS)
def test_real_pools_are_float32_s_in_bfloat16(name):
    rng, shape = np.random.default_rng(0), REAL[name]
    # No two of 3 × 3 cells are alike, in bfloat16 neither: else a maximum has several places.
    _, rows, columns, _ = np.indices(shape, sparse=True)
    x = 9 * rng.integers(0, 28, shape) + 3 * (rows % 3) + columns % 3
    exact, mixed = (real_layers(precision=p)[name] for p in ("float32", "mixed_bfloat16"))
    weigh = rng.normal(size=output_shape(exact, shape))
    assert_near(both_ways(mixed, x, weigh), both_ways(exact, x, weigh), 0.01)


def test_the_way_of_the_gradients_is_the_config_s():
    for way in ("library", "taps", "all_taps"):
        layers = all_layers(backbones.build(small(kernel_gradients=way)))
        ways = {layer.kernel_gradients for layer in layers.values() if "conv" in layer.name}
        assert ways == {way} == {layers["fc6"].kernel_gradients}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, {(512, 512, 3, 1), (512, 512, 3, 2), (512, 1024, 3, 12), (1024, 1024, 1, 1)}),
     ({"freeze_through": "conv4", "fc_channels": 256}, {(512, 512, 3, 2), (512, 256, 3, 12)}),
     ({"freeze_through": "pool5a", "fc6_dilation": 4}, {(512, 1024, 3, 4), (1024, 1024, 1, 1)}),
     ({"backbone": "vgg16_small"}, set())],
)  # fmt: skip
def test_by_taps_are_those_that_learn_and_see_many_channels(changes, expected):
    found = backbones.by_taps(small(**{"backbone": "vgg16"} | changes))
    assert found == {(*shape, 8) for shape in expected}


def test_all_taps_are_those_of_fewer_channels_too():
    config = small(backbone="vgg16", freeze_through="none")
    further = backbones.by_taps(config, "all_taps") - backbones.by_taps(config)
    assert further == {
        (64, 64, 3, 1, 1), (64, 128, 3, 1, 2), (128, 128, 3, 1, 2), (128, 256, 3, 1, 4),
        (256, 256, 3, 1, 4), (256, 512, 3, 1, 8),
    }  # fmt: skip
    assert backbones.by_taps(config, "library") == set()


def test_taps_are_taken_of_many_channels_and_known_sizes_alone(monkeypatch):
    monkeypatch.setattr(backbones, "convolve", lambda *_: pytest.fail("by taps"))
    layer = backbones.DilatedConv2D(2, 3, padding="same", kernel_gradients="taps")
    layer(tf.zeros([1, 5, 5, 8]))
    many = backbones.DilatedConv2D(2, 3, padding="same", kernel_gradients="taps")
    tf.function(many).get_concrete_function(tf.TensorSpec([1, None, None, 512]))
    with pytest.raises(pytest.fail.Exception, match="by taps"):
        many(tf.zeros([1, 5, 5, 512]))
    few = backbones.DilatedConv2D(2, 3, padding="same", kernel_gradients="all_taps")
    with pytest.raises(pytest.fail.Exception, match="by taps"):
        few(tf.zeros([1, 5, 5, 64]))
    same = {"padding": "same", "kernel_gradients": "taps"}
    for side, other in ((3, {"padding": "valid"}), (3, {"strides": 2}), (2, {}), ((1, 3), {}),
                        (3, {"dilation_rate": (1, 2)})):  # fmt: skip
        with pytest.raises(ValueError, match="not of such a convolution"):
            backbones.DilatedConv2D(2, side, **same | other)


def test_decimate_is_every_third_tap_and_every_nth_channel():
    """Against a loop over every value that stays."""
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=[7, 7, 3, 8]), rng.normal(size=8)
    ours, b = backbones.decimate(kernel, bias, inputs=3, outputs=4)
    assert ours.shape == (3, 3, 3, 4) and b.tolist() == [bias[2 * o] for o in range(4)]
    for i, j, c, o in np.ndindex(ours.shape):
        assert ours[i, j, c, o] == kernel[3 * i, 3 * j, c, 2 * o]


def test_decimate_takes_the_inputs_its_input_layer_kept():
    kernel = np.arange(8 * 8, dtype=np.float32).reshape(1, 1, 8, 8)
    ours, _ = backbones.decimate(kernel, np.zeros(8), inputs=4, outputs=4)
    np.testing.assert_array_equal(ours[0, 0], kernel[0, 0][::2, ::2])


# ------------------------------------------------------------------------------ pretrained weights

TINY_VGG16 = (((2,), (2,), (2, 2), (3,), (4,)), 8)
"""Filters of a VGG-16 so small that its whole way through a file takes no time; fc1 has 32."""


def tiny_source(include_top, weights=None, asked=None):
    """Stands for `keras.applications.VGG16`: layers of its names, tiny, with random values."""
    if asked is not None:
        asked.append((include_top, weights))
    seeds = itertools.count()

    def layer(cls, *args, **kwargs):
        normal = keras.initializers.RandomNormal(seed=next(seeds))
        return cls(*args, **kwargs, kernel_initializer=normal, bias_initializer=normal)

    x = images = keras.Input([224, 224, 3] if include_top else [None, None, 3])
    for block, filters in enumerate(TINY_VGG16[0], start=1):
        for i, count in enumerate(filters, start=1):
            x = layer(
                keras.layers.Conv2D, count, 3, padding="same", name=f"block{block}_conv{i}"
            )(x)  # fmt: skip
        x = keras.layers.MaxPool2D(name=f"block{block}_pool")(x)
    if include_top:
        x = keras.layers.Flatten(name="flatten")(x)
        for name, units in (("fc1", 32), ("fc2", 32), ("predictions", 10)):
            x = layer(keras.layers.Dense, units, name=name)(x)
    return keras.Model(images, x)


@pytest.fixture
def tiny(monkeypatch):
    """vgg16 and `keras.applications.VGG16` made tiny; what the latter was asked for."""
    asked = []
    monkeypatch.setitem(backbones._SIZES, "vgg16", TINY_VGG16)
    monkeypatch.setattr(keras.applications, "VGG16", functools.partial(tiny_source, asked=asked))
    return asked


@pytest.fixture
def told(monkeypatch):
    """What the log is told."""
    lines = []
    monkeypatch.setattr(backbones.logging, "info", lambda text, *args: lines.append(text % args))
    return lines


def assert_loaded(layers, source):
    """Every layer of a tiny trunk is the source's, fc6 and fc7 decimated where there is a top."""
    names = [n for n in layers if n.startswith("block")]
    assert len(names) == 6
    expected = {n: source.get_layer(n).get_weights() for n in names}
    if any(layer.name == "fc1" for layer in source.layers):
        (fc1, b1), (fc2, b2) = (source.get_layer(n).get_weights() for n in ("fc1", "fc2"))
        fc6 = np.zeros([3, 3, 4, 8], np.float32)
        for i, j, c, o in np.ndindex(fc6.shape):
            fc6[i, j, c, o] = fc1[(3 * i * 7 + 3 * j) * 4 + c, 4 * o]
        expected |= {"fc6": [fc6, b1[::4]], "fc7": [fc2[None, None, ::4, ::4], b2[::4]]}
    for name, values in expected.items():
        for ours, theirs in zip(layers[name].get_weights(), values, strict=True):
            np.testing.assert_array_equal(ours, theirs)
            assert np.abs(ours).max() > 0


@pytest.mark.parametrize("name", ["imagenet", "imagenet_notop"])
def test_imagenet_is_all_of_vgg16(tiny, told, name):
    classifier = Classifier(small(backbone="vgg16", freeze_through="conv3"), 2)
    layers = all_layers([classifier.frozen, classifier.tuned])
    before = layers["fc6"].get_weights()
    classifier.load_pretrained(name)
    assert tiny == [(name == "imagenet", "imagenet")]
    assert_loaded(layers, tiny_source(name == "imagenet"))
    heads = "fc6, fc7: decimated from fc1, fc2; fc8: random"
    if name == "imagenet_notop":
        np.testing.assert_array_equal(layers["fc6"].get_weights()[0], before[0])
        heads = "fc6, fc7, fc8: random"
    assert told == [f"layers start: block1_conv1…block5_conv1: {name}; {heads}"]


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
@pytest.mark.parametrize("top", [True, False])
def test_a_file_says_itself_whether_it_has_the_top(tiny, told, tmp_path, suffix, top):
    """Keras's own format names layers by kind, its older one by name."""
    path, source = tmp_path / f"vgg16{suffix}", tiny_source(top)
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, source)
    else:
        source.save_weights(path)
    parts = backbones.build(small(backbone="vgg16"))
    backbones.load_weights(parts, str(path), "vgg16")
    assert tiny == [(top, None)]
    assert_loaded(all_layers(parts), source)
    heads = "decimated from fc1, fc2" if top else "random"
    assert told == [f"layers start: block1_conv1…block5_conv1: {path}; fc6, fc7: {heads}"]


def test_decimated_layers_see_what_the_dense_ones_saw(tiny):
    """On 7 × 7 cells where all that decimation drops is silent, fc6 dilated to their size."""
    fc1, fc2 = (tiny_source(True).get_layer(name) for name in ("fc1", "fc2"))
    parts = backbones.build(small(backbone="vgg16", fc6_dilation=3))
    backbones.load_weights(parts, "imagenet", "vgg16")
    fc6, fc7 = (all_layers(parts)[name] for name in ("fc6", "fc7"))
    seen = np.zeros([1, 7, 7, 4], np.float32)
    seen[:, ::3, ::3] = np.random.default_rng(0).normal(size=[1, 3, 3, 4])
    first = np.maximum(fc1(seen.reshape(1, -1)), 0)
    center = fc6(seen)[:, 3:4, 3:4]
    assert np.abs(first[:, ::4]).max() > 0
    np.testing.assert_allclose(center[:, 0, 0], first[:, ::4], rtol=1e-4, atol=1e-6)
    kept = np.where(np.arange(32) % 4 == 0, first, 0)
    second = np.maximum(fc2(kept), 0)
    assert np.abs(second[:, ::4]).max() > 0
    np.testing.assert_allclose(fc7(center)[:, 0, 0], second[:, ::4], rtol=1e-4, atol=1e-6)


def test_nothing_of_the_source_is_held(tiny, monkeypatch):
    made = []
    monkeypatch.setattr(
        keras.applications, "VGG16",
        lambda **kw: made.append(weakref.ref(model := tiny_source(**kw))) or model,
    )  # fmt: skip
    backbones.load_weights(backbones.build(small(backbone="vgg16")), "imagenet", "vgg16")
    assert [ref() for ref in made] == [None]


@pytest.mark.long
def test_a_whole_random_vgg16_in_a_file(tmp_path, told):
    """138 million parameters, at the paper's sizes."""
    path = tmp_path / "whole.weights.h5"
    source = keras.applications.VGG16(weights=None)
    for name in ("fc1", "fc2"):  # Keras's biases start at 0
        layer = source.get_layer(name)
        layer.bias.assign(np.arange(4096) / 4096)
    source.save_weights(path)
    parts = backbones.build(configs.TrainClassifier())
    backbones.load_weights(parts, str(path), "vgg16")
    layers = all_layers(parts)
    for name in (n for n in layers if n.startswith("block")):
        np.testing.assert_array_equal(
            layers[name].get_weights()[0], source.get_layer(name).get_weights()[0]
        )
    fc1, fc2 = (source.get_layer(name).get_weights()[0] for name in ("fc1", "fc2"))
    kernel, bias = layers["fc6"].get_weights()
    assert kernel.shape == (3, 3, 512, 1024)
    for i, j in np.ndindex(3, 3):
        cell = (3 * i * 7 + 3 * j) * 512
        np.testing.assert_array_equal(kernel[i, j], fc1[cell : cell + 512, ::4])
    np.testing.assert_array_equal(bias, np.float32(np.arange(0, 4096, 4) / 4096))
    kernel, _ = layers["fc7"].get_weights()
    np.testing.assert_array_equal(kernel[0, 0], fc2[::4, ::4])
    assert told[0].endswith("fc6, fc7: decimated from fc1, fc2")


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


@pytest.mark.filterwarnings("ignore:Skipping nested container")  # Keras, before it gives up
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
