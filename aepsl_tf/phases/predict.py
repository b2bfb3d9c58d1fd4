"""Masks and overlays for picture files of any kind and size, and what is made of them.

python -m aepsl_tf.phases.predict --run_dir=RUN --model=psl --images=photos --output=masks
"""

import functools
import pathlib

from absl import logging

from aepsl_tf import config, config_flags
from aepsl_tf.data import encoding, runners
from aepsl_tf.errors import InputError
from aepsl_tf.inference import inputs, voc_submission
from aepsl_tf.progress import progress


def run(settings, run_dir, workers=0):
    """Writes ID.png and ID_overlay.png for each picture, and more; see `config.Predict`.

    Unreadable files are named and left out; the run then fails after the others are done.
    """
    pictures = inputs.find(settings.images, settings.recursive, settings.ids_file, settings.output)
    if not settings.output:
        raise InputError("--output is empty: name a folder for the masks")
    run_dir.need(f"train_segmenter/{settings.model}", "predict")
    classes = run_dir.classes()
    if settings.voc_submission:
        voc_submission.refuse_unfit(classes, settings, pictures)

    from aepsl_tf.inference import outputs
    from aepsl_tf.models import model_dir

    wanted = outputs.Wanted.of(settings, classes)
    folder = outputs.Folder(
        settings.output, pictures, wanted, settings.contact_sheet, settings.coco
    )
    folder.begin()
    model_dir.start_over(settings)
    model, broken = model_dir.load(run_dir.model(settings.model)), []
    items = _seen(pictures, model, settings, broken)
    _write_each(folder, wanted, items, len(pictures), broken, workers)
    folder.finish(workers)
    if broken:
        raise InputError(f"{len(broken)} of {len(pictures)} pictures could not be read: "
                         f"{', '.join(sorted(broken)[:5])}")  # fmt: skip
    if settings.voc_submission:
        voc_submission.pack(folder.path, pictures)
        logging.info("%s: %d masks; %s", folder.path / voc_submission.ARCHIVE, len(pictures),
                     voc_submission.WHERE)  # fmt: skip


def _write_each(folder, wanted, items, count, broken, workers):
    from aepsl_tf.inference import outputs

    make = functools.partial(outputs.files_of, wanted)
    with progress(count, "predict") as bar:
        for id_, files, pixels, scores in runners.ordered_map(make, items, workers):
            folder.write(files)
            folder.count(id_, pixels, scores)
            bar.update()
            bar.total = count - len(broken)
        bar.total = count - len(broken)


def _seen(pictures, model, settings, broken):
    """Yields what `outputs.files_of` takes of each picture; names of others go to `broken`."""
    from aepsl_tf.data import geometry, transforms
    from aepsl_tf.inference.over_split import Reader
    from aepsl_tf.inference.predictor import Predictor, scores_of, views_of

    views, sizes = views_of(settings.multi_scale, settings.flip), {}
    predictor = Predictor(model, settings, views)
    # One picture at a time unless asked for more, as the exported model is asked: its masks, bit
    # for bit.
    reader = Reader(model, model.cells, settings.pixel_limit, settings.batch, views=views)

    def decode(picture):
        try:
            data = pathlib.Path(picture.file).read_bytes()
            standard = encoding.standard_image(data, picture.file, settings.max_pixels)
        except (InputError, OSError) as error:  # one broken photograph costs no other
            logging.error("%s", error)
            broken.append(picture.name)
            return None
        image = geometry.within(transforms.decode_image(standard.encoded), settings.max_side)
        sizes[picture] = (standard.height, standard.width), tuple(image.shape[:2])
        return image

    for picture, pixels, cells in reader.read(pictures, decode):
        size, seen = sizes.pop(picture)
        weights, logits = predictor.weights(*cells), [one["logits"] for one in cells]
        mask = None
        if predictor.is_plain and not settings.crf:
            mask = predictor.mask(*logits, weights, seen).numpy()
        worker = predictor.to_worker(pixels, weights, *logits)
        yield picture.id, size, mask, worker, scores_of(cells)


if __name__ == "__main__":
    config_flags.run_phase(config.Predict, run)
