"""Saliency maps of the training images, for background cues (§3.1).

python -m data_prep.write_saliency --run_dir=RUN
"""

import functools

import numpy as np

from aepsl_tf import config, config_flags
from aepsl_tf.data import encoding, records
from aepsl_tf.files import Content


def run(settings, run_dir, workers=0):
    """Writes one map an image, 8 bits, stretched to 0..1; see `config.WriteSaliency`."""
    split = settings.train_split
    key = f"write_saliency/{split}"

    def work(partial):
        images = records.Family(run_dir.family(split, "images"))
        make = functools.partial(row_of, _method(settings))
        records.write_family(
            partial, "saliency", images.counts, images.read, make, workers, description=key
        )

    target = run_dir.family(split, "saliency")
    reads = _reads(settings, run_dir.family(split, "images"))
    run_dir.phase(key, settings, [f"write_voc/{split}"], target, work, reads=reads)


def check(settings):
    """Refuses a model or a folder that `run` would."""
    from data_prep.saliency import methods

    _method(settings)
    if settings.method == "onnx":
        methods.OnnxSaliency(settings.onnx_model)


def _method(settings):
    from data_prep.saliency import methods

    return methods.build(
        settings.method, drfi_model=settings.drfi_model, onnx_model=settings.onnx_model,
        maps_dir=settings.maps_dir,
    )  # fmt: skip


def _reads(settings, images):
    """The files that a method reads: its model or, of a folder, the maps of the split's images."""
    from data_prep.saliency import drfi, methods

    def maps():
        folder = methods.FolderSaliency(settings.maps_dir)
        ids = (row["image/id"] for row in records.Family(images).read())
        return [name for name in map(folder.name_of, ids) if name]

    model = settings.drfi_model
    return {
        "drfi": {"drfi_model": Content(model, model or drfi.MODEL)},
        "onnx": {"onnx_model": settings.onnx_model},
        "folder": {"maps_dir": Content(settings.maps_dir, settings.maps_dir, maps)},
    }.get(settings.method, {})


def row_of(method, row):
    """A saliency row of an images row, by a method of `methods.build`."""
    values = method(row["image/id"], encoding.rgb_pixels(row["image/encoded"]))
    png = encoding.grey_png(np.round(values * 255).astype(np.uint8))
    return {"image/id": row["image/id"], "saliency/png": png}


if __name__ == "__main__":
    config_flags.run_phase(config.WriteSaliency, run)
