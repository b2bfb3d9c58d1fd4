"""The reader: order, batches, memory, features, and what happens when it is left early."""

import gc
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf.data import geometry
from aepsl_tf.errors import InputError
from aepsl_tf.inference import over_split
from aepsl_tf.inference.over_split import BATCH, Reader
from aepsl_tf.models.segmenter import Segmenter

BASE = dict(backbone="vgg16_small", weights="none", input_size=33)


@pytest.fixture(scope="module", params=["crop", "warp"])
def model(request):
    config = configs.TrainSegmenter(**BASE, input=request.param)
    model = Segmenter(config, 3)
    kernel = np.random.default_rng(0).normal(0, 0.2, model.fc8_seg.kernel.shape)
    model.fc8_seg.kernel.assign(kernel.astype(np.float32))
    return model


def pictures(sizes):
    return [
        np.random.default_rng(i).integers(0, 256, (*size, 3)).astype(np.uint8)
        for i, size in enumerate(sizes)
    ]


MIXED = [(33, 33), (20, 41), (30, 31), (33, 33), (9, 70), *[(33, 33)] * 9, (20, 41), (1, 1)]


def sizes_of_batches(reader):
    """The list that gets the shape of every forward pass."""
    seen, forward = [], reader._forward
    reader._forward = lambda inputs: seen.append(tuple(inputs.shape[:3])) or forward(inputs)
    return seen


def test_order_rows_and_pictures_are_kept_and_batches_change_nothing_but_rounding(model):
    images = pictures(MIXED)
    reader = Reader(model, model.cells, 1 << 40)
    batches = sizes_of_batches(reader)
    read = list(reader.read(range(len(images)), lambda i: tf.constant(images[i])))
    assert [row for row, _, _ in read] == list(range(len(images)))
    assert max(b for b, _, _ in batches) == BATCH and len(batches) < len(images)
    singly = Reader(model, model.cells, 1 << 40, batch=1).read(images, tf.constant)
    for (index, picture, cells), (_, _, expected) in zip(read, singly, strict=True):
        np.testing.assert_array_equal(picture, images[index])
        assert cells.keys() == expected.keys() == {"logits", "scores"}
        for name, value in cells.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-3, atol=1e-5)


def test_padded_pictures_of_different_sizes_share_a_batch():
    model = Segmenter(configs.TrainSegmenter(**BASE, input="crop"), 3)
    reader = Reader(model, model.cells, 1 << 40)
    batches = sizes_of_batches(reader)
    images = pictures([(31, 33), (33, 33), (26, 27)])
    read = list(reader.read(images, tf.constant))
    assert batches == [(3, 33, 33)]
    assert [picture.shape[:2] for _, picture, _ in read] == [(31, 33), (33, 33), (26, 27)]


def test_many_readers_of_any_batch_and_size_are_traced_once_each(model, caplog):
    traces = []

    def cells(features):
        traces.append(1)
        return model.cells(features)

    for number in range(1, 7):
        reader = Reader(model, cells, 1 << 40)
        for sizes in (MIXED, MIXED[:3], [(50, 60)]):
            list(reader.read(pictures(sizes), tf.constant))
        assert len(traces) == number
    assert "retracing" not in caplog.text


def test_batches_stay_below_the_limit():
    model = Segmenter(configs.TrainSegmenter(**BASE, input="crop"), 3)
    reader = Reader(model, model.cells, 3 * 33 * 33)
    batches = sizes_of_batches(reader)
    images = pictures([(33, 33)] * 7 + [(90, 80)])
    read = list(reader.read(images, tf.constant))
    assert [b for b, _, _ in batches] == [3, 3, 1, 1]
    height, width = read[-1][1].shape[:2]
    assert height * width <= 3 * 33 * 33
    assert batches[-1][1] * batches[-1][2] < 60 * 65


def test_a_window_of_pictures_is_in_memory_and_no_more(model):
    """Although the first picture waits for others of its size, which do not come."""
    decoded = []

    def decode(index):
        decoded.append(index)
        return tf.constant(images[index])

    others = [(41, 9 + 8 * (i % 16)) for i in range(300)]
    images = pictures([(33, 33), *others])
    reader = Reader(model, model.cells, 1 << 40)
    read = reader.read(range(len(images)), decode)
    assert next(read)[0] == 0
    ahead = over_split._WINDOW * BATCH + 2 * BATCH + 3 * over_split._DECODERS
    assert len(decoded) <= ahead
    for row, _, _ in read:
        assert len(decoded) <= row + 1 + ahead
    assert sorted(decoded) == list(range(len(images)))


def test_huge_pictures_fill_a_window_sooner():
    model = Segmenter(configs.TrainSegmenter(**BASE, input="warp"), 3)
    decoded = []
    images = pictures([(64, 64)] * 100)
    reader = Reader(model, model.cells, 64 * 64, batch=50)  # a batch waits for 50 pictures

    def decode(index):
        decoded.append(index)
        return tf.constant(images[index])

    batches = sizes_of_batches(reader)
    list(reader.read(range(100), decode))
    assert {b for b, _, _ in batches} <= {1, 2, 3}  # 4096 // 33² pixels


def test_rows_may_be_left_out(model):
    images = pictures(MIXED)
    read = Reader(model, model.cells, 1 << 40).read(
        range(len(images)), lambda i: None if i % 3 == 0 else tf.constant(images[i])
    )
    assert [row for row, _, _ in read] == [i for i in range(len(images)) if i % 3]
    assert list(Reader(model, model.cells, 1 << 40).read([], tf.constant)) == []
    assert list(Reader(model, model.cells, 1 << 40).read([1], lambda row: None)) == []


def test_an_error_comes_where_its_picture_would(model):
    images = pictures([(33, 33)] * 6)

    def decode(index):
        if index == 5:
            raise InputError("picture 5 is damaged")
        return tf.constant(images[index])

    read = Reader(model, model.cells, 1 << 40, batch=1).read(range(6), decode)
    seen = []
    with pytest.raises(InputError, match="picture 5"):
        for row, _, _ in read:
            seen.append(row)
    assert seen == [0, 1, 2, 3, 4][: len(seen)]


def test_no_thread_is_left(model):
    before = threading.active_count()
    reader = Reader(model, model.cells, 1 << 40)
    images = pictures([(33, 33)] * 40)
    read = reader.read(images, tf.constant)
    next(read)
    assert threading.active_count() > before
    read.close()
    for _ in reader.read(images, tf.constant):
        pass
    gc.collect()
    assert threading.active_count() == before


def test_the_network_works_while_the_caller_does(model):
    """With a network and a caller that take as long, together they take little longer."""
    reader = Reader(model, model.cells, 1 << 40, batch=2)
    forward, moment = reader._forward, 0.05
    reader._forward = lambda inputs: time.sleep(2 * moment) or forward(inputs)
    images = pictures([(33, 33)] * 20)
    list(reader.read(images[:2], tf.constant))  # traced
    start = time.monotonic()
    for _ in reader.read(images, tf.constant):
        time.sleep(moment)
    assert time.monotonic() - start < 1.7 * 20 * moment


# ------------------------------------------------------------------------------ cached features


def frozen_model():
    config = configs.TrainSegmenter(**BASE, input="warp", freeze_through="pool5a")
    return Segmenter(config, 3)


def test_features_of_the_frozen_part_give_the_same_cells():
    model = frozen_model()
    reader = Reader(model, model.cells, 1 << 40)
    images = pictures(MIXED)
    features = [
        model.frozen(tf.image.resize(tf.cast(image, tf.float32), [33, 33])[None])[0].numpy()
        for image in images
    ]
    calls = sizes_of_batches(reader)
    cached = list(reader.read(images, tf.constant, iter(features)))
    assert not calls  # the frozen part has not run
    for (_, picture, cells), image in zip(cached, images, strict=True):
        np.testing.assert_array_equal(picture, image)
        ((_, _, expected),) = reader.read([image], tf.constant)
        for name, value in cells.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-3, atol=1e-5)


def test_features_are_stacked_as_tensors(monkeypatch):
    """Of arrays tf.stack takes number by number: a hundred times as long."""
    kinds, stack = set(), tf.stack
    monkeypatch.setattr(
        over_split.tf, "stack", lambda them: kinds.update(map(tf.is_tensor, them)) or stack(them)
    )
    model = frozen_model()
    features = [np.zeros((5, 5, 64), np.float32)] * 2
    reader = Reader(model, model.cells, 1 << 40, batch=2)
    list(reader.read(pictures([(33, 33)] * 2), tf.constant, features))
    assert kinds == {True}


def test_features_must_be_as_many_as_rows():
    model = frozen_model()
    reader = Reader(model, model.cells, 1 << 40)
    with pytest.raises(ValueError, match="shorter"):
        list(reader.read(pictures([(33, 33)] * 2), tf.constant, iter([np.zeros((5, 5, 64))])))


def test_weights_are_constants_unless_the_model_still_trains():
    model = Segmenter(configs.TrainSegmenter(**BASE, input="crop"), 3)
    fixed, live = (
        Reader(model, model.cells, 1 << 40, trained=trained) for trained in (True, False)
    )

    def logits(reader):
        [(_, _, cells)] = reader.read(pictures([(33, 33)]), tf.constant)
        return cells["logits"]

    before = logits(fixed)
    np.testing.assert_allclose(before, logits(live), atol=1e-5)
    model.fc8_seg.bias.assign_add([1.0] * 4)
    np.testing.assert_array_equal(logits(fixed), before)
    np.testing.assert_allclose(logits(live), before + 1, atol=1e-5)
    assert not fixed._forward.captured_inputs and live._forward.captured_inputs


# ----------------------------------------------------------------------------------- several views


@pytest.mark.parametrize("batch", [1, 4])
def test_the_views_of_each_picture_come_together(model, batch):
    views = tuple(geometry.View(scale, mirrored) for scale in (1.0, 0.5) for mirrored in (0, 1))
    images = pictures(MIXED)
    reader = Reader(model, model.cells, 1 << 40, batch, views=views)
    batches = sizes_of_batches(reader)
    read = list(reader.read(range(len(images)), lambda i: tf.constant(images[i])))
    assert sum(b for b, _, _ in batches) == len(views) * len(images)
    assert max(b for b, _, _ in batches) == batch
    assert [row for row, _, _ in read] == list(range(len(images)))
    for index, picture, cells in read:
        np.testing.assert_array_equal(picture, images[index])
        for view, one in zip(views, cells, strict=True):
            inputs = geometry.to_network(images[index][None], model.config, 1 << 40, view)
            expected = model.cells(model.frozen(inputs))
            for name, value in one.items():
                np.testing.assert_allclose(value, expected[name][0], rtol=1e-3, atol=1e-5)


def test_a_window_counts_its_views():
    """Pictures that are each as large as the limit, of which nothing waits for others."""
    model = Segmenter(configs.TrainSegmenter(**BASE, input="warp"), 3)
    decoded = []
    images = pictures([(64, 64)] * 60)

    def decode(index):
        decoded.append(index)
        return tf.constant(images[index])

    def ahead(views):
        decoded.clear()
        reader = Reader(model, model.cells, 64 * 64, batch=50, views=views)
        read = reader.read(range(60), decode)
        next(read)
        read.close()
        return len(decoded)

    assert ahead((geometry.PLAIN,) * 8) <= ahead((geometry.PLAIN,))


def test_one_view_that_is_asked_for_is_a_list(model):
    images = pictures([(20, 41)])
    [(_, _, [one])] = Reader(model, model.cells, 1 << 40, views=(geometry.PLAIN,)).read(
        images, tf.constant
    )
    [(_, _, same)] = Reader(model, model.cells, 1 << 40).read(images, tf.constant)
    for name in same:
        np.testing.assert_array_equal(one[name], same[name])
