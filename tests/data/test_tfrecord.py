"""Records written without TensorFlow are TensorFlow's, byte for byte."""

import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf.data import tfrecord

RECORDS = [b"", b"x", bytes(range(256)) * 500]


def _example(cls):
    example = cls()
    features = example.features.feature
    features["text"].bytes_list.value.extend(["é".encode(), b"", b"\0"])
    features["a/number"].int64_list.value.extend([-1, 0, 2**62])
    features["none"].int64_list.value.extend([])
    features["real"].float_list.value.extend([0.5, -1e30])
    return example.SerializeToString(deterministic=True)


def test_examples_are_tensorflow_s():
    ours = _example(tfrecord.Example)
    assert ours == _example(tf.train.Example)
    features = tf.train.Example.FromString(ours).features.feature
    assert list(features["a/number"].int64_list.value) == [-1, 0, 2**62]


def test_files_are_tensorflow_s(tmp_path):
    tfrecord.write(tmp_path / "ours", RECORDS)
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in RECORDS:
            writer.write(record)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert list(tfrecord.read(tmp_path / "theirs")) == RECORDS


def test_no_record_is_an_empty_file(tmp_path):
    assert list(tfrecord.write(tmp_path / "none", [])) == [0]
    assert list(tfrecord.read(tmp_path / "none")) == []


def test_every_damaged_byte_and_every_cut_is_noticed(tmp_path):
    path = tmp_path / "file"
    tfrecord.write(path, [b"first", b"second"])
    whole = path.read_bytes()
    border = 12 + len(b"first") + 4
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(tfrecord.DamagedError):
            list(tfrecord.read(path))
        with pytest.raises(tfrecord.DamagedError):
            list(tfrecord.read_at(path, *((0, border) if place < border else (border, len(whole)))))
        if place not in (0, border):  # a cut between records leaves a shorter file, no damage
            path.write_bytes(whole[:place])
            with pytest.raises(tfrecord.DamagedError):
                list(tfrecord.read(path))


def test_records_are_read_alone_by_their_index(tmp_path):
    path = tmp_path / "records.tfrecord"
    offsets = tfrecord.write(path, RECORDS)
    assert list(tfrecord.scan(path)) == list(offsets)
    tfrecord.write_index(tfrecord.index_path(path), offsets)
    assert list(tfrecord.read_index(path)) == list(offsets)
    for i, record in enumerate(RECORDS):
        assert tfrecord.read_at(path, *offsets[i : i + 2]) == record
    for start, end in ((1, offsets[1]), (0, offsets[1] - 1), (0, offsets[2])):
        with pytest.raises(tfrecord.DamagedError):
            tfrecord.read_at(path, start, end)


def test_a_file_that_does_not_end_where_its_index_does_is_damaged(tmp_path):
    path = tmp_path / "records.tfrecord"
    index, offsets = tfrecord.index_path(path), tfrecord.write(path, RECORDS)
    whole = path.read_bytes()
    for length in (len(whole) - 1, offsets[2], offsets[2] + 5, offsets[2] + 12, 0):
        tfrecord.write_index(index, offsets)
        path.write_bytes(whole[:length])
        with pytest.raises(tfrecord.DamagedError, match="end"):
            tfrecord.read_index(path)
        index.unlink()
        if length in (offsets[2], 0):  # cut between records: a shorter file, no damage
            assert len(tfrecord.read_index(path)) == (3 if length else 1)
            continue
        with pytest.raises(tfrecord.DamagedError):
            tfrecord.read_index(path)
    path.write_bytes(whole)
    for wrong in ([], [1, *offsets[1:]], [0, *offsets[2:0:-1], offsets[3]]):
        tfrecord.write_index(index, np.array(wrong, np.int64))
        with pytest.raises(tfrecord.DamagedError, match="index"):
            tfrecord.read_index(path)
