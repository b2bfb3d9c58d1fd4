"""Cached features are the frozen trunk's; a killed fill goes on; batches belong together."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf import run_dir
from aepsl_tf.classes import VOID
from aepsl_tf.data import datasets, encoding, feature_cache, records, transforms
from aepsl_tf.data.feature_cache import FeatureCache
from aepsl_tf.models.classifier import Classifier

IMAGES, CHUNK = 18, 8


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(feature_cache, "_CHUNK", CHUNK)


ONE = tf.distribute.InputContext()


def run_at(root):
    """A run that holds its cache at `root`; families are their own digests' record."""
    return types.SimpleNamespace(cache=root, digest_of=run_dir.digest)


def write(directory, erased=False):
    rng = np.random.default_rng(0)
    directory.mkdir()
    rows = []
    for i in range(IMAGES):
        image = rng.integers(0, 256, (20 + i % 3, 26, 3)).astype(np.uint8)
        rows.append({
            "image/id": str(i), "image/encoded": encoding.rgb_png(image),
            "image/converted_from": "", "image/height": image.shape[0], "image/width": 26,
            "image/pixel_sum": [0, 0, 0], "image/labels": [1 + i % 3],
        })  # fmt: skip
        if erased:
            rows[-1]["erased/png"] = encoding.grey_png(rng.random(image.shape[:2]) < 0.5)
    counts = records.split_counts(IMAGES, 2)
    name = "erased" if erased else "images"
    records.write_family(directory, name, counts, lambda s: rows[s * 9 : s * 9 + 9])
    return records.Family(directory)


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "images")


CONFIG = configs.TrainClassifier(
    backbone="vgg16_small", weights="none", input_size=17, input="warp", freeze_through="pool5a",
    cache_features=True, global_batch=4,
)  # fmt: skip
FILL = tf.constant([1, 2, 3], tf.uint8)


@pytest.fixture(scope="module")
def model():
    return Classifier(CONFIG, 3)


def test_features_are_those_of_picture_and_mirror(tmp_path, model, family):
    cache = FeatureCache(run_at(tmp_path), model, family, FILL).fill_up()
    assert cache.shape == (2, 3, 3, 64)
    for i, row in enumerate(family.read()):
        image = transforms.warp(datasets.picture(row, FILL), 17)[None]
        for view, picture in enumerate((image, image[:, :, ::-1])):
            expected = model.frozen(picture)[0]
            np.testing.assert_allclose(cache[i, view], expected, rtol=1e-4, atol=1e-4)
    assert np.abs(cache[0, 0] - cache[0, 1]).max() > 0.1
    assert np.abs(cache[0, 0] - cache[17, 0]).max() > 0.1


def test_unmirrored_cache_holds_one_view(tmp_path, model, family):
    both = FeatureCache(run_at(tmp_path), model, family, FILL).fill_up()
    one = FeatureCache(run_at(tmp_path), model, family, FILL, mirrored=False).fill_up()
    assert one.directory != both.directory and both.bytes() == 2 * one.bytes()
    np.testing.assert_array_equal(one[3, 0], both[3, 0])
    with pytest.raises(IndexError):
        one[3, 1]


def test_a_killed_fill_goes_on(tmp_path, model, family):
    cache = FeatureCache(run_at(tmp_path), model, family, FILL).fill_up()
    files = sorted(cache.directory.iterdir())
    assert [f.name for f in files] == ["00000.npy", "00001.npy", "00002.npy"]
    contents = [f.read_bytes() for f in files]
    made = [f.stat().st_mtime_ns for f in files]
    files[2].unlink()
    files[2].with_name("00002.0.tmp").write_bytes(b"half")
    again = FeatureCache(run_at(tmp_path), model, family, FILL).fill_up()
    assert again.directory == cache.directory
    assert [f.stat().st_mtime_ns for f in files[:2]] == made[:2]
    assert [f.read_bytes() for f in files] == contents
    assert sorted(cache.directory.iterdir()) == files
    made = [f.stat().st_mtime_ns for f in files]
    FeatureCache(run_at(tmp_path), model, family, FILL).fill_up()  # whole: nothing is computed
    assert [f.stat().st_mtime_ns for f in files] == made


@pytest.mark.parametrize("point", ["save", "replace", "load"])
def test_a_helper_stops_when_the_chief_has_removed_the_cache(
    tmp_path, model, family, monkeypatch, point
):
    """Mining is shared: the chief may be through, and clear away, while a helper still fills."""
    chief = FeatureCache(run_at(tmp_path), model, family, FILL)
    owner = feature_cache.os if point == "replace" else feature_cache.np
    original, calls = getattr(owner, point), []

    def late(*args, **kwargs):
        calls.append(args)
        if len(calls) == 1:
            chief.remove()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, point, late)
    assert FeatureCache(run_at(tmp_path), model, family, FILL).fill_up(1, 2) is None
    assert calls and list(tmp_path.iterdir()) == []


def test_a_chunk_that_the_chief_misses_is_an_error(tmp_path, model, family, monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("00000.npy")

    monkeypatch.setattr(feature_cache.np, "load", missing)
    for worker in (0, 1):  # the folder is there: this is no helper that came late
        with pytest.raises(FileNotFoundError):
            FeatureCache(run_at(tmp_path), model, family, FILL).fill_up(worker, 2)


def test_name_depends_on_weights_pictures_and_fill(tmp_path, model, family):
    def name(model=model, family=family, fill=FILL):
        return FeatureCache(run_at(tmp_path), model, family, fill).directory.name

    erased = write(tmp_path / "erased", erased=True)
    other = Classifier(dataclasses.replace(CONFIG, seed=1), 3)
    names = {name(), name(model=other), name(family=erased), name(fill=FILL + 1)}
    assert len(names) == 4
    assert name() == name(model=Classifier(CONFIG, 3))


def test_erased_pictures_are_filled_before_the_trunk(tmp_path, model):
    erased = write(tmp_path / "erased", erased=True)
    cache = FeatureCache(run_at(tmp_path), model, erased, FILL).fill_up()
    row = next(iter(erased.read()))
    filled = transforms.warp(datasets.picture(row, FILL), 17)[None]
    np.testing.assert_allclose(cache[0, 0], model.frozen(filled)[0], rtol=1e-4, atol=1e-4)
    clean = transforms.warp(transforms.decode_image(row["image/encoded"]), 17)[None]
    assert np.abs(cache[0, 0] - model.frozen(clean)[0]).max() > 0.1


def test_batches_keep_features_labels_and_masks_together(tmp_path, model, family):
    cache = FeatureCache(run_at(tmp_path), model, family, FILL).fill_up()
    labels = np.eye(IMAGES, dtype=np.float32)
    masks = np.random.default_rng(0).integers(0, 4, (IMAGES, 17, 17)).astype(np.uint8)
    seen, mirrored = [], 0
    for batch in cache.batches(labels, masks, CONFIG, 0, 0, ONE):
        names = ("features", "labels", "mask", "present")
        for features, label, mask, present in zip(*(batch[k].numpy() for k in names), strict=True):
            if not present:
                assert (mask == VOID).all()
                continue
            index = int(np.argmax(label))
            view = int(np.array_equal(features, cache[index, 1]))
            np.testing.assert_array_equal(features, cache[index, view])
            whole = masks[index][:, ::-1] if view else masks[index]
            np.testing.assert_array_equal(mask, whole[::8, ::8])
            seen.append(index)
            mirrored += view
    assert sorted(seen) == list(range(IMAGES)) and seen != sorted(seen)
    assert 0 < mirrored < IMAGES


def test_batches_are_a_function_of_seed_epoch_and_position(tmp_path, model, family):
    cache = FeatureCache(run_at(tmp_path), model, family, FILL).fill_up()
    labels = np.eye(IMAGES, dtype=np.float32)

    def epoch(number, position=0, config=CONFIG):
        data = cache.batches(labels, None, config, number, position, ONE)
        return [(b["features"].numpy(), b["labels"].numpy()) for b in data]

    one = epoch(0)
    assert [len(f) for f, _ in one] == [4] * 5
    for (f, c), (g, d) in zip(one[2:], epoch(0, 2), strict=True):
        np.testing.assert_array_equal(f, g)
        np.testing.assert_array_equal(c, d)
    assert (one[0][1] != epoch(1)[0][1]).any()
    assert (one[0][1] != epoch(0, 0, dataclasses.replace(CONFIG, seed=1))[0][1]).any()


def test_replicas_share_what_one_would_take(tmp_path, model, family):
    cache = FeatureCache(run_at(tmp_path), model, family, FILL).fill_up()
    labels = np.eye(IMAGES, dtype=np.float32)

    def taken(context):
        rows = [zip(b["labels"].numpy(), b["present"].numpy(), strict=True)
                for b in cache.batches(labels, None, CONFIG, 0, 1, context)]  # fmt: skip
        return [[int(label.argmax()) for label, present in row if present] for row in rows]

    whole = taken(ONE)
    workers = [taken(tf.distribute.InputContext(2, i, 4)) for i in (0, 1)]  # two replicas each
    assert [len(w) for w in workers] == [2 * len(whole)] * 2
    for step, images in enumerate(whole):
        shares = [share for w in workers for share in w[2 * step : 2 * step + 2]]
        assert [i for share in shares for i in share] == images
        assert max(map(len, shares)) == 1


def test_remove(tmp_path, model, family):
    cache = FeatureCache(run_at(tmp_path), model, family, FILL).fill_up()
    assert cache.directory.exists()
    cache.remove()
    assert not cache.directory.exists()
    cache.remove()
