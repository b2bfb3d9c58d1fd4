"""Masks and overlays for picture files of any kind and size.

python -m aepsl_tf.phases.predict --run_dir=RUN --model=psl --images=photos --output=masks
"""

import functools
import os
import pathlib

from absl import logging

from aepsl_tf import config, config_flags
from aepsl_tf.data import encoding, records, runners
from aepsl_tf.errors import InputError
from aepsl_tf.files import read_json, to_json, write_atomic

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}


def run(settings, run_dir, workers=0):
    """Writes ID.png and ID_overlay.png for each picture; see `config.Predict`.

    Unreadable files are named and left out; the run then fails after the others are done.
    """
    files = _files(settings.images)
    if not settings.output:
        raise InputError("--output is empty: name a folder for the masks")
    run_dir.need(f"train_segmenter/{settings.model}", "predict")
    output = pathlib.Path(settings.output)
    made = _outputs_of(files, output)
    output.mkdir(parents=True, exist_ok=True)
    write_atomic(output / _MADE, to_json(made))

    from aepsl_tf.data import transforms
    from aepsl_tf.inference import cells, crf
    from aepsl_tf.inference.over_split import Reader
    from aepsl_tf.inference.predictor import Predictor
    from aepsl_tf.models import model_dir

    model_dir.start_over(settings)
    model = model_dir.load(run_dir.model(settings.model))
    predictor = Predictor(model, settings)
    # One picture at a time, as the exported model is asked: its masks, bit for bit.
    reader = Reader(model, model.cells, settings.pixel_limit, batch=1)
    preset = crf.settings_of(settings) if settings.crf else None
    sizes, broken = {}, []

    def decode(file):
        try:
            data = file.read_bytes()
            picture = encoding.standard_image(data, str(file), settings.max_pixels)
        except (InputError, OSError) as error:  # one broken photograph costs no other
            logging.error("%s", error)
            broken.append(file.name)
            return None
        sizes[file] = picture.height, picture.width
        return transforms.decode_image(picture.encoded)

    def items():
        for file, picture, outputs in reader.read(files, decode):
            size = sizes.pop(file)
            mask = None if settings.crf else predictor.mask_of(outputs, size)
            weights = predictor.weights(outputs)
            yield file.stem, size, mask, predictor.to_worker(picture, outputs["logits"], weights)

    make = functools.partial(cells.mask_files, preset, run_dir.classes().palette())
    with records.progress(len(files), "predict") as bar:
        for stem, mask, overlay in runners.ordered_map(make, items(), workers):
            for name, png in zip(_outputs(stem), (mask, overlay), strict=True):
                (output / name).write_bytes(png)
            bar.update()
    if broken:
        raise InputError(f"{len(broken)} of {len(files)} pictures could not be read: "
                         f"{', '.join(sorted(broken)[:5])}")  # fmt: skip


def _files(images):
    path = pathlib.Path(images)
    if not images or not path.exists():
        raise InputError(f"--images={images}: expected a picture or a folder of pictures")
    if path.is_file():
        return [path]
    files = sorted(
        f for f in path.iterdir() if f.suffix.lower() in _SUFFIXES and not f.name.startswith(".")
    )
    if not files:
        raise InputError(f"{path}: holds no picture ({', '.join(sorted(_SUFFIXES))})")
    return files


def _outputs(stem):
    """What is written of one picture: its mask's name and its overlay's."""
    return f"{stem}.png", f"{stem}_overlay.png"


_MADE = "predictions.json"
"""In the output folder: which file is made of which picture."""


def _outputs_of(files, output):
    """{file in the output folder: the picture it is made of}, with those of earlier predictions.

    Raises:
      InputError: a result would lie over a picture, over another one's result, or over a file that
        no earlier prediction made of this picture.
    """
    if output.exists() and not output.is_dir():
        raise InputError(f"--output={output}: there is a file of this name; name a folder")
    try:
        before = read_json(output / _MADE, {str: str}, "remove it, or give another --output")
    except FileNotFoundError:
        before = {}
    made = {}
    for file in files:
        source = os.fsencode(file.resolve()).decode("utf-8", "backslashreplace")
        for name in _outputs(file.stem):
            if len(os.fsencode(name)) > 255:
                raise InputError(f"{file}: {name[:40]}… would be too long a name: rename it")
            if name in made:
                other = pathlib.PurePath(made[name]).name
                raise InputError(
                    f"{other} and {file.name} would both be written as {name}: rename one"
                )
            made[name] = source
            if os.path.lexists(output / name) and before.get(name) != source:
                raise InputError(
                    f"--output={output}: {name}, of {file.name}, is there already and was not made "
                    "of this picture: give another folder"
                )
    return before | made


if __name__ == "__main__":
    config_flags.run_phase(config.Predict, run)
