"""DeepLab-LargeFOV on VGG-16, cut in two: a frozen part and a tuned part.

Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs"
(LargeFOV): 3×3 max pools, pool4 and pool5 with stride 1, conv5 dilated by 2, an average pool5a,
fc6 as a dilated 3×3 convolution, fc7 as a 1×1. Output stride 8: 8k+1 pixels give k+1 cells.
"""

import functools
import gc
import itertools
import zlib

import h5py
import keras
import numpy as np
import tensorflow as tf
from absl import logging

from aepsl_tf import config as configs
from aepsl_tf import quiet
from aepsl_tf.data.transforms import INPUT_MEAN
from aepsl_tf.errors import InputError

_TAPS = {"taps": 512, "all_taps": 64}
"""--kernel_gradients → the channels that a convolution must see to have its kernel's gradient by
`convolve`: conv4_2 to fc7, where it is fast on most CPUs; all but the first, where the library's
own is slow.
"""
# Filters of conv1…conv5 (each inner tuple one block) and of fc6 = fc7.
_SIZES = {
    "vgg16": (((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3), 1024),
    "vgg16_small": (((16,), (32,), (48,), (64,), (64,)), 128),
}
_INPUT_SCALE = {"vgg16": 1.0, "vgg16_small": 1 / 64}
_FREEZE_BLOCKS = {"none": 0, "conv3": 3, "conv4": 4, "pool5a": 5}


_LARGE = 4_000_000
"""Values of a picture's input, a row of taps wide, from which `convolve` goes picture by picture:
what it copies of a batch would else be several times the batch's activations.
"""


@keras.saving.register_keras_serializable("aepsl_tf")
class CaffeInput(keras.layers.Layer):
    """RGB 0..255 `[B, H, W, 3]` → BGR minus the mean that the ImageNet weights were trained with.

    Args:
      scale: 1 for ImageNet weights; a trunk trained from its random start wants inputs near 1.
    """

    def __init__(self, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        self.scale = scale

    def call(self, images):
        # Not by [..., ::-1], which on a CPU takes eight times longer: a tenth of a small network.
        return tf.reverse(images - tf.constant(INPUT_MEAN), [-1]) * self.scale


@functools.cache
def _trains_dilated(dtype):
    """Whether this machine trains dilated convolutions natively in a dtype, by trying.

    A CPU does with oneDNN, and in half precision only where it has the instructions (bfloat16:
    AVX-512); else TensorFlow raises at the first step.
    """

    @tf.function(autograph=False)
    def gradient(image, kernel):
        return tf.gradients(tf.nn.conv2d(image, kernel, 1, "SAME", dilations=2), kernel)

    with tf.init_scope(), quiet.without(quiet.FAILED):
        try:
            gradient(tf.ones([1, 5, 5, 1], dtype), tf.ones([3, 3, 1, 1], dtype))
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            return False
    return True


def _taps(way, channels):
    """Whether --kernel_gradients has `convolve` for a convolution that sees some channels."""
    return way in _TAPS and channels >= _TAPS[way]


@functools.cache
def _warn_where_imitated(precision):
    """Says, once, that this machine has no instructions for a --precision."""
    if precision != "float32" and not _trains_dilated(precision.split("_")[-1]):
        logging.warning("--precision=%s: this machine imitates it, several times slower than "
                        "float32; a run that began in it goes on in it", precision)  # fmt: skip


def convolve(inputs, kernel, dilation):
    """A convolution of stride 1, padded to its input's size, whose kernel's gradient is taken by
    matrix products: of what taps saw and the gradient of what they made of it.

    Taps that lie beside each other share a product, which then is a larger one; but where they lie
    far apart, each has its own, and what it would see beyond the border is left out: a third of
    fc6's work at 41 × 41 cells.

    Args:
      inputs: `[B, H, W, C]`, of known H and W.
      kernel: `[k, k, C, C']`, k odd.
    """
    height, width = inputs.shape[1:3]
    side, _, channels, filters = kernel.shape
    offsets = [dilation * (tap - side // 2) for tap in range(side)]

    def seen(values, rows, columns):
        """Where the picture shifted by an offset still meets itself."""
        shown = values[
            :, max(rows, 0) : max(height + min(rows, 0), 0),
            max(columns, 0) : max(width + min(columns, 0), 0),
        ]  # fmt: skip
        return tf.reshape(shown, [-1, values.shape[-1]])

    def beside(values):
        """`[B, H, W, k C]`: what the taps of a row see, zeros beyond the border."""
        pad = offsets[-1]
        wide = tf.pad(values, [[0, 0], [0, 0], [pad, pad], [0, 0]])
        return tf.concat([wide[:, :, pad + x : pad + x + width] for x in offsets], -1)

    def products(inputs, made):
        """The kernel's gradient as a list of products, in the order of taps."""
        if offsets[-1] <= width // 8:  # little lies beyond the border
            rows = beside(inputs)
            return [
                tf.matmul(seen(rows, y, 0), seen(made, -y, 0), transpose_a=True) for y in offsets
            ]
        return [
            tf.matmul(seen(inputs, y, x), seen(made, -y, -x), transpose_a=True)
            for y in offsets
            for x in offsets
        ]

    def one_by_one(inputs, made):
        """The same, stacked, a picture at a time, and summed in float32."""

        def add(picture, summed):
            one = products(inputs[picture : picture + 1], made[picture : picture + 1])
            one = tf.reshape(tf.cast(tf.stack(one), tf.float32), summed.shape)
            return picture + 1, summed + one

        begin = 0, tf.zeros([side * side * channels, filters])
        _, summed = tf.while_loop(
            lambda picture, _: picture < tf.shape(made)[0], add, begin, parallel_iterations=1
        )
        return tf.cast(summed, made.dtype)

    @tf.custom_gradient
    def convolved(inputs, kernel):
        def gradients(made):
            with tf.control_dependencies([made]):  # else copies of every layer's input lie waiting
                shown = tf.identity(inputs)
            if side * channels * height * width > _LARGE:
                taps = one_by_one(shown, made)
            else:
                taps = tf.stack(products(shown, made))
            before = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(inputs), filter=kernel, out_backprop=made,
                strides=[1] * 4, padding="SAME", dilations=[1, dilation, dilation, 1],
            )  # fmt: skip
            return before, tf.reshape(taps, [side, side, channels, filters])

        return tf.nn.conv2d(inputs, kernel, 1, "SAME", dilations=dilation), gradients

    return convolved(inputs, kernel)


@tf.custom_gradient
def _add_bias(values, bias):
    """`values + bias` in half precision, the bias's gradient summed in float32.

    TensorFlow sums it in half precision: at 41 × 41 cells of bfloat16 5% off. A matrix product
    sums in float32.
    """

    def gradients(made):
        rows = tf.reshape(made, [-1, made.shape[-1]])
        ones = tf.ones([1, tf.shape(rows)[0]], made.dtype)
        return made, tf.matmul(ones, rows)[0]

    return values + bias, gradients


@keras.saving.register_keras_serializable("aepsl_tf")
class DilatedConv2D(keras.layers.Conv2D):
    """Conv2D whose dilation runs natively.

    On a CPU Keras goes through SpaceToBatch, which is slower and, in bfloat16, gives wrong bias
    gradients. Half precision that the machine cannot train natively is computed in float32.

    Args:
      kernel_gradients: "taps" and "all_taps" take the kernel's gradient from `convolve` where its
        input has the channels for it (`_TAPS`), which pays on some CPUs; "library" TensorFlow's.

    Raises:
      ValueError: by taps, what `convolve` does not know: a stride, another padding than "same", a
        kernel that is not square or has even sides, a dilation of two rates.
    """

    def __init__(self, *args, kernel_gradients="library", **kwargs):
        super().__init__(*args, **kwargs)
        side, rate = self.kernel_size[0], self.dilation_rate[0]
        known = (self.strides, self.padding) == ((1, 1), "same") and side % 2 == 1
        known &= (self.kernel_size, self.dilation_rate) == ((side, side), (rate, rate))
        if kernel_gradients in _TAPS and not known:
            raise ValueError(f"kernel_gradients={kernel_gradients}: not of such a convolution")
        self.kernel_gradients = kernel_gradients

    def get_config(self):
        return super().get_config() | {"kernel_gradients": self.kernel_gradients}

    def call(self, inputs):
        if self.compute_dtype == "float32":
            return super().call(inputs)
        made = self.convolution_op(inputs, self.kernel)
        return self.activation(_add_bias(made, tf.convert_to_tensor(self.bias)))

    def convolution_op(self, inputs, kernel):
        native = max(self.dilation_rate) == 1 or _trains_dilated(self.compute_dtype)
        if not native and self.compute_dtype != "float32":
            inputs, kernel = tf.cast(inputs, tf.float32), tf.cast(kernel, tf.float32)
            native = _trains_dilated("float32")
        by_taps = _taps(self.kernel_gradients, inputs.shape[-1])
        if native and by_taps and None not in inputs.shape[1:3]:
            made = convolve(inputs, tf.convert_to_tensor(kernel), self.dilation_rate[0])
        elif native:
            made = tf.nn.conv2d(
                inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate
            )
        else:
            made = super().convolution_op(inputs, kernel)
        return tf.cast(made, self.compute_dtype)


@keras.saving.register_keras_serializable("aepsl_tf")
class CaffeAveragePool(keras.layers.Layer):
    """pool5a: 3×3 average, stride 1, that divides by 9 at the borders too, as Caffe does."""

    def call(self, x):
        x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        return tf.nn.avg_pool2d(x, 3, 1, "VALID")


def _conv(filters, kernel, dilation, name, config, scale=2.0):
    seed = getattr(config, "seed", 0)
    init = keras.initializers.VarianceScaling(
        scale,
        "fan_in",
        "uniform" if name.startswith("fc") else "truncated_normal",
        seed=zlib.crc32(f"{seed}/{name}".encode()),  # same start everywhere, no layers alike
    )
    return DilatedConv2D(
        filters, kernel, padding="same", dilation_rate=dilation, activation="relu",
        kernel_initializer=init, name=name, dtype=config.precision,
        kernel_gradients=config.kernel_gradients,
    )  # fmt: skip


def _blocks(config):
    """The layers in order: five convolution blocks (their pools included), then the head."""
    blocks, fc = _SIZES[config.backbone]
    fc, dtype = config.fc_channels or fc, config.precision
    dropout, seed = getattr(config, "dropout", 0.5), getattr(config, "seed", 0)
    # The small trunk sees small pictures: what widens VGG-16's view without lowering its
    # resolution (stride-1 pools, conv5's dilation) would make every cell see the whole picture.
    wide = config.backbone == "vgg16"
    stages = []
    for number, filters in enumerate(blocks, start=1):
        dilation = 2 if wide and number == 5 else 1
        stage = [
            _conv(f, 3, dilation, f"block{number}_conv{i}", config)
            for i, f in enumerate(filters, start=1)
        ]
        if wide or number <= 3:
            stride = 2 if number <= 3 else 1
            stage.append(
                keras.layers.MaxPool2D(3, stride, "same", name=f"pool{number}", dtype=dtype)
            )
        stages.append(stage)
    if wide:
        stages[-1].append(CaffeAveragePool(name="pool5a", dtype=dtype))
    # ReLU-preserving variance everywhere but above ImageNet features: these are large, and a random
    # fc6 wants a sixth, or the scores saturate at once and the squared loss has no gradient. SGD,
    # whose steps grow with what a layer sees, wants less still: fc7 nearly vanishes.
    scale = (1 / 3 if wide else 2.0) * config.fc_scale**2
    stages.append([
        _conv(fc, 3, config.fc6_dilation, "fc6", config, scale),
        keras.layers.Dropout(dropout, seed=2 * seed + 1, name="drop6", dtype=dtype),
        _conv(fc, 1, 1, "fc7", config, scale),
        keras.layers.Dropout(dropout, seed=2 * seed + 2, name="drop7", dtype=dtype),
    ])  # fmt: skip
    return stages


def middle_filters(backbone):
    """How many filters the convolutions of the third block of five have."""
    return _SIZES[backbone][0][2][0]


def by_taps(config, way="taps"):
    """{(channels seen, filters, side, dilation, stride of the cells)} of the convolutions that
    learn and whose kernel's gradient a --kernel_gradients has from `convolve`.
    """
    channels, stride, found = 3, 1, set()
    for number, stage in enumerate(_blocks(config)):
        for layer in stage:
            if isinstance(layer, DilatedConv2D):
                if number >= _FREEZE_BLOCKS[config.freeze_through] and _taps(way, channels):
                    side, dilation = layer.kernel_size[0], layer.dilation_rate[0]
                    found.add((channels, layer.filters, side, dilation, stride))
                channels = layer.filters
            elif isinstance(layer, keras.layers.MaxPool2D):
                stride *= layer.strides[0]
    return found


def build(config):
    """The trunk in two Keras models.

    Args:
      config: a `config.Network` with, for training, `Solver`'s dropout and seed.

    Returns:
      (frozen, tuned): `frozen` maps RGB images `[B, H, W, 3]` in 0..255 to features and holds the
      layers through `config.freeze_through`; `tuned` maps those features to fc7 `[B, h, w, K]`.

    Raises:
      InputError: a setting is auto, which training alone settles.
    """
    if unsettled := config.unsettled():
        raise InputError(f"--{min(unsettled)}=auto: no network is built so: training settles it")
    _warn_where_imitated(config.precision)
    stages = _blocks(config)
    cut = _FREEZE_BLOCKS[config.freeze_through]
    images = keras.Input([None, None, 3], name="images")
    # float32 whatever the precision: bfloat16 cannot hold a resized picture's grey values.
    x = CaffeInput(_INPUT_SCALE[config.backbone], name="caffe_input", dtype="float32")(images)
    for layer in itertools.chain(*stages[:cut]):
        x = layer(x)
    frozen = keras.Model(images, x, name="frozen")
    frozen.trainable = False
    features = keras.Input([None, None, x.shape[-1]], name="features", dtype=x.dtype)
    x = features
    for layer in itertools.chain(*stages[cut:]):
        x = layer(x)
    return frozen, keras.Model(features, x, name="tuned")


def load_weights(parts, weights, backbone):
    """Fills the trunk's layers with pretrained weights, by name, and logs how each layer starts.

    Args:
      parts: the models `build` returned, or the two of a network, whose last layers stay random.
      weights: "none" leaves the random start; "imagenet" downloads Keras's VGG-16, all of it, and
        "imagenet_notop" without its top; a path names a weights file for
        `keras.applications.VGG16`, which says itself whether it has the top. With the top, fc6
        and fc7 are its fully connected layers decimated (DeepLab); without, they stay random.
      backbone: "vgg16"; others have no ImageNet weights.

    Raises:
      InputError: the file does not fit, with the layer that does not.
    """
    layers = {layer.name: layer for part in parts for layer in part.layers if layer.weights}
    start = dict.fromkeys(layers, "random")
    if weights != "none":
        if backbone != "vgg16":
            raise InputError(configs.NO_IMAGENET.format(weights=weights, backbone=backbone))
        for name, (values, origin) in _pretrained(weights, layers["fc6"].filters).items():
            _assign(layers[name], values, weights)
            check_finite(layers[name], f"--weights={weights}")
            start[name] = origin
        gc.collect()  # Keras's models are cycles: half a gigabyte would stay until Python looks
    runs = [(origin, list(names)) for origin, names in itertools.groupby(start, start.get)]
    logging.info("layers start: %s", "; ".join(f"{_listed(n)}: {origin}" for origin, n in runs))


def check_finite(model, where):
    """Refuses a model with a weight that is no number; `where` names its file."""
    for weight in model.weights:
        if "float" in weight.dtype and not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            raise InputError(f"{where}: {weight.path} holds a value that is no finite number")


def _listed(names):
    return ", ".join(names) if len(names) < 4 else f"{names[0]}…{names[-1]}"


def _pretrained(weights, channels):
    """Layer name → (its values, where they are from), of the layers that `weights` has.

    Args:
      channels: those of fc6 and fc7.
    """
    source = _vgg16(weights)
    found = {
        layer.name: (layer.get_weights(), weights)
        for layer in source.layers
        if layer.name.startswith("block") and layer.weights
    }
    if any(layer.name == "fc1" for layer in source.layers):
        # fc1 sees the map `[7, 7, C]` flattened: row, column, channel, the last one fastest.
        kernel, bias = source.get_layer("fc1").get_weights()
        kernel = kernel.reshape(7, 7, -1, kernel.shape[1])
        fc6 = decimate(kernel, bias, kernel.shape[2], channels)
        kernel, bias = source.get_layer("fc2").get_weights()
        fc7 = decimate(kernel[None, None], bias, channels, channels)
        found |= {n: (v, "decimated from fc1, fc2") for n, v in (("fc6", fc6), ("fc7", fc7))}
    return found


def decimate(kernel, bias, inputs, outputs):
    """A fully connected layer as a smaller convolution (DeepLab, §3.1): every n-th tap and channel.

    Of 7 taps a side the 1st, 4th and 7th stay; of 4096 channels, for DeepLab's 1024, every 4th.

    Args:
      kernel: `[h, w, in, out]`; bias: `[out]`.
      inputs, outputs: how many to keep.

    Returns:
      [kernel `[3, 3, inputs, outputs]` (1 × 1 where the layer sees one cell), bias `[outputs]`].
    """
    taps = np.linspace(0, kernel.shape[0] - 1, min(3, kernel.shape[0])).round().astype(int)
    inputs, outputs = _spread(kernel.shape[2], inputs), _spread(kernel.shape[3], outputs)
    return [kernel[taps][:, taps][..., inputs, outputs].copy(), bias[outputs].copy()]


def _spread(count, kept):
    """A slice that takes `kept` of `count`, evenly; all where there are no more."""
    step = max(1, count // kept)
    return slice(0, step * kept, step)


def _vgg16(weights):
    if weights in ("imagenet", "imagenet_notop"):
        try:
            return keras.applications.VGG16(include_top=weights == "imagenet", weights="imagenet")
        except Exception as error:  # urllib's many faces: no network, proxy, 404
            raise InputError(
                f"--weights={weights} cannot be downloaded ({error}): give --weights=FILE"
            ) from error
    try:
        model = keras.applications.VGG16(include_top=_has_top(weights), weights=None)
        model.load_weights(weights)
        return model
    except FileNotFoundError:
        raise InputError(f"--weights={weights}: no such file") from None
    except Exception as error:  # h5py and Keras raise OSError, ValueError, KeyError, …
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"--weights={weights}: expected weights of keras.applications.VGG16, with or without "
            f"its top ({first})"
        ) from error


def _has_top(path):
    """Whether a weights file, old or new, holds a matrix: only fully connected layers do."""
    matrices = []
    with h5py.File(path) as file:
        file.visititems(lambda _, item: matrices.append(getattr(item, "ndim", 0) == 2))
    return any(matrices)


def _assign(layer, values, weights):
    have, need = [v.shape for v in values], [tuple(w.shape) for w in layer.weights]
    if have != need:
        raise InputError(
            f"--weights={weights}: layer {layer.name} needs {need}, the file has {have}"
        )
    layer.set_weights(values)
