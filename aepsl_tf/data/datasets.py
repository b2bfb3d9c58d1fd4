"""The tf.data chains: records in, batches out, each chain in one place."""

import tensorflow as tf

from aepsl_tf.classes import VOID
from aepsl_tf.data import records, transforms


def parse(family, record):
    """`records.decode` inside a tf.data graph: scalars, and dense vectors for the plural kinds."""
    features = {
        name: tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
        if kind == "ints"
        else tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)
        if kind == "bytes_list"
        else tf.io.FixedLenFeature([], tf.int64 if kind == "int" else tf.string)
        for name, kind in records.SCHEMAS[family].items()
    }
    return tf.io.parse_single_example(record, features)


def dataset(families):
    """tf.data of undecoded, zipped records: a tuple of serialised strings an image."""
    parts = [
        # A shard cut between two records fails too, where zip would just end early.
        tf.data.TFRecordDataset(f.shards()).apply(tf.data.experimental.assert_cardinality(f.images))
        for f in families
    ]
    return tf.data.Dataset.zip(tuple(parts))


def parse_zipped(families, records):
    """Merges the zipped records of `dataset` into one dictionary and checks their ids agree."""
    parsed = [parse(f.name, r) for f, r in zip(families, records, strict=True)]
    merged = {}
    for part in parsed:
        check = tf.debugging.assert_equal(
            part["image/id"], parsed[0]["image/id"], "record families are not aligned"
        )
        with tf.control_dependencies([check] if check is not None else []):
            merged |= {k: tf.identity(v) for k, v in part.items()}
    return merged


def picture(row, fill):
    """The picture of an images or erased row: uint8 `[H, W, 3]`, mined regions filled (§3.1)."""
    image = transforms.decode_image(row["image/encoded"])
    if "erased/png" in row:
        image = transforms.erase(image, row["erased/png"], fill)
    return image


def fill_pixel(images_family):
    """The training split's mean pixel, uint8 RGB `[3]`: what erased pixels become."""
    return tf.cast(tf.round(tf.constant(images_family.facts["mean_pixel"])), tf.uint8)


def open_training_split(run_dir, split, step):
    """(family M_step is trained on, mean pixel to fill erased regions with)."""
    images = records.Family(run_dir.family(split, "images"))
    fill = fill_pixel(images)
    family = images if step == 1 else records.Family(run_dir.training_images(split, step))
    return family, fill


def _order_seed(config, epoch):
    return (config.seed * 1_000_003 + epoch) % 2**31


def replica_batches(rows, load, images, global_batch, position, context):
    """One epoch's batches for the replicas of one input pipeline.

    Replica r of R takes the r-th R-th of each global batch. Every batch has its full size, so
    that one graph serves and every replica takes equally many steps: what fills the last one is
    marked as not "present", and its mask is void.

    Args:
      rows: tf.data of the epoch's rows in order, cheap to leave out.
      load: `load(place, row) -> {name: tensor}`; place int64 is the row's in the epoch.
      images: rows an epoch.
      position: global batches to leave out.
      context: `tf.distribute.InputContext`.

    Returns:
      tf.data of dictionaries `[B', …]` with "present" float32 `[B']` of 0 and 1: for each step
      one a replica of this pipeline, in turn.
    """
    steps = -(-images // global_batch)
    here = global_batch // context.num_input_pipelines
    share = context.get_per_replica_batch_size(global_batch)

    def load_or_fill(place, row):
        batch, present = load(place, row), place < images
        if "mask" in batch:
            batch["mask"] = tf.where(present, batch["mask"], VOID)
        return batch | {"present": tf.cast(present, tf.float32)}

    return (
        rows.repeat()
        .take(steps * global_batch)
        .enumerate()
        # Before the decoding: resuming, and what other workers load, costs only the reading.
        .skip(position * global_batch)
        .filter(lambda place, row: place % global_batch // here == context.input_pipeline_id)
        .map(load_or_fill, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(share, drop_remainder=True)
        .prefetch(2)
    )  # fmt: skip


def training_batches(families, config, num_classes, fill, epoch, position, context):
    """One epoch of training batches from batch `position` on, a pure function of its arguments.

    Args:
      families: the images (or erased) family and, for the segmenter, the masks family.
      config: `config.TrainClassifier` or `config.TrainSegmenter`.
      fill: see `fill_pixel`.
      context: see `replica_batches`.

    Returns:
      tf.data of {"image" float32 `[B, s, s, 3]`, "labels" `[B, C]`, "mask" uint8 `[B, h, w]`,
      "present" `[B]`}.
    """
    seed = _order_seed(config, epoch)
    mirror_draws = tf.constant([0, 1 << 32], tf.int64)  # other draws than the crop's

    def load(index, parts):
        row = parse_zipped(families, parts)
        draws = tf.stack([tf.constant(seed, tf.int64), index])
        image = picture(row, fill)
        mask = transforms.decode_mask(row["mask/png"]) if "mask/png" in row else None
        if config.input == "crop":
            image, mask = transforms.random_crop(image, config.input_size, draws, mask)
        else:
            image = transforms.warp(image, config.input_size)
            mask = None if mask is None else transforms.warp_mask(mask, config.input_size)
        image, mask = transforms.random_mirror(image, draws + mirror_draws, mask)
        batch = {"image": image,
                 "labels": transforms.multi_hot(row["image/labels"], num_classes)}  # fmt: skip
        return batch if mask is None else batch | {"mask": transforms.network_mask(mask)}

    images = families[0].images
    # Undecoded records are small, so the whole split can be shuffled.
    rows = dataset(families).shuffle(images, seed=seed, reshuffle_each_iteration=False)
    return replica_batches(rows, load, images, config.global_batch, position, context)


def warped_pictures(family, size, fill, batch, first=0):
    """A family's pictures in order from `first` on, warped: float32 `[B, size, size, 3]`."""

    def load(*parts):
        return transforms.warp(picture(parse_zipped([family], parts), fill), size)

    return (
        dataset([family])
        .skip(first)
        .map(load, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch)
        .prefetch(2)
    )
