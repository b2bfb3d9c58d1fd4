"""Exported files as their own runtimes run them."""

import warnings

import pytest

EQUAL = 0.999
"""Least share of equal pixels: floats differ in their last bits, masks where two classes tie."""


def of(kind):
    """`(file's bytes) → (pixels uint8 [B, H, W, 3] → {name: array})`; skips without the package."""
    if kind == "onnx":
        pytest.importorskip("tf2onnx")
    return {"tflite": tflite, "onnx": onnx}[kind]


def tflite(content):
    import tensorflow as tf

    with warnings.catch_warnings():  # it moves to a package of its own, LiteRT
        warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated", UserWarning)
        interpreter = tf.lite.Interpreter(model_content=content)
    runner = interpreter.get_signature_runner("serve")
    return lambda images: runner(images=images)


def onnx(content):
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))
