"""Record families: schemas written once, a sharded writer, and readers that check alignment.

One split holds the same images in the same order and the same shards in every family, so readers
zip them. A family is a folder of `FAMILY-00000-of-00004.tfrecord` and `family.json`.
"""

import itertools
import json
import os
import pathlib

import tensorflow as tf
from tqdm import tqdm

from aepsl_tf.errors import InputError
from aepsl_tf.run_dir import to_json, write_atomic

# Kinds: bytes and int are one value, the plurals a list of any length; text is UTF-8 bytes.
_IMAGE = {
    "image/id": "text",
    "image/encoded": "bytes",  # an upright RGB JPEG or PNG
    "image/converted_from": "text",  # why the bytes are not the source's own; "" when untouched
    "image/height": "int",
    "image/width": "int",
    "image/pixel_sum": "ints",  # R, G, B summed over the pixels, for the split's mean pixel
    "image/labels": "ints",  # class ids present, 1..C; empty where the split has no tags
}
SCHEMAS = {
    "images": _IMAGE,
    "erased": _IMAGE | {"erased/png": "bytes"},  # 1-bit PNG: the union of F_1…F_{t−1}
    "ground_truth": {"image/id": "text", "mask/png": "bytes"},
    "saliency": {"image/id": "text", "saliency/png": "bytes"},  # 8-bit PNG, 255 = most salient
    "regions": {"image/id": "text", "image/labels": "ints", "regions/pngs": "bytes_list"},
    "masks": {"image/id": "text", "mask/png": "bytes"},  # class ids, 255 = ignored
}
"""Family → field → kind."""


def shard_name(family, index, count):
    return f"{family}-{index:05d}-of-{count:05d}.tfrecord"


def encode(family, values):
    """Serialises one record; the values must be exactly the family's fields."""
    schema = SCHEMAS[family]
    if values.keys() != schema.keys():
        raise ValueError(f"{family}: expected the fields {set(schema)}, got {set(values)}")
    example = tf.train.Example()
    for name, kind in schema.items():
        value, feature = values[name], example.features.feature[name]
        if kind == "text":
            feature.bytes_list.value.append(value.encode())
        elif kind == "bytes":
            feature.bytes_list.value.append(value)
        elif kind == "bytes_list":
            feature.bytes_list.value.extend(value)
        else:
            feature.int64_list.value.extend([value] if kind == "int" else value)
    return example.SerializeToString(deterministic=True)


def decode(family, record):
    """The inverse of `encode`: bytes → a dictionary of Python values."""
    features = tf.train.Example.FromString(record).features.feature
    values = {}
    for name, kind in SCHEMAS[family].items():
        feature = features[name]
        if kind in ("int", "ints"):
            value = list(feature.int64_list.value)
        else:
            value = list(feature.bytes_list.value)
        if kind == "text":
            value = [value[0].decode()]
        values[name] = value if kind in ("ints", "bytes_list") else value[0]
    return values


def parse(family, record):
    """`decode` inside a tf.data graph: scalars, and dense vectors for the plural kinds."""
    features = {
        name: tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
        if kind == "ints"
        else tf.io.FixedLenSequenceFeature([], tf.string, allow_missing=True)
        if kind == "bytes_list"
        else tf.io.FixedLenFeature([], tf.int64 if kind == "int" else tf.string)
        for name, kind in SCHEMAS[family].items()
    }
    return tf.io.parse_single_example(record, features)


class Family:
    """A finished family on disk.

    Attributes:
      directory, name: where it lies and which schema it has.
      images: how many images it holds.
      counts: images a shard.
      facts: what its writer noted besides (the images' mean pixel).
    """

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        try:
            info = json.loads((self.directory / "family.json").read_text())
        except FileNotFoundError:
            raise InputError(f"{self.directory} holds no record family: run the phase that "
                             "writes it first") from None  # fmt: skip
        self.name, self.counts, self.facts = info["family"], info["counts"], info["facts"]
        self.images = sum(self.counts)

    def shards(self):
        return [
            str(self.directory / shard_name(self.name, i, len(self.counts)))
            for i in range(len(self.counts))
        ]

    def read(self, shard=None):
        """Yields records as dictionaries, of one shard or of all."""
        for index in range(len(self.counts)) if shard is None else [shard]:
            found = 0
            for row in read_shard(self.directory, self.name, index, len(self.counts)):
                found += 1
                yield row
            if found != self.counts[index]:  # cut between two records, which no checksum shows
                raise InputError(
                    f"{self.shards()[index]}: damaged, {found} of {self.counts[index]} images: "
                    "write the family again"
                )


def read_shard(directory, family, index, count):
    """Yields the records of one shard as dictionaries."""
    path = pathlib.Path(directory) / shard_name(family, index, count)
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield decode(family, record)
    except tf.errors.OpError as error:
        raise InputError(
            f"{path}: missing or damaged ({error.message[:120]}): write the family again"
        ) from error


def check_same_id(one, other, where):
    """Refuses families that do not hold the same images in the same order."""
    if one != other:
        raise InputError(
            f"{where} is not aligned with its split: found image {other} beside {one}; write the "
            "run's families again from one split"
        )


def read_zipped(families, shard=None):
    """Yields one merged dictionary an image over several families of a split.

    Raises:
      InputError: the families do not hold the same images in the same order.
    """
    for rows in itertools.zip_longest(*(f.read(shard) for f in families), fillvalue={}):
        for row, family in zip(rows, families, strict=True):
            check_same_id(rows[0].get("image/id"), row.get("image/id"), family.directory)
        yield {key: value for row in rows for key, value in row.items()}


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


def write_family(directory, family, counts, rows, *, facts=None, description=None):
    """Writes a family shard by shard; finished shards of an earlier try are kept.

    Args:
      directory: the (partial) folder, which exists.
      family: schema name.
      counts: images a shard.
      rows: `rows(shard) -> iterable` of dictionaries, called for the shards that are missing.
      facts: JSON kept in family.json; a function is called after the last shard.
      description: of the progress bar; default the family's name.
    """
    directory = pathlib.Path(directory)
    names = [shard_name(family, i, len(counts)) for i in range(len(counts))]
    missing = [i for i, name in enumerate(names) if not (directory / name).exists()]
    left = sum(counts[i] for i in missing)
    with progress(left, description or f"write {family}") as bar:
        for index in missing:
            beside = directory / (names[index] + ".tmp")
            written = 0
            with tf.io.TFRecordWriter(str(beside)) as writer:
                for row in rows(index):
                    writer.write(encode(family, row))
                    written += 1
                    bar.update()
            if written != counts[index]:
                raise InputError(f"{names[index]}: expected {counts[index]} images, got {written}")
            os.replace(beside, directory / names[index])
    info = {
        "family": family,
        "counts": list(counts),
        "facts": facts() if callable(facts) else facts,
    }
    write_atomic(directory / "family.json", to_json(info))


def progress(total, description, unit="image"):
    """The one progress bar: rate and time left, quiet enough for a log file."""
    return tqdm(total=total, desc=description, unit=unit, mininterval=1.0, maxinterval=30.0,
                dynamic_ncols=True, smoothing=0.05)  # fmt: skip


def split_counts(images, shards):
    """Images a shard: as even as can be, never an empty shard."""
    shards = min(shards, images)
    return [images // shards + (i < images % shards) for i in range(shards)]
