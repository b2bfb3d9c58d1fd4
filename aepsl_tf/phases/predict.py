"""Masks and overlays for picture files of any kind and size.

python -m aepsl_tf.phases.predict --run_dir=RUN --model=psl --images=photos --output=masks
"""

import pathlib

from absl import logging

from aepsl_tf import config, config_flags
from aepsl_tf.data import encoding, records, transforms
from aepsl_tf.errors import InputError
from aepsl_tf.inference import crf, drawing
from aepsl_tf.inference.predictor import Predictor
from aepsl_tf.models import model_dir

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def run(settings, run_dir, workers=0):
    """Writes ID.png and ID_overlay.png for each picture; see `config.Predict`.

    Unreadable files are named and left out; the run then fails after the others are done.
    """
    del workers
    files = _files(settings.images)
    if not settings.output:
        raise InputError("--output is empty: name a folder for the masks")
    run_dir.need(f"train_segmenter/{settings.model}", "predict")
    output = pathlib.Path(settings.output)
    output.mkdir(parents=True, exist_ok=True)
    palette = run_dir.classes().palette()
    model_dir.start_over(settings)
    model = model_dir.load(run_dir.model(settings.model))
    predictor = Predictor(model, settings.p, settings.pixel_limit)
    broken = []
    with records.progress(len(files), "predict") as bar:
        for file in files:
            try:
                encoded, *_ = encoding.standard_image(file.read_bytes(), str(file))
            except InputError as error:
                logging.error("%s", error)
                broken.append(file.name)
                continue
            image = transforms.decode_image(encoded).numpy()
            mask = mask_of(predictor, image, settings)
            (output / f"{file.stem}.png").write_bytes(encoding.palette_png(mask, palette))
            picture = drawing.overlay(image, mask, palette)
            (output / f"{file.stem}_overlay.png").write_bytes(encoding.rgb_png(picture))
            bar.update()
    if broken:
        raise InputError(f"{len(broken)} of {len(files)} pictures could not be read: "
                         f"{', '.join(broken[:5])}")  # fmt: skip


def mask_of(predictor, image, settings):
    """The mask uint8 `[H, W]` of one picture uint8 `[H, W, 3]`."""
    outputs = {k: v[0] for k, v in predictor.segment(image[None]).items()}
    if not settings.crf:
        return outputs["mask"].numpy()
    small = predictor.limited(image[None])[0].numpy()
    probabilities = predictor.prohibited(outputs).numpy()
    mask = crf.dense_crf(small, probabilities, **crf.settings_of(settings))
    return encoding.resize_mask(mask, *image.shape[:2])


def _files(images):
    path = pathlib.Path(images)
    if not images or not path.exists():
        raise InputError(f"--images={images}: expected a picture or a folder of pictures")
    if path.is_file():
        return [path]
    files = sorted(f for f in path.iterdir() if f.suffix.lower() in _SUFFIXES)
    stems = [f.stem for f in files]
    twice = sorted({s for s in stems if stems.count(s) > 1})
    if twice:
        raise InputError(f"{path}: several pictures are called {twice[0]}; their masks would too")
    if not files:
        raise InputError(f"{path}: holds no picture ({', '.join(sorted(_SUFFIXES))})")
    return files


if __name__ == "__main__":
    config_flags.run_phase(config.Predict, run)
