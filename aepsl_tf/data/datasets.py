"""The tf.data chains: records in, batches out, each chain in one place."""

import contextlib
import functools
import re

import numpy as np
import tensorflow as tf

from aepsl_tf.classes import VOID
from aepsl_tf.data import encoding, order, records, runners, transforms
from aepsl_tf.errors import InputError

_PICTURE = ("image/encoded", "erased/png")
_BLANK = {
    "image/encoded": encoding.rgb_png(np.zeros([1, 1, 3], np.uint8)),
    "erased/png": encoding.grey_png(np.zeros([1, 1], bool)),
    "image/labels": [],
    "mask/png": encoding.grey_png(np.full([1, 1], VOID, np.uint8)),
}
"""What rows that do not count hold: no label, a mask without a labelled pixel."""

_UNCONVERTED = tf.autograph.experimental.do_not_convert
"""No graph of this package has Python's `if` or `while` over tensors, and searching for them takes
seconds: so it is with every `tf.function` too.
"""


def record_reader(families, fields):
    """`read(row) -> {field: tensor}`, inside a graph: fields of the records of one image.

    Only the image's own records are read. For a row that is not present none are.

    Args:
      families: of one split.
      fields: some of `_BLANK`'s; those that none of the families has are left out.
    """
    fields = [k for k in fields if any(k in records.SCHEMAS[family.name] for family in families)]
    lists = [isinstance(_BLANK[name], list) for name in fields]

    def values(image, present):
        row = records.zipped_at(families, int(image)) if present else _BLANK
        return [
            np.array(row[k], np.int64 if ids else object)
            for k, ids in zip(fields, lists, strict=True)
        ]

    def read(row):
        types = [tf.int64 if ids else tf.string for ids in lists]
        found = tf.numpy_function(values, [row["image"], row["present"]], types, stateful=False)
        return {
            name: tf.ensure_shape(value, [None] if ids else [])
            for name, value, ids in zip(fields, found, lists, strict=True)
        }

    return read


@contextlib.contextmanager
def bad_input():
    """An `InputError` that was raised inside tf.data comes out as itself, in one line."""
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"InputError: (.+)", str(error))
        if not found:
            raise
        raise InputError(found[1]) from None


def picture(row, fill):
    """The picture of an images or erased row: uint8 `[H, W, 3]`, mined regions filled (§3.1)."""
    image = transforms.decode_image(row["image/encoded"])
    if "erased/png" in row:
        image = transforms.erase(image, row["erased/png"], fill)
    return image


def fill_pixel(images_family):
    """The training split's mean pixel, uint8 RGB `[3]`: what erased pixels become.

    Raises:
      InputError: the family holds none.
    """
    mean = (images_family.facts or {}).get("mean_pixel")
    numbers = isinstance(mean, list) and all(type(x) in (int, float) for x in mean)
    if not numbers or len(mean) != 3 or not all(0 <= x <= 255 for x in mean):
        raise InputError(
            f"{images_family.directory}/family.json: its mean pixel is none: "
            f"{records.again(images_family.directory)}"
        )
    return tf.cast(tf.round(tf.constant(mean, tf.float32)), tf.uint8)


def open_training_split(run_dir, split, step):
    """(family M_step is trained on, mean pixel to fill erased regions with)."""
    images = records.Family(run_dir.family(split, "images"))
    fill = fill_pixel(images)
    family = images if step == 1 else records.Family(run_dir.training_images(split, step))
    return family, fill


_ROW = {"image": (tf.int64, ()), "mirror": (tf.bool, ()), "crop": (tf.int32, (2,)),
        "present": (tf.bool, ())}  # fmt: skip


def _rows(first, size, batch_rows):
    """tf.data of single rows, endlessly: those of `batch_rows(number)`, `size` of them, from number
    `first` on.
    """

    def of(number):
        # Not stateful, here and wherever else this chain calls Python: with --deterministic,
        # tf.data does one after the other, and nothing ahead, what hangs on state.
        rows = tf.numpy_function(
            lambda n: [batch_rows(int(n))[name] for name in _ROW], [number],
            [kind for kind, _ in _ROW.values()], stateful=False,
        )  # fmt: skip
        return {
            name: tf.ensure_shape(values, [size, *shape])
            for (name, (_, shape)), values in zip(_ROW.items(), rows, strict=True)
        }

    return tf.data.Dataset.range(first, tf.int64.max).map(_UNCONVERTED(of)).unbatch()


def _loaded(rows, load, batch):
    """Batches of what `load` makes of each row, on every core, in the order of the rows.

    Without tf.data's tuner: its thread sleeps up to a minute between two looks, and whoever is done
    with a chain may wait for it to wake.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    made = rows.map(_UNCONVERTED(load), num_parallel_calls=runners.worker_count(0))
    return made.batch(batch, drop_remainder=True).with_options(options)


def replica_batches(load, images, global_batch, seed, epoch, position, context, pieces=1):
    """Batches for the replicas of one input pipeline, from the given one on, epoch after epoch.

    It never ends, so that one chain, traced once, serves a whole training. Every batch has its
    full size, so that one graph serves and every replica takes equally many steps; where the global
    batch is no multiple of replicas and pieces, rows that do not count fill it up.

    Args:
      load: `load(row) -> {name: tensor}` of one row of `order.batch_rows`, inside a graph.
      images, global_batch, seed: see `order.batch_rows`.
      epoch, position: of the first batch.
      context: `tf.distribute.InputContext`.
      pieces: --accumulate, which a replica's part of a batch is cut into.

    Returns:
      tf.data of dictionaries `[B', …]` with "present" float32 `[B']`, 0 where a row does not
      count: for each step one a replica of this pipeline, in turn.
    """
    shares = context.num_replicas_in_sync * pieces
    batch_rows = functools.partial(
        order.batch_rows, images, global_batch, seed, pipeline=context.input_pipeline_id,
        pipelines=context.num_input_pipelines, shares=shares,
    )  # fmt: skip
    first = epoch * order.steps(images, global_batch) + position
    whole = order.filled(global_batch, shares)

    def counted(row):
        return load(row) | {"present": tf.cast(row["present"], tf.float32)}

    rows = _rows(first, whole // context.num_input_pipelines, batch_rows)
    return (
        _loaded(rows, counted, whole // context.num_replicas_in_sync)
        # Else a strategy asks before each step, of every worker, whether there is a next one.
        .apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        .prefetch(2)
    )


def training_batches(families, config, num_classes, fill, epoch, position, context, cache=None):
    """Training batches from batch `position` of `epoch` on, a pure function of its arguments.

    Args:
      families: the images (or erased) family and, for the segmenter, the masks family.
      config: `config.TrainClassifier` or `config.TrainSegmenter`.
      fill: see `fill_pixel`.
      context: see `replica_batches`.
      cache: a filled `FeatureCache` of the pictures, whose features then stand in for them.

    Returns:
      tf.data of {"image" float32 `[B, s, s, 3]` or "features" `[B, h, w, C']`, "labels"
      `[B, C]`, "mask" uint8 `[B, h, w]`, "present" `[B]`}, without end.
    """
    read = record_reader(families, ["image/labels", "mask/png", *(() if cache else _PICTURE)])

    def shown(row, whole, crop, warp):
        """What the network gets to see of a whole picture or mask, before it is mirrored."""
        if config.input == "crop":
            return crop(whole, config.input_size, row["crop"])
        return warp(whole, config.input_size)

    def load(row):
        record = read(row)
        batch = {"labels": transforms.multi_hot(record["image/labels"], num_classes)}
        if cache:
            batch["features"] = cache.load(row)
        else:
            image = picture(record, fill)
            seen = shown(row, image, transforms.crop, transforms.warp)
            batch["image"] = transforms.mirror(seen, row["mirror"])
        if "mask/png" in record:
            mask = transforms.decode_mask(record["mask/png"])
            seen = shown(row, mask, transforms.crop_mask, transforms.warp_mask)
            # Of 8k+1 pixels every 8th is the same from both sides: mirrored where there are few.
            batch["mask"] = transforms.mirror(transforms.network_mask(seen), row["mirror"])
        return batch

    images = families[0].images
    return replica_batches(
        load, images, config.global_batch, config.seed, epoch, position, context, config.accumulate
    )


def warped_pictures(family, size, fill, batch, numbers):
    """A family's pictures by their numbers, warped.

    Args:
      numbers: `numbers()` yields ints, `batch` at a time; those from `family.images` on give
        blank pictures.

    Returns:
      tf.data of {"image": int64 `[batch]` number; "picture": float32 `[batch, size, size, 3]`}.
    """
    read = record_reader([family], _PICTURE)

    def load(number):
        row = read({"image": number, "present": number < family.images})
        return {"image": number, "picture": transforms.warp(picture(row, fill), size)}

    spec = tf.TensorSpec([], tf.int64)
    rows = tf.data.Dataset.from_generator(numbers, output_signature=spec)
    return _loaded(rows, load, batch).prefetch(2)
