"""What TensorBoard shows: by the run's own settings, traced once."""

import dataclasses

import numpy as np
import pytest

from aepsl_tf import config as configs
from aepsl_tf.classes import VOC
from aepsl_tf.data import encoding, records
from aepsl_tf.inference import drawing
from aepsl_tf.models.classifier import Classifier
from aepsl_tf.models.segmenter import Segmenter
from aepsl_tf.training import pictures

BASE = dict(backbone="vgg16_small", weights="none", input_size=33, input="crop")
SIZES = [(70, 80), (33, 33), (70, 80)]


@pytest.fixture
def families(tmp_path):
    """An images and a masks family of three images."""
    rng = np.random.default_rng(0)
    rows = {"images": [], "masks": []}
    for i, (height, width) in enumerate(SIZES):
        image = rng.integers(0, 256, (height, width, 3)).astype(np.uint8)
        rows["images"].append({
            "image/id": str(i), "image/encoded": encoding.rgb_png(image),
            "image/converted_from": "", "image/height": height, "image/width": width,
            "image/pixel_sum": [0, 0, 0], "image/labels": [1, 2][: i + 1],
        })  # fmt: skip
        mask = rng.integers(0, 3, (height, width)).astype(np.uint8)
        rows["masks"].append({"image/id": str(i), "mask/png": encoding.grey_png(mask)})
    for name in rows:
        (tmp_path / name).mkdir()
        records.write_family(tmp_path / name, name, [3], lambda _, name=name: rows[name])
    return [records.Family(tmp_path / name) for name in rows]


@pytest.fixture
def drawn(monkeypatch):
    """The (caption, picture)s of every panel that is drawn."""
    panels, panel = [], drawing.panel
    monkeypatch.setattr(drawing, "panel", lambda rows: panels.append(rows) or panel(rows))
    return panels


def segmenter(**changes):
    model = Segmenter(configs.TrainSegmenter(**BASE | changes), 3)
    kernel = np.random.default_rng(0).normal(0, 0.2, model.fc8_seg.kernel.shape)
    model.fc8_seg.kernel.assign(kernel.astype(np.float32))
    model.fc8_seg.bias.assign([-100, 0, 0, 0])  # background only where all else is prohibited
    return model


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_overlays_are_made_by_the_run_s_p(families, drawn, p):
    pictures.segmenter_overlays(segmenter(p=p), families, VOC)()
    shown = [(row[0][1] == row[2][1]).all() for row in drawn[0]]
    assert shown == [p == 1.0] * 3


@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_no_picture_is_larger_than_the_limit(families, drawn, kind):
    if kind == "segmenter":
        draw = pictures.segmenter_overlays(segmenter(pixel_limit=4096), families, VOC)
    else:
        model = Classifier(configs.TrainClassifier(**BASE, pixel_limit=4096), 3)
        draw = pictures.classifier_heatmaps(model, families[0], None, VOC)
    draw()
    shapes = {picture.shape for row in drawn[0] for _, picture in row}
    assert shapes == {(59, 68, 3), (33, 33, 3)}
    captions = [[caption for caption, _ in row] for row in drawn[0]]
    if kind == "segmenter":
        assert captions == [[str(i), "S", "prediction"] for i in range(3)]
    else:
        names = VOC.all_names()
        assert captions == [["0", names[1]], *([str(i), names[1], names[2]] for i in (1, 2))]


def test_an_epoch_s_pictures_show_the_model_as_it_is_and_trace_nothing(families, drawn):
    model = segmenter(p=0.0)
    traces, forward = [], model.cells
    model.cells = lambda features: traces.append(1) or forward(features)
    draw = pictures.segmenter_overlays(model, families, VOC)
    first = draw()["masks"]
    model.fc8_seg.bias.assign([1e6, 0, 0, 0])
    second = draw()["masks"]
    assert len(traces) == 1
    assert first.shape == second.shape and (first != second).any()
    assert (drawn[1][0][0][1] == drawn[1][0][2][1]).all()  # all background now


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("kind", ["segmenter", "classifier"])
def test_cached_features_are_computed_once_and_show_the_same(families, kind, precision):
    settings = dict(input="warp", freeze_through="conv4", precision=precision)

    def drawing_of(cached):
        if kind == "segmenter":
            model = segmenter(**settings, p=0.0, cache_features=cached)
            return model, pictures.segmenter_overlays(model, families, VOC)
        config = configs.TrainClassifier(**BASE | settings, cache_features=cached)
        model = Classifier(config, 3)
        return model, pictures.classifier_heatmaps(model, families[0], None, VOC)

    (model, draw), (other, fresh) = drawing_of(True), drawing_of(False)
    for _ in range(2):
        (ours,), (theirs,) = draw().values(), fresh().values()
        np.testing.assert_array_equal(ours, theirs)
        for each in (model, other):  # training moves the weights that are not frozen
            head = each.tuned.get_layer("fc7").kernel
            head.assign(head[..., ::-1])
    for weight in model.frozen.weights:
        weight.assign(0 * weight)
    (ours,), (theirs,) = draw().values(), fresh().values()
    np.testing.assert_array_equal(ours, theirs)  # nobody asked the frozen part again


def test_what_only_shows_is_no_part_of_a_model_s_identity():
    for cls in (configs.TrainSegmenter, configs.TrainClassifier):
        fields = {f.name for f in dataclasses.fields(cls)}
        assert "pixel_limit" in fields and "pixel_limit" not in cls().identity()
    assert "p" not in configs.TrainSegmenter().identity()
    assert {"p", "pixel_limit"} <= configs.Relabel().identity().keys()
    assert "pixel_limit" in configs.MineRegions().identity()
    assert configs.TrainSegmenter().p == configs.Evaluate().p
