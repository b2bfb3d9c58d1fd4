"""A segmenter as others run it: a SavedModel for TensorFlow Serving, a TFLite or an ONNX file."""

import graphlib
import hashlib
import tempfile

import numpy as np
import tensorflow as tf

from aepsl_tf.classes import VOID
from aepsl_tf.data import decoding, tfrecord
from aepsl_tf.errors import InputError
from aepsl_tf.inference.predictor import Predictor
from aepsl_tf.models import model_dir

VERSION = "1"
"""The folder below the servable's base path: TensorFlow Serving takes the highest number."""


def write(model_folder, output, settings):
    """Writes the model in a folder as --format says.

    Args:
      model_folder: what `model_dir.save` wrote.
      output: the servable's base path or, for a file, that file.
      settings: a `config.Export`.
    """
    if settings.format == "saved_model":
        _save(model_folder, output / VERSION, settings)
    else:
        convert = {"tflite": _to_tflite, "onnx": _to_onnx}[settings.format]
        # Neither knows bfloat16.
        model = model_dir.load(model_folder, precision="float32")
        output.write_bytes(convert(Predictor(model, settings, portable=True)))


# ------------------------------------------------------------------------------------ SavedModel


def _save(model_folder, folder, settings):
    predictor = Predictor(model_dir.load(model_folder), settings)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def serve_bytes(encoded):
        return _of_files(predictor, encoded, settings.max_pixels)

    # Loaded, the model has both as methods; as signatures they take and give names.
    served = tf.Module()
    served.serve, served.serve_bytes = predictor.segment, serve_bytes
    serve = predictor.segment.get_concrete_function()
    # Not by keras.export.ExportArchive: it lists variables in the order of their addresses.
    tf.saved_model.save(
        served, str(folder),
        {"serve": serve, "serve_bytes": serve_bytes, "serving_default": serve},
    )  # fmt: skip
    (folder / "fingerprint.pb").unlink()  # optional, and holds a random number
    extra = folder / "assets.extra"
    extra.mkdir(exist_ok=True)
    grey = np.full([1, *2 * [predictor.model.config.input_size], 3], 127, np.uint8)
    requests = [("serve", "images", grey),
                ("serve_bytes", "encoded", [tf.io.encode_jpeg(grey[0]).numpy()])]  # fmt: skip
    tfrecord.write(
        extra / "tf_serving_warmup_requests",
        [prediction_log(settings.model, *request) for request in requests],
    )


def _of_files(predictor, encoded, max_pixels):
    """Encoded pictures, string `[B]`, of any sizes → {"mask" uint8 `[B, H, W]`, "size" int32
    `[B, 2]`} and, with a classification branch, {"scores" float32 `[B, C]`}.

    H and W are the largest of the batch's; below and to the right of a picture of `size`
    (height, width) its mask is filled up with VOID.
    """
    outputs = {"mask": tf.RaggedTensorSpec([None, None], tf.uint8, ragged_rank=1),
               "size": tf.TensorSpec([2], tf.int32)}  # fmt: skip
    if predictor.model.has_scores:
        outputs["scores"] = tf.TensorSpec([predictor.model.num_classes], tf.float32)

    def one(index):
        # One by one, so that a mask does not depend on what else is in the batch.
        name = tf.strings.format("picture {} of the batch, from 0", index)
        picture = decoding.decode_file(encoded[index], name, max_pixels)
        made = predictor.segment(picture[None])
        made = {name: made[name][0] for name in outputs if name != "size"}
        size = tf.shape(made["mask"])
        return made | {"mask": tf.RaggedTensor.from_tensor(made["mask"]), "size": size}

    made = tf.map_fn(one, tf.range(tf.size(encoded)), fn_output_signature=outputs,
                     parallel_iterations=1)  # fmt: skip
    return made | {"mask": made["mask"].to_tensor(np.uint8(VOID))}


def prediction_log(model, signature, name, value):
    """A request of TensorFlow Serving as its warm-up file has it, serialised.

    A `tensorflow.serving.PredictionLog` of tensorflow_serving/apis/prediction_log.proto. Written
    by hand, for that package need not be here: what is written is messages within messages.
    """
    tensor = tf.make_tensor_proto(value).SerializeToString(deterministic=True)
    spec = _message(1, model.encode()) + _message(3, signature.encode())  # ModelSpec
    entry = _message(1, name.encode()) + _message(2, tensor)  # of the map PredictRequest.inputs
    request = _message(1, spec) + _message(2, entry)  # PredictRequest
    return _message(6, _message(1, request))  # PredictionLog.predict_log, PredictLog.request


def _message(number, content):
    """A field of a protocol buffer: its number and type, its length, its bytes."""
    length, bytes_ = len(content), bytearray([number << 3 | 2])
    while length > 0x7F:
        bytes_.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(bytes_) + bytes([length]) + content


# -------------------------------------------------------------------------------- TFLite and ONNX


def _to_tflite(predictor):
    """The bytes of a TFLite file with the signature `serve`, of any batch and size."""
    with tempfile.TemporaryDirectory() as folder:
        served = tf.Module()
        served.serve = predictor.segment
        tf.saved_model.save(served, folder, {"serve": predictor.segment.get_concrete_function()})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"])
        return converter.convert()


def _to_onnx(predictor):
    """The bytes of an ONNX file of any batch and size."""
    try:
        import tf2onnx
    except ImportError as error:
        raise InputError(
            f"--format=onnx needs tf2onnx ({error}): pip install 'aepsl-tf[onnx]'"
        ) from None

    model, _ = tf2onnx.convert.from_function(
        tf.function(predictor.segment.python_function, autograph=False),
        input_signature=predictor.segment.input_signature,
        opset=17,
    )
    for node in model.graph.node:
        if node.op_type == "Conv":
            _pad_explicitly(node)
    _rename(model.graph)
    return model.SerializeToString(deterministic=True)


def _rename(graph):
    """Orders nodes and constants by what they compute and names values by their first use: tf2onnx
    does both by addresses in memory, each time anew.
    """
    _order(graph)
    kept = [one.name for one in (*graph.input, *graph.output)]
    names = dict(zip(kept, kept, strict=True)) | {"": ""}  # an input that is left out has no name
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        for values in (node.input, node.output):
            for index, name in enumerate(values):
                values[index] = names.setdefault(name, f"value_{len(names)}")
    for one in (*graph.initializer, *graph.value_info):
        one.name = names.get(one.name, one.name)
    for some in (graph.initializer, graph.value_info):
        some.sort(key=lambda one: one.name)


def _order(graph):
    """Sorts the nodes: none before what it takes, else by all that they are computed by."""

    def told(*parts):
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    known = {one.name: one.name for one in graph.input} | {"": ""}
    for one in graph.initializer:
        unnamed = type(one)()
        unnamed.CopyFrom(one)
        unnamed.name = ""
        known[one.name] = told(unnamed.SerializeToString(deterministic=True))
    for node in graph.node:
        node.attribute.sort(key=lambda attribute: attribute.name)
    nodes, ordered = dict(enumerate(graph.node)), []
    makers = {name: number for number, node in nodes.items() for name in node.output}
    sorter = graphlib.TopologicalSorter(
        {number: [makers[name] for name in node.input if name in makers]
         for number, node in nodes.items()}
    )  # fmt: skip
    sorter.prepare()
    while sorter.is_active():
        ready = {}
        for number in sorter.get_ready():
            node = nodes[number]
            what = [a.SerializeToString(deterministic=True) for a in node.attribute]
            ready[number] = told(node.op_type, what, [known[name] for name in node.input])
        for number in sorted(ready, key=ready.get):
            outputs = enumerate(nodes[number].output)
            known |= {name: told(ready[number], index) for index, name in outputs}
            ordered.append(nodes[number])
        sorter.done(*ready)
    copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)


def _pad_explicitly(node):
    """In place of SAME, which ONNX Runtime has for dilated convolutions not: the same zeros.

    All convolutions here have odd kernels and the stride 1.
    """
    given = {attribute.name: attribute for attribute in node.attribute}
    if given.get("auto_pad") is None or given["auto_pad"].s != b"SAME_UPPER":
        return
    pads = [d * (k - 1) // 2 for d, k in
            zip(given["dilations"].ints, given["kernel_shape"].ints, strict=True)]  # fmt: skip
    node.attribute.remove(given["auto_pad"])
    node.attribute.add(name="pads", type=type(given["dilations"]).INTS, ints=[*pads, *pads])
