"""Cached features are the frozen trunk's; a killed fill goes on."""

import dataclasses
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf import run_dir
from aepsl_tf.data import datasets, encoding, feature_cache, records, transforms
from aepsl_tf.data.feature_cache import FeatureCache
from aepsl_tf.errors import InputError
from aepsl_tf.models.classifier import Classifier

IMAGES, CHUNK = 18, 8


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(feature_cache, "_CHUNK", CHUNK)


def run_at(root):
    """A run that holds its cache at `root`; families are their own digests' record."""
    return types.SimpleNamespace(cache=root.joinpath, digest_of=run_dir.digest)


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


@pytest.mark.parametrize(("precision", "kind"), [
    ("mixed_bfloat16", "bf16"), ("mixed_float16", "f16"),
])  # fmt: skip
def test_half_precision_takes_half_the_disk_and_rounds_nothing(precision, kind, tmp_path, family):
    config = dataclasses.replace(CONFIG, precision=precision)
    model = Classifier(config, 3)
    cache = FeatureCache(run_at(tmp_path), model, family, FILL)
    cache.directory.mkdir()
    (cache.directory / "00000.f32").write_bytes(b"an older version's")
    cache.fill_up()
    files = sorted(cache.directory.iterdir())
    assert [file.name for file in files] == [f"{chunk:05d}.{kind}" for chunk in range(3)]
    assert cache.bytes() == sum(f.stat().st_size for f in files) == IMAGES * 2 * 3 * 3 * 64 * 2
    rows = list(family.read())[:CHUNK]  # as the cache batches them
    images = tf.stack([transforms.warp(datasets.picture(row, FILL), 17) for row in rows])
    for view, pictures in enumerate((images, images[:, :, ::-1])):
        expected = model.frozen(pictures, training=False)
        assert expected.dtype.size == 2
        for i in range(CHUNK):
            assert cache[i, view].dtype == expected.dtype
            np.testing.assert_array_equal(cache[i, view], expected[i])
    rows = tf.data.Dataset.from_tensors({"image": 2, "mirror": True, "present": True})
    (loaded,) = rows.map(cache.load)
    assert loaded.dtype == expected.dtype == model.tuned.input.dtype  # so nothing is cast
    np.testing.assert_array_equal(loaded, expected[2])
    fc7, logits = model.tuned(loaded[None], training=False)
    of_float32 = model.tuned(tf.cast(loaded[None], tf.float32), training=False)
    np.testing.assert_array_equal(fc7, of_float32[0])
    np.testing.assert_array_equal(logits, of_float32[1])


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
    assert [f.name for f in files] == ["00000.f32", "00001.f32", "00002.f32"]
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


def test_a_fill_reads_only_the_pictures_of_missing_chunks(tmp_path, model, family, monkeypatch):
    cache = FeatureCache(run_at(tmp_path), model, family, FILL).fill_up()
    contents = [f.read_bytes() for f in sorted(cache.directory.iterdir())]
    for chunk in (0, 2):
        (cache.directory / f"{chunk:05d}.f32").unlink()
    read, zipped_at = [], records.zipped_at

    def watched(families, image):
        read.append(image)
        return zipped_at(families, image)

    monkeypatch.setattr(records, "zipped_at", watched)
    cache.fill_up(worker=1, workers=2)  # it begins with the second of the missing ones
    assert sorted(read) == [*range(8), 16, 17] and set(read[:2]) == {16, 17}
    assert [f.read_bytes() for f in sorted(cache.directory.iterdir())] == contents


def test_damage_is_told_in_one_line(tmp_path, model):
    family = write(tmp_path / "images")
    path = family.shards()[1]
    with open(path, "r+b") as file:
        file.truncate(100)
    with pytest.raises(InputError, match=f"^{path}: missing or damaged") as caught:
        FeatureCache(run_at(tmp_path / "cache"), model, family, FILL).fill_up()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("point", ["progress", "os.replace"])
def test_a_helper_stops_when_the_chief_has_removed_the_cache(
    tmp_path, model, family, monkeypatch, point
):
    """Mining is shared: the chief may be through, and clear away, while a helper still fills."""
    cache = FeatureCache(run_at(tmp_path), model, family, FILL)
    module, _, name = point.rpartition(".")
    owner = getattr(feature_cache, module) if module else feature_cache
    original, calls = getattr(owner, name), []

    def late(*args, **kwargs):
        calls.append(args)
        if len(calls) == 1:
            shutil.rmtree(cache.directory)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, late)
    assert cache.fill_up(1, 2, lambda: bool(calls)) is None
    assert calls and list(tmp_path.iterdir()) == []


def test_a_helper_that_comes_late_makes_nothing(tmp_path, model, family, monkeypatch):
    cache = FeatureCache(run_at(tmp_path), model, family, FILL)
    assert cache.fill_up(1, 2, lambda: True) is None
    looks = iter([False, True, True, True])  # over just after its first look
    assert cache.fill_up(1, 2, lambda: next(looks)) is None
    assert list(tmp_path.iterdir()) == []
    assert cache.fill_up(0, 2, lambda: True) is cache  # the chief is never late


def test_a_chunk_cut_short_is_computed_again(tmp_path, model, family):
    cache = FeatureCache(run_at(tmp_path), model, family, FILL).fill_up()
    path = sorted(cache.directory.iterdir())[1]
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    FeatureCache(run_at(tmp_path), model, family, FILL).fill_up()
    assert path.read_bytes() == whole


def test_a_file_that_the_chief_misses_is_an_error(tmp_path, model, family, monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError("00000.f32")

    monkeypatch.setattr(feature_cache.os, "replace", missing)
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
