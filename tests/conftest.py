"""One drawn devkit and one finished tiny run, made once for all slow tests."""

import dataclasses
import io
import json
import shutil
import types

import numpy as np
import pytest
from PIL import Image

from aepsl_tf import config
from aepsl_tf.run_dir import RunDir

TINY = {
    "backbone": "vgg16_small",
    "weights": "none",
    "input": "warp",
    "input_size": 33,
    "fc6_dilation": 1,
    "optimizer": "adam",
    "learning_rate": 1e-6,
    "epochs": 1,
    "global_batch": 6,
    "max_steps": 2,
    "merge_steps": 2,
    "label_loss": "sigmoid",
    "method": "spectral_residual",
    "crf_preset": "small",
    "shards": 2,
}
"""Small enough for seconds; the rate is so low that the random start's varied masks remain."""


def reader(**common):
    """`read(ConfigClass, **changes)` over a dictionary, as `config_flags.read` is over flags."""

    def read(cls, **changes):
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{k: v for k, v in common.items() if k in names} | changes)

    return read


@pytest.fixture(scope="session")
def devkit(tmp_path_factory):
    """A drawn devkit of 12 + 4 scenes."""
    from data_prep import make_demo

    root = tmp_path_factory.mktemp("devkit") / "demo"
    return make_demo.run(config.MakeDemo(demo_root=str(root), demo_train=12, demo_val=4))


@pytest.fixture(scope="session")
def common(devkit):
    """What the tiny run's settings have in common; the rest stays as in the paper."""
    return {"voc_root": str(devkit), **TINY}


@pytest.fixture(scope="session")
def read(common):
    """`read(ConfigClass, **changes)`: the tiny run's settings of any phase."""
    return reader(**common)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, read):
    """The finished tiny run: (RunDir, summary). Tests leave it as it is, or take `run_copy`."""
    from aepsl_tf.pipeline import Pipeline

    run_dir = RunDir(tmp_path_factory.mktemp("finished") / "run")
    summary = Pipeline(read(config.Pipeline), read, run_dir, workers=1).run()
    return types.SimpleNamespace(run_dir=run_dir, root=run_dir.root, summary=summary)


@pytest.fixture
def run_copy(finished, tmp_path):
    """A copy of the finished run that a test may change."""
    target = tmp_path / "run"
    shutil.copytree(finished.root, target, ignore=shutil.ignore_patterns("tensorboard"))
    return RunDir(target)


def opened(path):
    """A picture file as a PIL image, of which no file stays open."""
    return Image.open(io.BytesIO(path.read_bytes()))


def jpeg(pixels):
    """A picture as JPEG bytes."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.fixture
def small_devkit(tmp_path):
    """Four noise pictures a, b, c, d of the classes cat and dog, with masks; split `train`."""
    root = tmp_path / "voc"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for id_, labels in (("a", [1]), ("b", [2]), ("c", [1, 2]), ("d", [2])):
        pixels = rng.integers(0, 256, [18, 26, 3], dtype=np.uint8)
        (root / f"JPEGImages/{id_}.jpg").write_bytes(jpeg(pixels))
        mask = np.zeros([18, 26], np.uint8)
        mask[0] = 255
        for label in labels:
            mask[3 * label : 3 * label + 2] = label
        write_mask(root, id_, mask)
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nb\nc\nd\n")
    rows = [{"name": n, "color": c, "indoor": False} for n, c in
            (("cat", [200, 90, 30]), ("dog", [30, 90, 200]))]  # fmt: skip
    (root / "classes.json").write_text(json.dumps(rows))
    return root


def write_mask(root, id_, mask):
    """A palette mask where the devkit keeps it."""
    picture = Image.fromarray(mask, "P")
    picture.putpalette(list(range(256)) * 3)
    picture.save(root / f"SegmentationClass/{id_}.png")


def disk():
    """A textured red disk on plain grey-green ground, and the disk's pixels."""
    y, x = np.mgrid[:120, :160]
    inside = (y - 60) ** 2 + (x - 90) ** 2 < 30**2
    image = np.full((120, 160, 3), (70, 90, 80), np.uint8)
    image[inside] = (200, 40, 30)
    image[inside & ((x // 6 + y // 6) % 2 == 0)] = (250, 120, 60)
    return image, inside


def _field(number, value):
    """One field of a protocol buffer: an int, a str, or the bytes of a message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    value = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value):
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


def write_onnx(path, shape, op="ReduceSumSquare", element_type=1):
    """An ONNX file of one operation, over the channels if it reduces; str dimensions are open."""

    def tensor(name, dims):
        dims = b"".join(_field(1, _field(2 if isinstance(d, str) else 1, d)) for d in dims)
        return _field(1, name) + _field(2, _field(1, _field(1, element_type) + _field(2, dims)))

    node = _field(1, "image") + _field(2, "map") + _field(4, op)
    if op.startswith("Reduce"):
        node += _field(5, _field(1, "axes") + _field(20, 7) + _field(8, 1))
    output = ["n", "c", "h", "w"][: len(shape)]
    graph = _field(1, node) + _field(2, "g")
    graph += _field(11, tensor("image", shape)) + _field(12, tensor("map", output))
    path.write_bytes(_field(1, 7) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 11)))
    return str(path)
