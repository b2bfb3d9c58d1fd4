"""Picture, mask, mirror and label of a record stay together; each record is read once an epoch.

The families' pixels say where they come from: red is the image, green and blue the pixel's row
and column, and a mask's class id is a function of the three.
"""

import collections
import itertools
import os
import subprocess
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from aepsl_tf import config as configs
from aepsl_tf import run_dir
from aepsl_tf.classes import VOID
from aepsl_tf.data import datasets, encoding, order, records, tfrecord, transforms
from aepsl_tf.data.feature_cache import FeatureCache
from aepsl_tf.errors import InputError

COUNTS, CLASSES, SIZE = [5, 4, 4], 3, 17
IMAGES = sum(COUNTS)
FILL = tf.constant([250, 251, 252], tf.uint8)
ONE = tf.distribute.InputContext()


def class_at(image, y, x):
    return (7 * image + 3 * y + 5 * x) % 200


def is_erased(y, x):
    return (y + 2 * x) % 5 == 0


def write(root, height, width):
    """Images, erased and masks families; the size of image i is (height(i), width(i))."""
    rows = []
    for i in range(IMAGES):
        y, x = np.mgrid[: height(i), : width(i)]
        picture = np.stack([np.full_like(y, i), y, x], axis=-1).astype(np.uint8)
        image = {
            "image/id": f"i{i}", "image/encoded": encoding.rgb_png(picture),
            "image/converted_from": "", "image/height": len(y), "image/width": len(y[0]),
            "image/pixel_sum": [0, 0, 0], "image/labels": [1 + i % CLASSES],
        }  # fmt: skip
        mask = encoding.grey_png(class_at(i, y, x).astype(np.uint8))
        rows.append({
            "images": image,
            "erased": image | {"erased/png": encoding.grey_png(is_erased(y, x))},
            "masks": {"image/id": f"i{i}", "mask/png": mask},
        })  # fmt: skip
    starts = np.cumsum([0, *COUNTS])
    families = {}
    for name in rows[0]:
        (root / name).mkdir()
        records.write_family(
            root / name, name, COUNTS,
            lambda s, name=name: [row[name] for row in rows[starts[s] : starts[s + 1]]],
        )  # fmt: skip
        families[name] = records.Family(root / name)
    return families


@pytest.fixture(scope="module")
def odd_sizes(tmp_path_factory):
    """Smaller than, as large as and larger than a crop, on each side."""
    return write(tmp_path_factory.mktemp("odd"), lambda i: 12 + 3 * (i % 4), lambda i: 14 + 2 * i)


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Of the network's size, which warping leaves as they are."""
    return write(tmp_path_factory.mktemp("squares"), lambda i: SIZE, lambda i: SIZE)


@pytest.fixture(scope="module")
def cache(squares, tmp_path_factory):
    """Features that are every eighth pixel of the picture."""
    frozen = types.SimpleNamespace(output=tf.zeros([1, 3, 3, 3]), get_weights=list)

    class Frozen:
        output, get_weights = frozen.output, frozen.get_weights

        def __call__(self, images, training):
            return images[:, ::8, ::8]

    model = types.SimpleNamespace(config=config("warp"), frozen=Frozen())
    run = types.SimpleNamespace(
        cache=tmp_path_factory.mktemp("cache").joinpath, digest_of=run_dir.digest
    )
    return FeatureCache(run, model, squares["images"], FILL).fill_up()


def config(kind, batch=4, seed=0):
    return configs.TrainSegmenter(
        backbone="vgg16_small", input=kind, input_size=SIZE, global_batch=batch, seed=seed
    )


def take(families, settings, count, epoch=0, position=0, context=ONE, cache=None):
    data = datasets.training_batches(
        families, settings, CLASSES, FILL, epoch, position, context, cache
    )
    return [{k: v.numpy() for k, v in batch.items()} for batch in data.take(count)]


def check(cells, mask, label, present, erased=False):
    """One row's picture at the mask's cells; returns (image, mirrored), or None if not present."""
    if not present:
        assert (mask == VOID).all() and not label.any()
        return None
    cells = np.round(cells).astype(int)
    inside = mask != VOID
    whole = inside & (cells != FILL.numpy()).any(axis=-1) if erased else inside
    assert whole.any()
    image, y, x = (cells[..., c][whole] for c in range(3))
    assert len(set(image)) == 1
    np.testing.assert_array_equal(mask[whole], class_at(image, y, x))
    if erased:
        assert not is_erased(y, x).any() and (inside & ~whole).any()
    else:
        assert (cells[~inside] == np.round(transforms.INPUT_MEAN)).all()
    np.testing.assert_array_equal(label, np.eye(CLASSES)[image[0] % CLASSES])
    columns = np.where(whole, cells[..., 2], -1)
    steps = {int(b - a) for row in columns for a, b in itertools.pairwise(row)
             if a >= 0 and b >= 0}  # fmt: skip
    assert steps <= {8} or steps <= {-8}
    return int(image[0]), steps == {-8}


@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(["crop", "warp", "cache", "erased"]), batch=st.integers(1, 5),
    pipelines=st.integers(1, 2), replicas=st.integers(1, 2), seed=st.integers(0, 1000),
    epoch=st.integers(0, 3), data=st.data(),
)  # fmt: skip
def test_what_belongs_together_stays_together(
    odd_sizes, squares, cache, kind, batch, pipelines, replicas, seed, epoch, data
):
    """…under crop and mirror, from records and cache, cut for replicas, whole or resumed."""
    replicas *= pipelines
    batch *= replicas
    steps = order.steps(IMAGES, batch)
    position = data.draw(st.integers(0, steps - 1), "position")
    families = odd_sizes if kind == "crop" else squares
    families = [families["erased" if kind == "erased" else "images"], families["masks"]]
    chosen = config("crop" if kind == "crop" else "warp", batch, seed)
    share = batch // replicas
    parts = [
        take(families, chosen, replicas // pipelines * (steps - position), epoch, position,
             tf.distribute.InputContext(pipelines, k, replicas), cache if kind == "cache" else None)
        for k in range(pipelines)
    ]  # fmt: skip
    seen = []
    for step in range(steps - position):
        here = replicas // pipelines
        for shares in (part[step * here : step * here + here] for part in parts):
            for one in shares:
                cells = one["features"] if kind == "cache" else one["image"][:, ::8, ::8]
                assert len(cells) == len(one["present"]) == share
                seen += [
                    check(*row, erased=kind == "erased")
                    for row in zip(cells, one["mask"], one["labels"], one["present"], strict=True)
                ]
    rows = order.epoch_rows(IMAGES, batch, seed, epoch)
    wanted = zip(*(rows[k].tolist() for k in ("image", "mirror", "present")), strict=True)
    wanted = [(i, m) if p else None for i, m, p in wanted][position * batch :]
    assert seen == wanted


def test_crops_start_where_the_order_says(odd_sizes):
    batch = take([odd_sizes["images"]], config("crop", IMAGES), 1)[0]
    assert batch.keys() == {"image", "labels", "present"}
    rows = order.epoch_rows(IMAGES, IMAGES, 0, 0)
    corners = set()
    for image, i, mirror, (down, right) in zip(
        batch["image"], *(rows[k] for k in ("image", "mirror", "crop")), strict=True
    ):
        height, width = 12 + 3 * (i % 4), 14 + 2 * i
        top, left = down % (max(height - SIZE, 0) + 1), right % (max(width - SIZE, 0) + 1)
        np.testing.assert_allclose(image[:, ::-1][0, 0] if mirror else image[0, 0], [i, top, left],
                                   atol=1e-4)  # fmt: skip
        corners.add((top, left))
    assert len(corners) > 4


def test_resumed_batches_are_those_of_going_on(odd_sizes, squares, cache):
    for families, kind, features in ((odd_sizes, "crop", None), (squares, "warp", cache)):
        families = [families["images"], families["masks"]]
        whole = take(families, config(kind), 10, cache=features)
        rest = take(families, config(kind), 5, epoch=1, position=1, cache=features)
        for one, other in zip(whole[5:], rest, strict=True):  # 4 steps an epoch
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("pipelines", [1, 2])
def test_an_epoch_reads_each_record_once(squares, cache, monkeypatch, pipelines):
    """…by whoever needs it; but for the few that are read ahead of need."""
    reads, read_at = collections.Counter(), tfrecord.read_at

    def counting(path, start, end):
        reads[path, start] += 1
        return read_at(path, start, end)

    monkeypatch.setattr(tfrecord, "read_at", counting)
    families, epochs = [squares["images"], squares["masks"]], 4
    for features in (None, cache):
        reads.clear()
        for k in range(pipelines):
            context = tf.distribute.InputContext(pipelines, k, pipelines)
            steps = epochs * order.steps(IMAGES, 4)
            take(families, config("warp"), steps, context=context, cache=features)
        assert len(reads) == 2 * IMAGES and min(reads.values()) >= epochs
        ahead = pipelines * (4 * 4 // pipelines + os.cpu_count())  # batches on their way
        assert sum(reads.values()) <= 2 * (epochs * IMAGES + ahead)
        assert sum(reads.values()) < 2 * 1.6 * epochs * IMAGES


def test_rows_that_do_not_count_read_nothing(squares, monkeypatch):
    read = datasets.record_reader([squares["erased"], squares["masks"]], list(datasets._BLANK))
    monkeypatch.setattr(records, "zipped_at", None)
    row = {
        k: v.numpy() for k, v in read({"image": tf.constant(0, tf.int64), "present": False}).items()
    }
    assert datasets.picture(row, FILL).shape == (1, 1, 3)
    assert transforms.decode_mask(row["mask/png"]).numpy().tolist() == [[VOID]]
    assert row["image/labels"].size == 0


def test_damage_is_told_in_one_line_that_names_the_file(odd_sizes, squares, tmp_path):
    families = write(tmp_path, lambda i: SIZE, lambda i: SIZE)
    path = families["masks"].shards()[1]
    with open(path, "r+b") as file:
        file.seek(50)
        file.write(b"?")
    with pytest.raises(InputError) as caught, datasets.bad_input():
        take([families["images"], families["masks"]], config("warp"), 4)
    assert str(caught.value).startswith(f"{path}: missing or damaged")
    assert "\n" not in str(caught.value)


def test_other_faults_keep_their_own_name():
    with pytest.raises(tf.errors.OpError), datasets.bad_input():
        list(tf.data.Dataset.from_tensors([0]).map(lambda x: tf.gather([1], x + 5)))


def test_families_of_two_splits_are_told_in_one_line(squares, tmp_path):
    rows = [{"image/id": f"j{i}", "mask/png": datasets._BLANK["mask/png"]} for i in range(IMAGES)]
    records.write_family(tmp_path, "masks", [IMAGES], lambda shard: rows)
    with pytest.raises(InputError, match=f"^{tmp_path} is not aligned"), datasets.bad_input():
        take([squares["images"], records.Family(tmp_path)], config("warp"), 1)


def test_nobody_waits_for_a_tuner_when_a_chain_is_closed(squares):
    """tf.data's sleeps up to a minute, and the end of a chain may wait for it to wake."""
    images = squares["images"]
    context = tf.distribute.InputContext()
    fill = tf.zeros([3], tf.uint8)
    for chain in (
        datasets.training_batches([images], config("warp"), 3, fill, 0, 0, context),
        datasets.warped_pictures(images, SIZE, fill, 2, lambda: iter(range(IMAGES))),
    ):
        assert chain.options().autotune.enabled is False


def test_reads_go_on_beside_each_other_and_the_step_where_all_is_deterministic():
    """In a process of its own: determinism has no way back."""
    code = """
import threading, time
import numpy as np, tensorflow as tf
from aepsl_tf.data import datasets
tf.config.experimental.enable_op_determinism()
lock, at_work, most, done = threading.Lock(), 0, 0, 0
def read(image):
    global at_work, most, done
    with lock:
        at_work += 1
        most = max(most, at_work)
    time.sleep(0.02)
    with lock:
        at_work, done = at_work - 1, done + 1
    return np.float32(image)
def load(row):
    value = tf.numpy_function(read, [row["image"]], tf.float32, stateful=False)
    return {"x": tf.ensure_shape(value, [])}
data = iter(datasets.replica_batches(load, 40, 4, 0, 0, 0, tf.distribute.InputContext()))
for _ in range(30):
    next(data)
before = done
time.sleep(1)
print(most, done - before)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    most, ahead = map(int, found.stdout.split())
    assert most > 1 and ahead > 0
