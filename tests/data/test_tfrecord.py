"""Records written without TensorFlow are TensorFlow's, byte for byte."""

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
    assert tfrecord.write(tmp_path / "ours", RECORDS) == 3
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in RECORDS:
            writer.write(record)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert list(tfrecord.read(tmp_path / "theirs")) == RECORDS


def test_no_record_is_an_empty_file(tmp_path):
    assert tfrecord.write(tmp_path / "none", []) == 0
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
        if place not in (0, border):  # a cut between records leaves a shorter file, no damage
            path.write_bytes(whole[:place])
            with pytest.raises(tfrecord.DamagedError):
                list(tfrecord.read(path))
