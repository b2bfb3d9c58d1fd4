"""DeepLab-LargeFOV against the same network in PyTorch, written from its description alone.

Same weights, float32: outputs, the whole objective, and its gradient to every variable. And
align-corners zooming against PyTorch's.
"""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf.classes import VOID
from aepsl_tf.data import geometry
from aepsl_tf.inference.predictor import Predictor
from aepsl_tf.models.classifier import Classifier
from aepsl_tf.models.segmenter import Segmenter

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
F = torch.nn.functional

CLASSES = 20
BLOCKS = ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
MEAN = torch.tensor([104.008, 116.669, 122.675])  # BGR
TAGS = np.zeros([2, CLASSES], np.float32)
TAGS[0, [2, 7]] = TAGS[1, 14] = 1


class LargeFOV(torch.nn.Module):
    """DeepLab-LargeFOV (Chen et al. 2015): VGG-16 whose pools are 3×3, pool4 and pool5 of stride 1,
    conv5 dilated by 2, a 3×3 average pool5a, fc6 3×3 dilated by 12, fc7 1×1, 1,024 filters each.
    """

    def __init__(self):
        super().__init__()
        channels = 3
        for b, filters in enumerate(BLOCKS, start=1):
            for i, count in enumerate(filters, start=1):
                dilation = 2 if b == 5 else 1
                conv = torch.nn.Conv2d(channels, count, 3, padding=dilation, dilation=dilation)
                self.add_module(f"block{b}_conv{i}", conv)
                channels = count
        self.fc6 = torch.nn.Conv2d(512, 1024, 3, padding=12, dilation=12)
        self.fc7 = torch.nn.Conv2d(1024, 1024, 1)
        self.fc8_seg = torch.nn.Conv2d(1024, CLASSES + 1, 1)
        self.fc8_cls = torch.nn.Linear(1024, CLASSES)

    def forward(self, images, convolve):
        """RGB `[B, H, W, 3]` in 0..255 → (fc7, pixel logits, label logits)."""
        x = (images.flip(-1) - MEAN).permute(0, 3, 1, 2)
        for b, filters in enumerate(BLOCKS, start=1):
            for i in range(1, len(filters) + 1):
                x = F.relu(convolve(self, f"block{b}_conv{i}", x))
            x = F.max_pool2d(x, 3, stride=2 if b <= 3 else 1, padding=1)
        x = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=True)
        x = F.relu(convolve(self, "fc6", x))
        x = F.relu(convolve(self, "fc7", x))
        return x, self.fc8_seg(x), self.fc8_cls(x.mean((2, 3)))


def convolve(network, name, x):
    return getattr(network, name)(x)


def standardise(layer, x):
    """Random weights for which each of the layer's channels has mean 0 and deviation 1 on `x`."""
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    made = layer(x)
    deviation, mean = torch.std_mean(made, (0, 2, 3))
    layer.weight /= deviation[:, None, None, None]
    layer.bias -= mean / deviation


def start(network, name, x):
    """Convolves with random weights such that hardly any ReLU is decided by rounding.

    A unit that is almost 0 before its ReLU may pass its whole gradient in one framework and none
    in the other. So a bias of ±3 deviations takes most units away from there.
    """
    layer = getattr(network, name)
    standardise(layer, x)
    layer.bias += 3 * torch.where(torch.rand(len(layer.bias)) < 0.7, 1, -1)
    return layer(x)


def pictures(size, count=2):
    return np.random.default_rng(1).uniform(0, 255, [count, size, size, 3]).astype(np.float32)


@functools.cache
def largefov():
    """PyTorch's network, started once."""
    torch.manual_seed(0)
    network = LargeFOV()
    with torch.no_grad():
        fc7, *_ = network(torch.tensor(pictures(65)), start)
        standardise(network.fc8_seg, fc7)
        torch.nn.init.normal_(network.fc8_cls.weight, std=0.02)
        network.fc8_cls.bias += 3 * torch.tensor(TAGS.max(0))  # so that Ŝ shows tagged classes
    return network


def as_keras(weight):
    """`[out, in, h, w]` → `[h, w, in, out]`, `[out, in]` → `[in, out]`."""
    orders = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}
    return weight.permute(orders[weight.ndim])


def parameters(model):
    """PyTorch's parameters by the paths of our model's variables; fc8 is fc8_cls to a segmenter."""
    kinds = {"weight": "kernel", "bias": "bias"}
    parts = ((*name.split("."), p) for name, p in largefov().named_parameters())
    named = {f"{layer}/{kinds[kind]}": p for layer, kind, p in parts}
    return [named[v.path.replace("fc8/", "fc8_cls/")] for v in model.tuned.trainable_variables]


def ours(cls, settings):
    """Our network with PyTorch's weights."""
    model = cls(settings(backbone="vgg16", weights="none", dropout=0.0, input_size=65), CLASSES)
    variables = model.tuned.trainable_variables
    for variable, weight in zip(variables, parameters(model), strict=True):
        variable.assign(as_keras(weight.detach()).numpy())
    return model


def near(one, other, relative=1e-4):
    """||one − other|| ≤ 1e-4 ||other||, and not for want of anything to compare."""
    one, other = np.asarray(one), np.asarray(other)
    assert one.shape == other.shape
    assert np.linalg.norm(other) > 0
    assert np.linalg.norm(one - other) <= relative * np.linalg.norm(other)


def check_gradients(model, batch, loss):
    """Our objective and every gradient of it against those of PyTorch's `loss`."""
    with tf.GradientTape() as tape:
        objective = model.objective(model.frozen(batch["image"]), batch, model.counts(batch))
    variables = model.tuned.trainable_variables
    assert len(variables) == 2 * (13 + 2 + len(model.last_layers()) // 2)
    near(objective["loss"], loss.item())
    largefov().zero_grad()
    loss.backward()
    gradients = tape.gradient(objective["loss"], variables)
    for gradient, weight in zip(gradients, parameters(model), strict=True):
        near(gradient, as_keras(weight.grad))


def label_loss(logits):
    """HCP: softmax scores against tags divided by their sum."""
    tags = torch.tensor(TAGS)
    return (tags / tags.sum(1, keepdim=True) - logits.softmax(1)).square().sum(1).mean()


def test_classifier():
    model = ours(Classifier, configs.TrainClassifier)
    images = pictures(65)
    fc7, _, logits = largefov()(torch.tensor(images), convolve)
    made = model.maps(model.frozen(images))
    near(made[0], fc7.detach().permute(0, 2, 3, 1))
    near(made[1], logits.detach())
    batch = {"image": images, "labels": TAGS, "present": np.ones(2, np.float32)}
    check_gradients(model, batch, label_loss(logits))


def test_segmenter():
    model = ours(Segmenter, configs.TrainSegmenter)
    model.psl_active.assign(1.0)
    images = pictures(65)
    _, logits, label_logits = largefov()(torch.tensor(images), convolve)
    outputs = model(images)
    near(outputs["logits"], logits.detach().permute(0, 2, 3, 1))
    near(outputs["label_logits"], label_logits.detach())

    mask = np.array([np.random.default_rng(2).choice([0, *ids, VOID], [9, 9])
                     for ids in ([3, 8], [15])])  # fmt: skip
    tags = torch.tensor(np.concatenate([np.ones([2, 1], np.float32), TAGS], axis=1))
    v = torch.cat([torch.ones(2, 1), label_logits.softmax(1)], dim=1)
    best = (v[..., None, None] * logits.softmax(1)).argmax(1)
    online = torch.where(torch.gather(tags, 1, best.flatten(1)).view_as(best) > 0, best, VOID)
    assert len(online.unique()) > 2
    loss = label_loss(label_logits)
    for image in range(2):  # J divides by the labelled pixels of each image
        for labels in (torch.tensor(mask), online):
            loss = (
                loss
                + F.cross_entropy(
                    logits[image : image + 1], labels[image : image + 1].long(), ignore_index=VOID
                )
                / 2
            )
    batch = {"image": images, "labels": TAGS, "mask": mask, "present": np.ones(2, np.float32)}
    check_gradients(model, batch, loss)


def test_segmentation_of_any_size():
    """Padded to 8k+1 with the mean, zoomed by 8 with the corners aligned, cut to size."""
    model = ours(Segmenter, configs.TrainSegmenter)
    images = pictures(65)[:, :61, :58].astype(np.uint8)
    predictor = Predictor(model, configs.Segmentation())  # tf.function holds it weakly
    made = predictor.segment(images)
    padded = torch.zeros(2, 65, 65, 3) + MEAN.flip(0)
    padded[:, :61, :58] = torch.tensor(images).float()
    with torch.no_grad():
        _, logits, label_logits = largefov()(padded, convolve)
    zoomed = F.interpolate(logits, (65, 65), mode="bilinear", align_corners=True)
    near(made["probabilities"], zoomed[..., :61, :58].softmax(1).permute(0, 2, 3, 1))
    near(made["scores"], label_logits.softmax(1))


def test_from_network():
    """A padded picture's cells are zoomed with the corners aligned and cut; a warped one's zoomed
    to the input and resized as pictures are.
    """
    sizes = [(1, 1), (8, 50), (65, 49), (321, 321), (30, 23)]
    for mode, size in itertools.product(["crop", "warp"], sizes):
        config = configs.Network(input=mode, input_size=65)
        padded = [65, 65] if mode == "warp" else [-(-(n - 1) // 8) * 8 + 1 for n in size]
        cells = [(n - 1) // 8 + 1 for n in padded]
        values = np.random.default_rng(0).normal(size=cells).astype(np.float32)
        zoomed = F.interpolate(
            torch.tensor(values)[None, None], padded, mode="bilinear", align_corners=True
        )
        if mode == "warp":
            zoomed = F.interpolate(zoomed, size, mode="bilinear", align_corners=False)
        made = geometry.from_network(values[None, ..., None], size, config)[0, ..., 0]
        expected = zoomed[0, 0, : size[0], : size[1]]
        np.testing.assert_allclose(made, expected, atol=1e-5, err_msg=f"{mode} {size}")
