"""Every image comes once an epoch; resuming equals going on; pipelines part the batch."""

import itertools
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from aepsl_tf.data import order

NAMES = ("image", "mirror", "crop", "present")
ORDERS = st.fixed_dictionaries({
    "images": st.integers(1, 60), "batch": st.integers(1, 16), "seed": st.integers(0, 2**40),
})  # fmt: skip


def taken(count, epoch=0, position=0, **arguments):
    """The next `count` batches of rows, each joined to a list of (image, mirror, crop, present)."""
    first = epoch * order.steps(arguments["images"], arguments["batch"]) + position
    batches = [order.batch_rows(number=first + i, **arguments) for i in range(count)]
    return [list(zip(*(b[name].tolist() for name in NAMES), strict=True)) for b in batches]


@given(ORDERS, st.integers(0, 50))
def test_every_image_comes_once_an_epoch_in_full_batches(of, epoch):
    steps = order.steps(of["images"], of["batch"])
    batches = taken(steps, epoch=epoch, **of)
    assert [len(rows) for rows in batches] == [of["batch"]] * steps
    rows = [row for batch in batches for row in batch]
    assert sorted(image for image, _, _, present in rows if present) == list(range(of["images"]))
    assert [present for *_, present in rows] == [i < of["images"] for i in range(len(rows))]
    assert all(image == 0 for image, _, _, present in rows if not present)
    assert all(0 <= draw < 2**30 for _, _, crop, _ in rows for draw in crop)


@given(ORDERS, st.integers(0, 3), st.data())
def test_resuming_equals_going_on(of, epoch, data):
    steps = order.steps(of["images"], of["batch"])
    whole = taken(3 * steps, epoch=epoch, **of)
    gone = data.draw(st.integers(0, 2 * steps), "batches before the kill")
    later, position = divmod(gone, steps)
    rest = taken(3 * steps - gone, epoch=epoch + later, position=position, **of)
    assert rest == whole[gone:]


@given(ORDERS, st.integers(1, 4), st.data())
def test_pipelines_part_every_batch_in_order(of, pipelines, data):
    of = of | {"batch": of["batch"] * pipelines}
    position = data.draw(st.integers(0, order.steps(of["images"], of["batch"]) - 1), "position")
    one = taken(5, position=position, **of)
    shares = [taken(5, position=position, pipeline=k, pipelines=pipelines, **of)
              for k in range(pipelines)]  # fmt: skip
    for whole, parts in zip(one, zip(*shares, strict=True), strict=True):
        assert len({len(part) for part in parts}) == 1
        assert [row for part in parts for row in part] == whole


@given(ORDERS, st.integers(1, 3), st.integers(1, 3), st.integers(0, 3))
def test_a_batch_that_cannot_be_cut_is_filled_up(of, pipelines, times, number):
    """With rows that do not count, at its end; the others are those of any other cut."""
    shares = pipelines * times
    cut = [order.batch_rows(number=number, pipeline=k, pipelines=pipelines, shares=shares, **of)
           for k in range(pipelines)]  # fmt: skip
    plain = order.batch_rows(number=number, **of)
    size = order.filled(of["batch"], shares)
    assert size % shares == 0 and 0 <= size - of["batch"] < shares
    for name in NAMES:
        joined = np.concatenate([rows[name] for rows in cut])
        assert len(joined) == size
        np.testing.assert_array_equal(joined[: of["batch"]], plain[name])
        assert not joined[of["batch"] :].any()


def test_epochs_and_seeds_shuffle_mirror_and_crop_anew():
    def drawn(seed, epoch):
        rows = order.epoch_rows(1000, 10, seed, epoch)
        return [rows[name] for name in NAMES[:3]]

    for one, other in itertools.combinations([drawn(0, 0), drawn(0, 1), drawn(1, 0)], 2):
        for values, others in zip(one, other, strict=True):
            assert (values != others).mean() > 0.4
    image, mirror, crop = drawn(0, 0)
    assert abs(np.corrcoef(image, np.arange(1000))[0, 1]) < 0.1
    assert 450 < mirror.sum() < 550
    corners = np.unique(crop % [3, 4], axis=0, return_counts=True)[1]
    assert len(corners) == 12 and corners.min() > 50
    assert abs(np.corrcoef(crop.T)[0, 1]) < 0.1


def test_no_tensorflow_is_loaded():
    code = "import sys, aepsl_tf.data.order; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
