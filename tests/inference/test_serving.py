"""What is exported, as others run it: TensorFlow Serving's files and requests, TFLite, ONNX."""

import base64
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import types
import urllib.error
import urllib.request

import numpy as np
import pytest
import rest_server
import running
import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from inference.test_predictor import pictures, segmenter
from PIL import Image
from tensorflow.core.framework import tensor_pb2

from aepsl_tf import config as configs
from aepsl_tf.data import encoding, tfrecord
from aepsl_tf.errors import InputError
from aepsl_tf.inference import serving
from aepsl_tf.inference.predictor import Predictor
from aepsl_tf.models import model_dir

CLIENT = pathlib.Path(serving.__file__).parents[2] / "examples/segment.py"

# ------------------------------------------------------------------------------------------- REST


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A served model: its folder, its URL, itself, and the predictor that it was exported from."""
    folder, base_path = tmp_path_factory.mktemp("model"), tmp_path_factory.mktemp("served") / "psl"
    model_dir.save(segmenter(), [], folder)
    settings = configs.Export(model="psl", p=0.3, max_pixels=4000)
    serving.write(folder, base_path, settings)
    predictor = Predictor(model_dir.load(folder), settings)
    with rest_server.serving(base_path) as (url, model):
        yield types.SimpleNamespace(base_path=base_path, url=url, model=model, predictor=predictor)


@pytest.fixture(scope="module")
def client():
    """examples/segment.py as a module."""
    module = types.ModuleType("segment")
    exec(compile(CLIENT.read_text(), str(CLIENT), "exec"), module.__dict__)
    return module


def asked(url, body):
    """(status, answer) to a request's JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_server_as_a_command(served, client):
    """Started on a folder, it says its URL and serves, bit for bit, without this package."""
    command = [sys.executable, rest_server.__file__, str(served.base_path), "0"]
    env = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    shown = list(pictures(50, 75, count=4))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as server:
        try:
            url = re.search(r"http://\S+", server.stdout.readline())[0]
            answers = [client.segment(url, [encoding.rgb_png(one)])[0] for one in shown]
        finally:
            server.terminate()
    for picture, found in zip(shown, answers, strict=True):
        expected = served.predictor.segment(tf.constant(picture)[None])
        np.testing.assert_array_equal(found["mask"], expected["mask"][0])
        np.testing.assert_array_equal(np.float32(found["scores"]), expected["scores"][0])


SIZES = (33, 33), (20, 41), (1, 1), (64, 48)


def drawn():
    """(pixels, PNG) of pictures of different sizes."""
    images = [pictures(*size, seed=i)[0] for i, size in enumerate(SIZES)]
    return images, [encoding.rgb_png(image) for image in images]


def test_the_client_gets_the_masks_of_pictures_of_any_sizes(served, client):
    images, files = drawn()
    found = client.segment(served.url, files)
    for image, one in zip(images, found, strict=True):
        expected = served.predictor.segment(image[None])
        np.testing.assert_array_equal(one["mask"], expected["mask"][0])
        np.testing.assert_allclose(one["scores"], expected["scores"][0], rtol=1e-6)
    assert len({id_ for one in found for row in one["mask"] for id_ in row}) > 2


def test_the_client_tells_what_the_server_refuses(served, client):
    _, files = drawn()
    with pytest.raises(ValueError, match="picture 1 of the batch, from 0: no JPEG"):
        client.segment(served.url, [files[0], b"no picture"])


def test_a_picture_larger_than_the_limit_is_refused(served, client):
    file = io.BytesIO()
    Image.new("RGB", (80, 51)).save(file, "JPEG")
    with pytest.raises(ValueError, match="picture 0 of the batch, from 0: it has more than 4000"):
        client.segment(served.url, [file.getvalue()])


def test_the_client_s_command_line(served, tmp_path):
    (tmp_path / "a.png").write_bytes(drawn()[1][1])
    command = [sys.executable, "-I", str(CLIENT), served.url, str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "a.png: 41 × 20, 0: " in done.stdout
    assert subprocess.run(command[:3], capture_output=True, timeout=60).returncode == 1


def test_rows_and_columns_say_the_same(served):
    _, files = drawn()
    coded = [{"b64": base64.b64encode(file).decode()} for file in files]
    url = f"{served.url}:predict"
    body = {"signature_name": "serve_bytes", "instances": [{"encoded": one} for one in coded]}
    status, rows = asked(url, body)
    assert status == 200
    status, columns = asked(url, {"signature_name": "serve_bytes", "inputs": {"encoded": coded}})
    assert status == 200 and columns["outputs"].keys() == {"mask", "size", "scores"}
    for name, column in columns["outputs"].items():
        assert column == [row[name] for row in rows["predictions"]]
    mask = np.array(columns["outputs"]["mask"])
    assert mask.shape == (4, 64, 48) and columns["outputs"]["size"] == [list(s) for s in SIZES]
    for one, (height, width) in zip(mask, SIZES, strict=True):
        assert (one[height:] == 255).all() and (one[:, width:] == 255).all()
        assert (one[:height, :width] < 4).all()


def test_pixels_are_the_default_signature(served):
    images = pictures(20, 41, 2)
    status, answer = asked(f"{served.url}:predict", {"instances": images.tolist()})
    assert status == 200
    for image, one in zip(images, answer["predictions"], strict=True):
        assert one.keys() == {"mask", "probabilities", "scores"}
        expected = served.predictor.segment(image[None])["mask"][0]
        assert np.mean(np.array(one["mask"]) == expected) > 0.99


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "JSON Parse error"),
        ({"signature_name": "other", "instances": []}, 400, '"other" not found'),
        ({"signature_name": "serve_bytes"}, 400, "one of 'instances' and 'inputs'"),
        ({"signature_name": "serve_bytes", "instances": [{"b64": "aGVsbG8="}]}, 400,
         "picture 0 of the batch, from 0: no JPEG, PNG, WebP or BMP"),
        ({"instances": "text"}, 400, "does not match"),
    ],
)  # fmt: skip
def test_errors_are_told_as_json(served, body, status, words):
    found, answer = asked(f"{served.url}:predict", body)
    assert found == status and words in answer["error"]


# ---------------------------------------------------------------------------------------- warm-up


def prediction_log_class():
    """`PredictionLog`, from the field numbers of tensorflow_serving/apis (prediction_log.proto,
    predict.proto, model.proto), tensors as bytes.
    """
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto3")
    for name, *fields in (
        ("ModelSpec", ("name", 1, field.TYPE_STRING), ("signature_name", 3, field.TYPE_STRING)),
        ("PredictRequest", ("model_spec", 1, "ModelSpec"), ("inputs", 2, "PredictRequest.Inputs")),
        ("PredictLog", ("request", 1, "PredictRequest")),
        ("PredictionLog", ("predict_log", 6, "PredictLog")),
    ):
        message = file.message_type.add(name=name)
        for given, number, kind in fields:
            named = isinstance(kind, str)
            message.field.add(
                name=given, number=number, type_name=f".t.{kind}" if named else None,
                type=field.TYPE_MESSAGE if named else kind,
                label=field.LABEL_REPEATED if given == "inputs" else field.LABEL_OPTIONAL,
            )  # fmt: skip
    entry = file.message_type[1].nested_type.add(name="Inputs")
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=field.TYPE_BYTES, label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.PredictionLog"))


def test_the_warm_up_s_requests_are_tensorflow_serving_s_and_run(served):
    path = served.base_path / "1/assets.extra/tf_serving_warmup_requests"
    signatures = []
    for record in tfrecord.read(path):
        log = prediction_log_class().FromString(record)
        assert log.SerializeToString(deterministic=True) == record  # nothing that is unknown
        request = log.predict_log.request
        assert request.model_spec.name == "psl"
        (given,) = request.inputs
        tensor = tf.make_ndarray(tensor_pb2.TensorProto.FromString(given.value))
        signature = served.model.signatures[request.model_spec.signature_name]
        out = signature(**{given.key: tf.constant(tensor)})
        assert out["mask"].shape == (1, 33, 33)
        signatures.append(request.model_spec.signature_name)
    assert signatures == ["serve", "serve_bytes"]


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 20_000, 3_000_000])
def test_lengths_of_any_size_are_written(size):
    tensor = np.zeros([size], np.uint8)
    record = serving.prediction_log("m", "serve", "images", tensor)
    (given,) = prediction_log_class().FromString(record).predict_log.request.inputs
    found = tf.make_ndarray(tensor_pb2.TensorProto.FromString(given.value))
    np.testing.assert_array_equal(found, tensor)


# -------------------------------------------------------------------------------- TFLite and ONNX

TEN = (
    (33, 33),
    (20, 41),
    (1, 1),
    (7, 5),
    (64, 48),
    (100, 75),
    (33, 120),
    (81, 81),
    (90, 70),
    (9, 200),
)


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
@pytest.mark.parametrize(("mode", "psl"), [("crop", "full"), ("warp", "none")])
def test_other_formats_give_the_same_masks(kind, mode, psl, tmp_path):
    runtime = running.of(kind)
    model_dir.save(segmenter(input=mode, psl=psl), [], tmp_path)
    settings = configs.Export(p=0.3, format=kind)
    serving.write(tmp_path, tmp_path / "file", settings)
    run, seen = runtime((tmp_path / "file").read_bytes()), set()
    predictor = Predictor(model_dir.load(tmp_path), settings)
    for index, size in enumerate(TEN):
        images = pictures(*size, seed=index)
        expected, found = predictor.segment(images), run(images)
        assert found.keys() == expected.keys()
        assert found["mask"].dtype == np.uint8
        assert np.mean(found["mask"] == expected["mask"]) >= running.EQUAL
        for name in expected.keys() - {"mask"}:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-5)
        seen |= set(np.unique(found["mask"]))
    assert len(seen) > 2
    batch = pictures(20, 41, 3)
    found = run(batch)["mask"]
    assert np.mean(found == predictor.segment(batch)["mask"]) >= running.EQUAL


def test_half_precision_becomes_float32_where_a_format_knows_no_other(tmp_path):
    model_dir.save(segmenter(precision="mixed_bfloat16"), [], tmp_path)
    serving.write(tmp_path, tmp_path / "file", configs.Export(format="tflite"))
    assert running.tflite((tmp_path / "file").read_bytes())(pictures(20, 41))["mask"].any()


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    model_dir.save(segmenter(), [], tmp_path)
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(InputError, match=r"pip install 'aepsl-tf\[onnx\]'"):
        serving.write(tmp_path, tmp_path / "file", configs.Export(format="onnx"))
