"""Record families: schemas written once, a sharded writer, and readers that check alignment.

One split holds the same images in the same order and the same shards in every family, so readers
zip them. A family is a folder of `FAMILY-00000-of-00004.tfrecord`, beside each its `.index` of
where records begin, and `family.json`. Workers import this module, so it stays free of TensorFlow;
`datasets` has the tf.data side.
"""

import bisect
import contextlib
import functools
import itertools
import os
import pathlib
import pickle
import shutil
import tempfile

from aepsl_tf.data import runners, tfrecord
from aepsl_tf.errors import InputError
from aepsl_tf.files import read_json, sealed, settle, write_atomic
from aepsl_tf.progress import progress

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
    "regions": {
        "image/id": "text",
        "image/labels": "ints",
        "regions/pngs": "bytes_list",
        "regions/scores": "ints",  # v of each label by M_t, in thousandths
    },
    "masks": {"image/id": "text", "mask/png": "bytes"},  # class ids, 255 = ignored
}
"""Family → field → kind."""
_LATER = {"regions/scores"}
"""Fields that older runs' records lack; they read as empty lists."""
_INFO = {"family": str, "counts": [int], "facts": (None, {str: object})}


def shard_name(family, index, count):
    return f"{family}-{index:05d}-of-{count:05d}.tfrecord"


def encode(family, values):
    """Serialises one record; the values must be exactly the family's fields."""
    schema = SCHEMAS[family]
    if values.keys() != schema.keys():
        raise ValueError(f"{family}: expected the fields {set(schema)}, got {set(values)}")
    example = tfrecord.Example()
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
    """The inverse of `encode`: bytes → a dictionary of Python values.

    Raises:
      tfrecord.DamagedError: no record of this family.
    """
    try:
        return _decoded(family, record)
    except (IndexError, UnicodeDecodeError, tfrecord.DecodeError) as error:
        raise tfrecord.DamagedError(f"no record of {family} ({error})") from None


def _decoded(family, record):
    features = tfrecord.Example.FromString(record).features.feature
    schema = SCHEMAS[family].keys()
    if not schema - _LATER <= set(features) <= schema:  # another family's record
        raise tfrecord.DamagedError(
            f"no record of {family}, but of {', '.join(sorted(features))[:200] or 'nothing'}"
        )
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
            info = read_json(self.directory / "family.json", _INFO, again(self.directory))
        except FileNotFoundError:
            raise InputError(f"{self.directory} holds no record family: run the phase that "
                             "writes it first") from None  # fmt: skip
        self.name, self.counts, self.facts = info["family"], info["counts"], info["facts"]
        if self.name not in SCHEMAS or min(self.counts, default=-1) < 0:
            raise InputError(f"{self.directory}/family.json: no family: {again(self.directory)}")
        self.images = sum(self.counts)
        self._starts = list(itertools.accumulate(self.counts, initial=0))
        self._indexes = {}

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
            self._check_count(index, found)

    def _check_count(self, shard, found):
        if found != self.counts[shard]:  # cut between two records, which no checksum shows
            raise InputError(
                f"{self.shards()[shard]}: damaged, {found} of {self.counts[shard]} images: "
                f"{again(self.directory)}"
            )

    def at(self, image):
        """The record of one image, by its number in the split; nothing else is read."""
        if not 0 <= image < self.images:
            raise IndexError(f"{self.directory} has {self.images} images, not one {image}")
        shard = bisect.bisect_right(self._starts, image) - 1
        path, place = self.shards()[shard], image - self._starts[shard]
        with _told(path):
            if shard not in self._indexes:
                index = tfrecord.read_index(path)
                self._check_count(shard, len(index) - 1)
                self._indexes[shard] = index
            start, end = map(int, self._indexes[shard][place : place + 2])
            return decode(self.name, tfrecord.read_at(path, start, end))


def again(directory):
    """What to do with a damaged family: a finished phase goes by whether its folder is there."""
    return f"remove {directory} and write it again"


@contextlib.contextmanager
def _told(path):
    """What is wrong with a shard, in one line."""
    try:
        yield
    except (tfrecord.DamagedError, OSError) as error:
        directory = os.path.dirname(path)
        raise InputError(f"{path}: missing or damaged ({error}): {again(directory)}") from error


def read_shard(directory, family, index, count):
    """Yields the records of one shard as dictionaries."""
    path = pathlib.Path(directory) / shard_name(family, index, count)
    with _told(path):
        for record in tfrecord.read(path):
            yield decode(family, record)


def check_same_id(one, other, where):
    """Refuses families that do not hold the same images in the same order."""
    if one != other:
        raise InputError(
            f"{where} is not aligned with its split: found image {other} beside {one}; write the "
            "run's families again from one split"
        )


def read_rows(families, shard=None):
    """Yields a tuple of rows an image, one of each of several families of a split.

    Raises:
      InputError: the families do not hold the same images in the same order.
    """
    for rows in itertools.zip_longest(*(f.read(shard) for f in families), fillvalue={}):
        _check_same_ids(families, rows)
        yield rows


def _check_same_ids(families, rows):
    for row, family in zip(rows, families, strict=True):
        check_same_id(rows[0].get("image/id"), row.get("image/id"), family.directory)


def _merged(rows):
    return {key: value for row in rows for key, value in row.items()}


def read_zipped(families, shard=None):
    """`read_rows` merged: one dictionary an image."""
    for rows in read_rows(families, shard):
        yield _merged(rows)


def zipped_at(families, image):
    """The one of `read_zipped`'s dictionaries that has this number in the split."""
    rows = [family.at(image) if image < family.images else {} for family in families]
    _check_same_ids(families, rows)
    return _merged(rows)


def write_family(
    directory, family, counts, items, make=None, workers=1, *,
    staged=False, facts=None, description=None,
):  # fmt: skip
    """Writes a family shard by shard; finished shards of an earlier try are kept.

    A row is `make(item)`, the work that `workers` share. With a pool this process reads items
    and writes rows; with Beam a worker does all of its shard. Either way a shard is written in a
    folder of this try's own and gets its name when whole.

    Args:
      directory: the (partial) folder, which exists.
      family: schema name.
      counts: images a shard.
      items: `items(shard) -> iterable`, called in order for the shards that are missing.
      make: `make(item) -> row`, a dictionary; None where items are the rows, which are then
        written in this process. Both functions are picklable and import no TensorFlow.
      workers: a number of processes or a `runners.Beam`.
      staged: `items` must be called in this process, and need not be picklable: for Beam they
        are pickled to files, as many shards at a time as there are workers.
      facts: JSON kept in family.json; a function is called after the last shard.
      description: of the progress bar; default the family's name.
    """
    directory = pathlib.Path(directory)
    for left_over in directory.glob(f"{_TRY}*"):
        shutil.rmtree(left_over)
    missing = [i for i in range(len(counts)) if not _is_made(directory, family, i, counts)]
    left = sum(counts[i] for i in missing)
    with (
        # A worker that outlives a killed run has another try's folder, which is gone: it can no
        # longer publish what it wrote.
        tempfile.TemporaryDirectory(prefix=_TRY, dir=directory) as own,
        progress(left, description or f"write {family}") as bar,
    ):
        own = pathlib.Path(own)
        if isinstance(workers, runners.Beam) and make:
            _write_by_beam(own, family, counts, items, make, workers, staged, missing, bar)
        else:
            _write_here(own, family, counts, items, make, workers, missing, bar)
    info = {
        "family": family,
        "counts": list(counts),
        "facts": facts() if callable(facts) else facts,
    }
    write_atomic(directory / "family.json", sealed(info))


def help_write_family(directory, family, counts, items, worker, workers):
    """One of several workers' part in writing a family: every shard that nobody has made yet.

    Each begins at another shard and goes round. Nobody waits, so nobody waits for a worker that
    died; at worst the last shards are made twice. Afterwards the chief's `write_family` finds
    every shard and concludes.

    Args:
      items: as `write_family`'s; the items are the rows.
      worker, workers: index and number.
    """
    directory = pathlib.Path(directory)
    own = directory.with_name(f"{directory.name}.worker_{worker}")
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    first = worker * len(counts) // workers
    for index in (*range(first, len(counts)), *range(first)):
        if not directory.exists():  # the chief has concluded meanwhile
            break
        if not _is_made(directory, family, index, counts):
            made = (encode(family, row) for row in items(index))
            with contextlib.suppress(FileNotFoundError):
                _publish(own, directory, family, counts, index, made)
    shutil.rmtree(own)


_TRY = "writing-"


def _shard(directory, family, index, counts):
    return directory / shard_name(family, index, len(counts))


def _is_made(directory, family, index, counts):
    """Whether a shard is there as it was written; a machine that stopped may have cut it."""
    try:
        offsets = tfrecord.read_index(_shard(directory, family, index, counts))
    except (OSError, tfrecord.DamagedError):
        return False
    return len(offsets) == counts[index] + 1


def _publish(own, directory, family, counts, index, records):
    """Writes serialised records to a shard, which gets its place when it is whole."""
    path = _shard(own, family, index, counts)
    offsets = tfrecord.write(path, records)
    written = len(offsets) - 1
    if written != counts[index]:
        raise InputError(f"{path.name}: expected {counts[index]} images, got {written}")
    beside = tfrecord.index_path(path)
    tfrecord.write_index(beside, offsets)
    settle(beside)
    settle(path)
    # The index first: a shard that is in its place counts as made, so it must have its index.
    os.replace(beside, directory / beside.name)
    os.replace(path, directory / path.name)


def _record(family, make, item):
    return encode(family, make(item) if make else item)


def _exactly(count, items, name):
    """The items, if they are `count`; the last comes after a look beyond it."""
    found, items = 0, iter(items)
    following = next(items, None)
    while following is not None:
        item, following, found = following, next(items, None), found + 1
        if found == count and following is not None:
            raise InputError(f"{name}: expected {count} images, got more")
        yield item
    if found != count:
        raise InputError(f"{name}: expected {count} images, got {found}")


def _write_here(own, family, counts, items, make, workers, missing, bar):
    def all_items():  # one stream for one pool, whatever the number of shards
        for index in missing:
            yield from _exactly(counts[index], items(index), shard_name(family, index, len(counts)))

    record = functools.partial(_record, family, make)
    stream = runners.ordered_map(record, all_items(), workers if make else 1)
    with contextlib.closing(stream):  # an error ends the pool at once
        for index in missing:

            def shown(index=index):
                for one in itertools.islice(stream, counts[index]):
                    yield one
                    bar.update()

            _publish(own, own.parent, family, counts, index, shown())


def _write_by_beam(own, family, counts, items, make, beam, staged, missing, bar):
    unseen = set(missing)

    def poll():
        for index in sorted(unseen):
            if _shard(own.parent, family, index, counts).exists():
                unseen.remove(index)
                bar.update(counts[index])

    def write(source, indices):
        task = functools.partial(_write_shard, own, family, counts, source, make)
        beam.run(task, indices, poll)
        for error in sorted(own.glob("*.error")):  # a word of Beam's own would be a page
            raise InputError(error.read_text())
        if lost := unseen.intersection(indices):
            raise InputError(f"Beam ended, but {len(lost)} shards of {own.parent} are missing: "
                             "its workers must see this folder")  # fmt: skip

    if not staged:
        if missing:
            write(items, missing)
        return
    size = runners.worker_count(beam)
    for start in range(0, len(missing), size):
        wave = missing[start : start + size]
        for index in wave:
            with open(own / f"{index}.items", "wb") as file:
                for item in items(index):
                    pickle.dump(item, file, pickle.HIGHEST_PROTOCOL)
        write(functools.partial(_unstage, own), wave)
        for index in wave:
            (own / f"{index}.items").unlink()


def _unstage(own, index):
    with open(own / f"{index}.items", "rb") as file, contextlib.suppress(EOFError):
        while True:
            yield pickle.load(file)


def _write_shard(own, family, counts, items, make, index):
    """What a Beam worker does: shard `index`, unless another one met bad input."""
    if any(own.glob("*.error")) or _shard(own.parent, family, index, counts).exists():
        return
    runners.single_thread()
    attempt = pathlib.Path(tempfile.mkdtemp(dir=own))  # Beam may give a shard to two workers
    try:
        made = (_record(family, make, item) for item in items(index))
        _publish(attempt, own.parent, family, counts, index, made)
    except InputError as error:
        write_atomic(own / f"{index:05d}.error", str(error))


def split_counts(images, shards):
    """Images a shard: as even as can be, never an empty shard."""
    shards = min(shards, images)
    return [images // shards + (i < images % shards) for i in range(shards)]
