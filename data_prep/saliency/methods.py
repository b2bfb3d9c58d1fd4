"""Saliency maps: DRFI, two classical methods, any ONNX network, or a folder of maps.

Every map is float32 `[H, W]` in [0, 1], as large as its image: 0 is the least and 1 the most
salient pixel of that image ("normalized saliency value", §4.1). Pool workers import this module, so
it stays free of TensorFlow.
"""

import contextlib
import functools
import io
import math
import os
import pathlib
import warnings

import cv2
import numpy as np
from absl import logging

from aepsl_tf.data import encoding
from aepsl_tf.errors import InputError
from data_prep.saliency import drfi

METHODS = ("drfi", "spectral_residual", "fine_grained", "onnx", "folder")

_DYNAMIC_SIDE = 320
"""Input side for networks that leave it open; U-2-Net and its kin are trained at 320."""
_LARGEST_SIDE = 4096
_IMAGENET_MEAN = np.float32([0.485, 0.456, 0.406])
_IMAGENET_STD = np.float32([0.229, 0.224, 0.225])


def normalize(saliency):
    """Stretches a map to [0, 1]: finite numbers `[H, W]` -> float32 `[H, W]`, all 0 if uniform."""
    # Float64 keeps the difference of two extremes exact whatever the input type is.
    saliency = np.asarray(saliency, np.float64)
    low, high = saliency.min(), saliency.max()
    if low == high:
        return np.zeros(saliency.shape, np.float32)
    return ((saliency - low) / (high - low)).astype(np.float32)


def spectral_residual(image):
    """What is unusual in the log spectrum (Hou & Zhang, CVPR 2007), seen at 64×64 pixels.

    uint8 RGB `[H, W, 3]` -> float32 `[H, W]` in [0, 1].
    """
    return _opencv_saliency("StaticSaliencySpectralResidual_create", image)


def fine_grained(image):
    """Centre-surround contrast at full resolution (Montabone & Soto, IVC 2010).

    uint8 RGB `[H, W, 3]` -> float32 `[H, W]` in [0, 1].
    """
    return _opencv_saliency("StaticSaliencyFineGrained_create", image)


def _opencv_saliency(factory, image):
    if not hasattr(cv2, "saliency"):
        raise InputError(
            f"OpenCV {cv2.__version__} has no saliency module; replace the installed opencv "
            "package by opencv-contrib-python-headless"
        )
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)  # both methods look at intensity alone
    if grey.min() == grey.max():
        # The spectrum of a constant is rounding noise, which `normalize` would blow up to [0, 1].
        return np.zeros(grey.shape, np.float32)
    done, saliency = getattr(cv2.saliency, factory)().computeSaliency(grey)
    if not done:
        raise InputError(
            f"OpenCV {cv2.__version__}: {factory} failed on a {grey.shape[1]}×{grey.shape[0]} "
            "image; reinstall opencv-contrib-python-headless"
        )
    return normalize(saliency)


class OnnxSaliency:
    """A salient-object network in ONNX form, for example U-2-Net (Qin et al., PR 2020).

    The network takes one float32 input `[N, 3, h, w]`: RGB divided by the image's maximum, then
    ImageNet's mean and deviation, as U-2-Net is fed. Sides that are left open become 320. Its first
    output is the map, `[1, 1, h', w']` or the same without the ones, larger meaning more salient.
    """

    def __init__(self, model_path):
        import onnxruntime

        self._path = _existing_model(model_path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # worker processes share the cores among them
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.log_severity_level = 4  # what goes wrong is raised, once, in our words
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # where it prints of its next try
                self._session = onnxruntime.InferenceSession(
                    self._path, options, providers=["CPUExecutionProvider"]
                )
        except Exception as error:  # onnxruntime's errors have no base class of their own
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"{self._path}: cannot be loaded as an ONNX model ({reason}); give a salient-"
                "object network exported to ONNX, such as u2netp.onnx"
            ) from error

        inputs = self._session.get_inputs()
        if not (len(inputs) == 1 and _is_image_batch(inputs[0])):
            found = ", ".join(f"{i.type} {i.shape}" for i in inputs)
            raise InputError(
                f"{self._path}: expected one float input [N, 3, H, W] that admits N = 1, found "
                f"{found}; export the network for one RGB image, channels first"
            )
        if not (outputs := self._session.get_outputs()):
            raise InputError(f"{self._path}: the network has no output; export it again")
        self._input, self._output = inputs[0].name, outputs[0].name
        # Open dimensions come as names or None.
        self._size = tuple(d if isinstance(d, int) else _DYNAMIC_SIDE for d in inputs[0].shape[2:])
        if not all(0 < side <= _LARGEST_SIDE for side in self._size):
            raise InputError(
                f"{self._path}: its input is {self._size[1]} × {self._size[0]} pixels: export the "
                f"network for 1 to {_LARGEST_SIDE} a side"
            )

    def __call__(self, image):
        """uint8 RGB `[H, W, 3]` -> float32 `[H, W]` in [0, 1], resized bilinearly."""
        small = _resize(image, *self._size).astype(np.float32)
        small = (small / max(small.max(), 1) - _IMAGENET_MEAN) / _IMAGENET_STD
        batch = np.ascontiguousarray(small.transpose(2, 0, 1)[np.newaxis])
        try:
            output = self._session.run([self._output], {self._input: batch})[0]
        except Exception as error:  # as above
            reason = str(error).partition("\n")[0]
            raise InputError(f"{self._path}: cannot be run ({reason}); export it again") from error
        saliency = output.reshape(output.shape[-2:]) if _is_one_map(output) else None
        if saliency is None:
            raise InputError(
                f"{self._path}: expected one map [1, 1, h, w] as first output, found "
                f"{list(np.shape(output))}; export the network with its fused saliency map first"
            )
        if not np.isfinite(saliency).all():
            raise InputError(
                f"{self._path}: the network's map holds values that are not finite; export it again"
            )
        return normalize(_resize(saliency.astype(np.float32), *image.shape[:2]))


def _existing_model(path):
    if not pathlib.Path(path).is_file():
        raise InputError(
            f"ONNX model {str(path)!r}: no such file; give the path of a salient-object network, "
            "such as u2netp.onnx"
        )
    return str(path)


def _is_image_batch(tensor):
    shape = tensor.shape
    return (
        tensor.type == "tensor(float)"
        and len(shape) == 4
        and shape[1] == 3
        and (shape[0] == 1 or not isinstance(shape[0], int))
    )


def _is_one_map(output):
    return np.ndim(output) >= 2 and output.size and output.size == np.prod(output.shape[-2:])


def _resize(array, height, width):
    """Bilinear; the array itself where the size is right already."""
    if array.shape[:2] == (height, width):
        return array
    return cv2.resize(array, (width, height), interpolation=cv2.INTER_LINEAR)


class FolderSaliency:
    """Maps made elsewhere: `ID.png`, `ID.jpg` or `ID.npy` in one folder, the first of these found.

    Pictures are grey, 8 or 16 bit; arrays hold finite real numbers `[h, w]`. Larger means more
    salient. A map of another size than its image is resized bilinearly.
    """

    SUFFIXES = (".png", ".jpg", ".npy")

    def __init__(self, maps_dir):
        self._dir = pathlib.Path(maps_dir)
        if not maps_dir:
            raise InputError("--method=folder needs --maps_dir=FOLDER, which holds a map per image")
        if not self._dir.is_dir():
            raise InputError(
                f"saliency maps {str(maps_dir)!r}: no such folder; give the folder that holds one "
                "map per image"
            )

    def name_of(self, image_id):
        """The file of an image's map, relative to the folder, or None."""
        names = (image_id + suffix for suffix in self.SUFFIXES)
        return next((name for name in names if os.path.isfile(self._dir / name)), None)

    def map_for(self, image_id, height, width):
        """float32 `[height, width]` in [0, 1], stretched like every other method's map."""
        name = self.name_of(image_id)
        if name is None:
            names = ", ".join(image_id + suffix for suffix in self.SUFFIXES)
            raise InputError(
                f"{self._dir}: no saliency map for image {image_id} (looked for {names}); add it "
                "or compute maps with another method"
            )
        path = self._dir / name
        found = (_read_array if path.suffix == ".npy" else _read_grey)(path)
        if found.shape == (width, height) != (height, width):
            logging.log_first_n(
                logging.WARNING, "%s: %d × %d pixels, its picture has %d × %d: was it drawn on the "
                "picture as the camera lay? It is stretched over the upright one", 3,
                path, height, width, width, height,
            )  # fmt: skip
        return normalize(_resize(found.astype(np.float32), height, width))


def _read_grey(path):
    """A grey PNG or JPEG as it is stored: uint8 or uint16 `[h, w]`."""
    try:
        picture, png = encoding.picture_in(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: cannot be read as a picture ({error}); write the saliency map again"
        ) from None
    if picture.format not in ("PNG", "JPEG"):
        raise InputError(f"{path}: cannot be read as a picture: expected a PNG or a JPEG, found "
                         f"{picture.format}")  # fmt: skip
    deep = png is not None and png.depth == 16 and png.color == 0
    if picture.mode in ("1", "P"):
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    values = np.asarray(picture)
    if values.ndim == 3 and values.shape[2] == 3 and (values == values[..., :1]).all():
        values = values[..., 0]  # grey stored as RGB or by palette
    if values.ndim != 2 or "transparency" in picture.info:
        raise InputError(
            f"{path}: a saliency map must be grey without alpha, 8 or 16 bit, found "
            f"{len(picture.getbands())} channels; save it as a grey picture"
        )
    return values.astype(np.uint16 if deep else np.uint8)


def _read_array(path):
    """A real array `[h, w]` of NumPy's own file format."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the header is a piece of Python
            shape, dtype = _header_of(file)
            left = os.fstat(file.fileno()).st_size - file.tell()
            if math.prod(shape) * dtype.itemsize != left:
                raise ValueError(f"{left} bytes are no array {list(shape)} of {dtype}")
            file.seek(0)
            array = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # a header that is parsed as Python fails in all its ways
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{path}: cannot be read as a NumPy array ({reason}); write it with numpy.save"
        ) from error
    if array.ndim != 2 or not array.size or array.dtype.kind not in "buif":
        raise InputError(
            f"{path}: a saliency map must be real numbers [H, W], found {array.dtype} "
            f"{list(array.shape)}; save one map per file"
        )
    with np.errstate(over="ignore"):
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise InputError(
            f"{path}: the map holds values that are not finite in float32; write it again"
        )
    return array


def _header_of(file):
    """(shape, dtype) of an npy file; the file is left at its first number."""
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"its version {version} is of structured arrays")
    shape, _, dtype = read[version](file)
    if dtype.hasobject or not all(type(side) is int and side >= 0 for side in shape):
        raise ValueError(f"shape {shape} of {dtype}")
    return shape, dtype


def build(method, *, drfi_model="", onnx_model="", maps_dir=""):
    """The method as a picklable function, so that it can go to a pool of spawned processes.

    Args:
      method: one of `METHODS`.
      drfi_model: the model of method "drfi", "" for the one that ships; loaded like a network.
      onnx_model: the network of method "onnx"; each process loads it once, at its first image.
      maps_dir: the folder of method "folder".

    Returns:
      (image_id: str, image: uint8 RGB `[H, W, 3]`) -> float32 `[H, W]` in [0, 1].
    """
    if method == "folder":
        return functools.partial(_imported, FolderSaliency(maps_dir))
    if method == "drfi":
        path = str(drfi_model or drfi.MODEL)
        drfi.Drfi.load(path)  # a broken model is told here, not by a worker
        compute = functools.partial(_run_drfi, path)
    elif method == "onnx":
        compute = functools.partial(_run_onnx, _existing_model(onnx_model))
    elif method == "spectral_residual":
        compute = spectral_residual
    elif method == "fine_grained":
        compute = fine_grained
    else:
        raise InputError(f"unknown saliency method {method!r}; choose from: {', '.join(METHODS)}")
    return functools.partial(_computed, compute)


def _imported(folder, image_id, image):
    return folder.map_for(image_id, *image.shape[:2])


def _computed(compute, image_id, image):
    del image_id  # only imported maps go by name
    return compute(image)


@functools.cache
def _onnx_of_this_process(model_path):
    return OnnxSaliency(model_path)


def _run_onnx(model_path, image):
    return _onnx_of_this_process(model_path)(image)


@functools.cache
def _drfi_of_this_process(model_path):
    return drfi.Drfi.load(model_path)


def _run_drfi(model_path, image):
    return normalize(_drfi_of_this_process(model_path)(image))
