import multiprocessing
import os
import pathlib
import pickle
import subprocess
import sys

import cv2
import numpy as np
import onnxruntime
import pytest
from conftest import disk, jpeg, write_onnx

from aepsl_tf.data import encoding
from aepsl_tf.errors import InputError
from data_prep.saliency import drfi, methods

ROOT = pathlib.Path(__file__).parents[2]
CLASSICAL = [methods.spectral_residual, methods.fine_grained]


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def one_map(image):
    """What the ReduceSumSquare network makes of an image at its own size."""
    scaled = (image / image.max() - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    energy = (scaled**2).sum(-1)
    return (energy - energy.min()) / (energy.max() - energy.min())


def assert_map(saliency, height, width):
    assert saliency.shape == (height, width)
    assert saliency.dtype == np.float32
    assert np.isfinite(saliency).all()
    assert saliency.min() >= 0
    assert saliency.max() <= 1


# ------------------------------------------------------------------------------------ normalize


@pytest.mark.parametrize(
    "values",
    [
        np.array([[-100, 100], [0, 50]], np.int8),  # the extremes' difference overflows the type
        np.array([[0, 40000], [20000, 30000]], np.uint16),
        np.array([[-1, 3], [1, 2]], np.float32),
        1e300 * np.array([[-1, 3], [1, 2]]),
    ],
)
def test_normalize_stretches_linearly(values):
    saliency = methods.normalize(values)
    assert saliency.dtype == np.float32
    np.testing.assert_allclose(saliency, [[0, 1], [0.5, 0.75]], atol=1e-6)


def test_normalize_makes_a_uniform_map_zero():
    assert (methods.normalize(np.full((3, 4), 0.7)) == np.zeros((3, 4))).all()


# ------------------------------------------------------------------------------ classical methods


@pytest.mark.parametrize("method", CLASSICAL)
def test_classical_methods_find_the_disk(method):
    image, inside = disk()
    saliency = method(image)
    assert_map(saliency, 120, 160)
    assert saliency.max() == 1
    assert saliency.min() == 0
    assert saliency[inside].mean() > 2 * saliency[~inside].mean()


@pytest.mark.parametrize("method", CLASSICAL)
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (8, 8), (3, 200), (200, 3)])
def test_classical_methods_take_tiny_and_grey_images(method, size):
    image = noise(*size)
    assert_map(method(image), *size)
    assert_map(method(np.repeat(image[..., :1], 3, -1)), *size)


@pytest.mark.parametrize("method", CLASSICAL)
def test_uniform_image_has_no_saliency(method):
    assert not method(np.full((40, 60, 3), 90, np.uint8)).any()


@pytest.mark.parametrize("method", CLASSICAL)
def test_classical_methods_read_channels_as_rgb(method):
    image, _ = disk()
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(method(image), method(np.repeat(luma[..., None], 3, -1)))


@pytest.mark.parametrize("method", CLASSICAL)
def test_opencv_without_saliency_names_the_package(method, monkeypatch):
    monkeypatch.delattr(cv2, "saliency")
    with pytest.raises(InputError, match="opencv-contrib-python-headless"):
        method(noise(8, 8))


# ------------------------------------------------------------------------------------------ onnx


@pytest.mark.parametrize("shape", [[1, 3, 24, 40], ["n", 3, 24, 40]])
def test_onnx_preprocesses_as_u2net(tmp_path, shape):
    image = noise(24, 40) // 2  # a maximum below 255, so that the division by it shows
    saliency = methods.OnnxSaliency(write_onnx(tmp_path / "m.onnx", shape))(image)
    assert_map(saliency, 24, 40)
    np.testing.assert_allclose(saliency, one_map(image), atol=1e-5)


def test_onnx_runs_open_sizes_at_320(tmp_path):
    saliency = methods.OnnxSaliency(write_onnx(tmp_path / "m.onnx", ["n", 3, "h", "w"]))
    image = noise(320, 320)
    np.testing.assert_allclose(saliency(image), one_map(image), atol=1e-5)
    enlarged = cv2.resize(image, (640, 640), interpolation=cv2.INTER_NEAREST)
    back = cv2.resize(one_map(image), (640, 640), interpolation=cv2.INTER_LINEAR)
    back = (back - back.min()) / (back.max() - back.min())
    np.testing.assert_allclose(saliency(enlarged), back, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (3, 200)])
@pytest.mark.parametrize("make", [noise, lambda h, w: np.zeros((h, w, 3), np.uint8)])
def test_onnx_takes_tiny_and_black_images(tmp_path, make, size):
    saliency = methods.OnnxSaliency(write_onnx(tmp_path / "m.onnx", [1, 3, 24, 40]))
    assert_map(saliency(make(*size)), *size)


def test_onnx_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"no\.onnx.*no such file"):
        methods.OnnxSaliency(str(tmp_path / "no.onnx"))


def test_onnx_file_of_another_kind(tmp_path):
    path = tmp_path / "text.onnx"
    path.write_text("not a model\nat all")
    with pytest.raises(InputError, match=r"text\.onnx: cannot be loaded") as error:
        methods.OnnxSaliency(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "shape, element_type",
    [
        ([1, 24, 40, 3], 1),
        ([1, 1, 24, 40], 1),
        ([3, 24, 40], 1),
        ([2, 3, 24, 40], 1),
        ([1, 3, 24, 40], 11),  # float64
    ],
)
def test_onnx_input_that_takes_no_image(tmp_path, shape, element_type):
    path = write_onnx(tmp_path / "m.onnx", shape, "Identity", element_type)
    with pytest.raises(InputError, match=r"m\.onnx: expected one float input \[N, 3, H, W\]"):
        methods.OnnxSaliency(path)


def test_onnx_input_without_a_size(tmp_path):
    path = write_onnx(tmp_path / "m.onnx", [1, 3, 0, 32])
    with pytest.raises(InputError, match="its input is 32 × 0 pixels"):
        methods.OnnxSaliency(path)


def test_onnx_output_that_is_no_map(tmp_path):
    saliency = methods.OnnxSaliency(write_onnx(tmp_path / "m.onnx", [1, 3, 24, 40], "Identity"))
    with pytest.raises(InputError, match=r"expected one map .*\[1, 3, 24, 40\]"):
        saliency(noise(24, 40))


def test_onnx_output_that_is_not_finite(tmp_path):
    # The logarithm of the negative mean that a black image gets.
    saliency = methods.OnnxSaliency(write_onnx(tmp_path / "m.onnx", [1, 3, 24, 40], "ReduceLogSum"))
    with pytest.raises(InputError, match="not finite"):
        saliency(np.zeros((24, 40, 3), np.uint8))


def test_u2netp_finds_the_disk():
    data = os.environ.get("AEPSL_DATA")
    if not data:
        pytest.skip("AEPSL_DATA is not set: no u2netp.onnx")
    image, inside = disk()
    network = methods.OnnxSaliency(str(pathlib.Path(data, "weights", "u2netp.onnx")))
    saliency = network(image)
    assert_map(saliency, 120, 160)
    assert saliency[inside].mean() > 0.8
    assert saliency[~inside].mean() < 0.1
    np.testing.assert_array_equal(saliency, network(image))


# ---------------------------------------------------------------------------------------- folder


def test_folder_reads_8_and_16_bit_pictures_and_arrays(tmp_path):
    ramp = np.arange(12).reshape(3, 4)
    cv2.imwrite(str(tmp_path / "eight.png"), (ramp * 20).astype(np.uint8))
    cv2.imwrite(str(tmp_path / "rgb.png"), np.repeat(ramp[..., None] * 20, 3, -1).astype(np.uint8))
    # Steps of one in 65535 vanish if a reader cuts to 8 bit.
    cv2.imwrite(str(tmp_path / "sixteen.png"), (30000 + ramp).astype(np.uint16))
    np.save(tmp_path / "array.npy", ramp / 7 - 1)
    folder = methods.FolderSaliency(str(tmp_path))
    for image_id in ("eight", "rgb", "sixteen", "array"):
        saliency = folder.map_for(image_id, 3, 4)
        assert saliency.dtype == np.float32
        np.testing.assert_allclose(saliency, ramp / 11, atol=1e-6, err_msg=image_id)


def test_folder_reads_jpeg_and_resizes_bilinearly(tmp_path):
    ramp = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None], 32, 0)
    cv2.imwrite(str(tmp_path / "a.jpg"), ramp, [cv2.IMWRITE_JPEG_QUALITY, 100])
    saliency = methods.FolderSaliency(str(tmp_path)).map_for("a", 64, 128)
    assert_map(saliency, 64, 128)
    np.testing.assert_allclose(saliency, np.tile(np.linspace(0, 1, 128), (64, 1)), atol=0.02)


def test_folder_tells_of_a_map_that_lies_as_the_camera_did(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(methods.logging, "log_first_n", lambda _, text, n, *of: told.append(of))
    cv2.imwrite(str(tmp_path / "a.png"), np.eye(6, 4, dtype=np.uint8))
    folder = methods.FolderSaliency(str(tmp_path))
    folder.map_for("a", 6, 4)
    folder.map_for("a", 8, 12)
    assert not told
    assert_map(folder.map_for("a", 4, 6), 4, 6)
    assert told == [(tmp_path / "a.png", 4, 6, 6, 4)]


def test_folder_missing_map_names_the_files(tmp_path):
    with pytest.raises(InputError, match=r"image x .*x\.png, x\.jpg, x\.npy"):
        methods.FolderSaliency(str(tmp_path)).map_for("x", 3, 4)


def test_folder_missing(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        methods.FolderSaliency(str(tmp_path / "no"))


def png(values):
    return encoding.grey_png(values)


def npy(shape):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    head = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
    return head + header.encode() + np.arange(12.0).tobytes()


@pytest.mark.parametrize(
    "name, write, message",
    [
        ("a.png", lambda p: p.write_bytes(b"junk"), "cannot be read as a picture"),
        ("a.png", lambda p: cv2.imwrite(str(p), noise(3, 4)), "3 channels"),
        ("a.npy", lambda p: p.write_bytes(b"junk"), "cannot be read as a NumPy array"),
        ("a.npy", lambda p: np.save(p, np.array([[{}]]), allow_pickle=True), "cannot be read"),
        ("a.npy", lambda p: np.save(p, np.zeros((3, 4, 1))), r"found float64 \[3, 4, 1\]"),
        ("a.npy", lambda p: np.save(p, np.zeros((0, 4))), r"found float64 \[0, 4\]"),
        ("a.npy", lambda p: np.save(p, np.full((3, 4), np.nan)), "not finite"),
        ("a.npy", lambda p: np.save(p, np.full((3, 4), 1e300)), "not finite in float32"),
        ("a.npy", lambda p: p.write_bytes(npy("(10**6, 10**12)")), "cannot be read as a NumPy"),
        ("a.npy", lambda p: p.write_bytes(npy("(1000000, 1000000000000)")), "are no array"),
        ("a.npy", lambda p: p.write_bytes(npy("(True, 12)")), "cannot be read as a NumPy"),
        ("a.npy", lambda p: p.write_bytes(npy("(3, 4), ")), "cannot be read as a NumPy"),
        ("a.npy", lambda p: p.write_bytes(npy("(" * 5000)), "cannot be read as a NumPy"),
        ("a.npy", lambda p: p.write_bytes(npy("(3, 4)")[:-8]), "are no array"),
        ("a.jpg", lambda p: p.write_bytes(jpeg(noise(30, 40))[:-90]), "cannot be read as a pict"),
        ("a.png", lambda p: p.write_bytes(png(np.eye(9, dtype=np.uint8))[:-10]), "cut off"),
        ("a.png", lambda p: p.write_bytes(b"Pf\n2 1\n-1.0\n" + bytes(8)), "cannot be read as"),
        ("a.png", lambda p: p.mkdir(), "a.png, a.jpg, a.npy"),
    ],
)
def test_folder_bad_maps_name_the_file(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: .*{message}|looked for.*{message}") as error:
        methods.FolderSaliency(str(tmp_path)).map_for("a", 3, 4)
    assert "\n" not in str(error.value)


# ----------------------------------------------------------------------------------------- build


def build_each(tmp_path):
    model = write_onnx(tmp_path / "m.onnx", [1, 3, 24, 40])
    np.save(tmp_path / "a.npy", np.arange(12.0).reshape(3, 4))
    return {
        name: methods.build(name, onnx_model=model, maps_dir=str(tmp_path))
        for name in methods.METHODS
    }


def test_build_gives_each_method(tmp_path):
    image, _ = disk()
    expected = {
        "drfi": methods.normalize(drfi.Drfi.load()(image)),
        "spectral_residual": methods.spectral_residual(image),
        "fine_grained": methods.fine_grained(image),
        "onnx": methods.OnnxSaliency(str(write_onnx(tmp_path / "n.onnx", [1, 3, 24, 40])))(image),
    }
    built = build_each(tmp_path)
    expected["folder"] = methods.FolderSaliency(str(tmp_path)).map_for("a", 120, 160)
    assert built.keys() == expected.keys()
    for name, compute in built.items():
        np.testing.assert_array_equal(compute("a", image), expected[name], err_msg=name)


def test_built_methods_run_in_a_spawned_process(tmp_path):
    image, _ = disk()
    built = list(build_each(tmp_path).values())
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = [pool.apply(compute, ("a", image)) for compute in built]
    for compute, saliency in zip(built, there, strict=True):
        np.testing.assert_array_equal(saliency, compute("a", image))


def test_network_is_loaded_once_per_process_and_not_by_build(tmp_path, monkeypatch):
    loads = []
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda *a, **k: loads.append(1) or real(*a, **k)
    )
    compute = build_each(tmp_path)["onnx"]
    assert not loads
    for _ in range(2):  # a pool pickles the function anew for each task
        pickle.loads(pickle.dumps(compute))("a", noise(8, 8))
    assert len(loads) == 1


def test_build_rejects_bad_settings(tmp_path):
    with pytest.raises(InputError, match=r"'drift'.*spectral_residual, fine_grained, onnx, folder"):
        methods.build("drift")
    with pytest.raises(InputError, match="ONNX model ''"):
        methods.build("onnx")
    with pytest.raises(InputError, match="no such folder"):
        methods.build("folder", maps_dir=str(tmp_path / "no"))


def test_workers_do_not_load_tensorflow():
    code = "import sys, data_prep.saliency.methods; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
