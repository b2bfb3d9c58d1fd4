"""Round trips of every schema, and families that are torn, half written or not aligned."""

import os

import numpy as np
import pytest

from aepsl_tf.data import records, tfrecord
from aepsl_tf.errors import InputError
from aepsl_tf.files import digest


def row(family, number=0):
    """A record with every kind of value, an empty one among the lists."""
    kinds = {
        "text": f"é{number}", "bytes": bytes([0, 255, number]), "int": 7 + number,
        "ints": list(range(number)), "bytes_list": [b"\x00a", b""][: number + 1],
    }  # fmt: skip
    values = {name: kinds[kind] for name, kind in records.SCHEMAS[family].items()}
    return values | {"image/id": f"é{number}"}


def write(directory, family="masks", counts=(2, 1), first=0):
    directory.mkdir(exist_ok=True)
    starts = np.cumsum([0, *counts])

    def rows(shard):
        return [row(family, first + i) for i in range(starts[shard], starts[shard + 1])]

    records.write_family(directory, family, counts, rows)
    return records.Family(directory)


@pytest.mark.parametrize("family", records.SCHEMAS)
@pytest.mark.parametrize("number", [0, 3])
def test_round_trip(family, number):
    values = row(family, number)
    encoded = records.encode(family, values)
    assert records.decode(family, encoded) == values


def test_a_record_of_before_the_scores_is_read_without(monkeypatch):
    values = row("regions", 3)
    before = {k: v for k, v in values.items() if k != "regions/scores"}
    schema = {k: records.SCHEMAS["regions"][k] for k in before}
    with monkeypatch.context() as older:
        older.setitem(records.SCHEMAS, "regions", schema)
        encoded = records.encode("regions", before)
    assert records.decode("regions", encoded) == before | {"regions/scores": []}
    with monkeypatch.context() as other:  # the later field alone does not make it another's
        other.setitem(
            records.SCHEMAS, "masks", records.SCHEMAS["masks"] | {"regions/scores": "ints"}
        )
        encoded = records.encode("masks", row("masks"))
    with pytest.raises(tfrecord.DamagedError, match="no record of masks, but of image/id"):
        records.decode("masks", encoded)


def test_encoding_is_deterministic_whatever_the_order():
    values = row("images", 3)
    turned = dict(reversed(values.items()))
    assert records.encode("images", values) == records.encode("images", turned)


@pytest.mark.parametrize("change", [{"extra": 1}, None])
def test_fields_must_be_the_schema_s(change):
    values = row("masks") | change if change else {"image/id": "a"}
    with pytest.raises(ValueError, match="expected the fields"):
        records.encode("masks", values)


def test_family_reads_in_order(tmp_path):
    family = write(tmp_path / "f", "regions")
    assert (family.name, family.images, family.counts) == ("regions", 3, [2, 1])
    assert list(family.read()) == [row("regions", i) for i in range(3)]
    assert list(family.read(1)) == [row("regions", 2)]


def test_bytes_are_deterministic(tmp_path):
    one, other = write(tmp_path / "a"), write(tmp_path / "b")
    names = sorted(p.name for p in one.directory.iterdir())
    assert names == [
        "family.json", "masks-00000-of-00002.index", "masks-00000-of-00002.tfrecord",
        "masks-00001-of-00002.index", "masks-00001-of-00002.tfrecord",
    ]  # fmt: skip
    for name in names:
        assert (one.directory / name).read_bytes() == (other.directory / name).read_bytes()


def test_finished_shards_are_kept(tmp_path):
    called = []

    def rows(shard):
        called.append(shard)
        if shard == 1 and len(called) == 2:
            raise KeyboardInterrupt
        return [row("masks", shard)]

    with pytest.raises(KeyboardInterrupt):
        records.write_family(tmp_path, "masks", [1, 1, 1], rows)
    first = tmp_path / records.shard_name("masks", 0, 3)
    before = first.stat().st_mtime_ns
    with pytest.raises(InputError, match="writes it first"):
        records.Family(tmp_path)  # not whole yet
    records.write_family(tmp_path, "masks", [1, 1, 1], rows, facts=lambda: {"n": 1})
    assert called == [0, 1, 1, 2]
    assert first.stat().st_mtime_ns == before
    family = records.Family(tmp_path)
    assert family.facts == {"n": 1}
    assert [r["image/id"] for r in family.read()] == ["é0", "é1", "é2"]


@pytest.mark.parametrize("damage", [b"", b"half"])
def test_a_shard_that_a_machine_cut_is_made_again(tmp_path, damage):
    whole = write(tmp_path / "whole", counts=(1, 1))

    def rows(shard):
        if shard == 1:
            raise KeyboardInterrupt
        return [row("masks", shard)]

    folder = tmp_path / "cut"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        records.write_family(folder, "masks", [1, 1], rows)
    (folder / records.shard_name("masks", 0, 2)).write_bytes(damage)
    records.write_family(folder, "masks", [1, 1], lambda shard: [row("masks", shard)])
    assert [r["image/id"] for r in records.Family(folder).read()] == ["é0", "é1"]
    assert digest(folder) == digest(whole.directory)


def test_a_shard_with_too_few_images_is_not_published(tmp_path):
    with pytest.raises(InputError, match="expected 2 images, got 1"):
        records.write_family(tmp_path, "masks", [2], lambda shard: [row("masks")])
    assert not (tmp_path / records.shard_name("masks", 0, 1)).exists()


def test_every_record_is_read_alone(tmp_path, monkeypatch):
    family = write(tmp_path / "f", "regions", (3, 1, 2))
    rows = list(family.read())
    monkeypatch.setattr(tfrecord, "scan", None)  # the shards have their indexes
    assert [family.at(i) for i in (5, 0, 3, 2, 4, 1)] == [rows[i] for i in (5, 0, 3, 2, 4, 1)]
    for beyond in (-1, 6):
        with pytest.raises(IndexError, match=str(family.directory)):
            family.at(beyond)


def test_a_family_without_indexes_is_scanned_once_and_left_as_it_is(tmp_path, monkeypatch):
    family = write(tmp_path / "f", counts=(3, 2))
    rows = list(family.read())
    for index in family.directory.glob("*.index"):
        index.unlink()
    files, scanned, scan = sorted(family.directory.iterdir()), [], tfrecord.scan

    def counting(path):
        scanned.append(path)
        return scan(path)

    monkeypatch.setattr(tfrecord, "scan", counting)
    assert [family.at(i) for i in range(5)] + [family.at(0)] == [*rows, rows[0]]
    assert scanned == family.shards()
    assert sorted(family.directory.iterdir()) == files


def test_a_shard_in_its_place_has_its_index(tmp_path, monkeypatch):
    """Killed between the two renames, the shard is made again."""
    replace = os.replace

    def killed(source, target):
        if str(target).endswith("00001-of-00003.tfrecord"):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "killed", counts=(1, 1, 1))
    monkeypatch.undo()
    shards = {p.stem for p in (tmp_path / "killed").glob("*.tfrecord")}
    assert shards == {"masks-00000-of-00003"}
    assert shards <= {p.stem for p in (tmp_path / "killed").glob("*.index")}
    again, whole = (
        write(tmp_path / "killed", counts=(1, 1, 1)),
        write(tmp_path / "w", counts=[1] * 3),
    )
    assert digest(again.directory) == digest(whole.directory)
    assert [again.at(i) for i in range(3)] == list(whole.read())


def test_damaged_shards_are_refused(tmp_path):
    family = write(tmp_path / "f")
    path = family.directory / records.shard_name("masks", 0, 2)
    data = path.read_bytes()
    half = len(data) // 2  # both records are of one length: this cuts between them
    for damaged in (data[:-5], data[: half + 20], data[:half], b"", data[:20] + b"?" + data[21:]):
        path.write_bytes(damaged)
        for read in (lambda: list(family.read()), lambda: records.Family(tmp_path / "f").at(0)):
            with pytest.raises(InputError, match="damaged") as caught:
                read()
            assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    path.unlink()
    for read in (lambda: list(family.read()), lambda: family.at(1)):
        with pytest.raises(InputError, match="missing or damaged"):
            read()


def test_a_cut_shard_without_an_index_is_refused(tmp_path):
    family = write(tmp_path / "f", counts=(2, 2))
    path = family.directory / records.shard_name("masks", 1, 2)
    tfrecord.index_path(path).unlink()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # between the two
    assert family.at(1) == row("masks", 1)
    with pytest.raises(InputError, match=r"00001-of-00002.* damaged, 1 of 2 images"):
        family.at(2)


def test_missing_family_is_named(tmp_path):
    with pytest.raises(InputError, match=f"{tmp_path}.* holds no record family"):
        records.Family(tmp_path / "none")


def test_zipped_families_merge(tmp_path):
    families = [write(tmp_path / "a", "images"), write(tmp_path / "b", "masks")]
    rows = list(records.read_zipped(families))
    assert rows == [row("images", i) | row("masks", i) for i in range(3)]
    assert [records.zipped_at(families, i) for i in range(3)] == rows


@pytest.mark.parametrize("changes", [{"first": 1}, {"counts": (2,)}, {"counts": (2, 2)}])
def test_families_that_are_not_aligned_are_refused(tmp_path, changes):
    families = [write(tmp_path / "a", "images"), write(tmp_path / "b", **changes)]
    with pytest.raises(InputError, match="not aligned"):
        list(records.read_zipped(families))


@pytest.mark.parametrize("changes", [{"first": 1}, {"counts": (2,)}])
def test_single_records_that_are_not_aligned_are_refused(tmp_path, changes):
    families = [write(tmp_path / "a", "images"), write(tmp_path / "b", **changes)]
    with pytest.raises(InputError, match=rf"{tmp_path / 'b'} is not aligned .* beside é2"):
        records.zipped_at(families, 2)


@pytest.mark.parametrize(
    ("images", "shards", "counts"),
    [(10, 4, [3, 3, 2, 2]), (8, 4, [2] * 4), (3, 4, [1] * 3), (1, 1, [1])],
)
def test_split_counts(images, shards, counts):
    assert records.split_counts(images, shards) == counts


def test_split_counts_is_even_and_never_empty():
    for images in range(1, 30):
        for shards in range(1, 9):
            counts = records.split_counts(images, shards)
            assert sum(counts) == images
            assert min(counts) >= 1 and max(counts) - min(counts) <= 1
