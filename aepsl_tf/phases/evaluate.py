"""Against ground truth: IoU of a model, of masks or of mined regions, and how good saliency is.

python -m aepsl_tf.phases.evaluate --run_dir=RUN --what=model --model=psl --split=val
"""

import functools

import numpy as np

from aepsl_tf import config, config_flags
from aepsl_tf.classes import BACKGROUND, VOID
from aepsl_tf.data import datasets, encoding, records, runners
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation import metrics, tables
from aepsl_tf.files import to_json, write_atomic
from aepsl_tf.inference import cells, crf
from aepsl_tf.inference.over_split import Reader, over_split
from aepsl_tf.inference.predictor import Predictor
from aepsl_tf.mining import regions
from aepsl_tf.models import model_dir
from aepsl_tf.phases import make_masks, train_segmenter


def run(settings, run_dir, workers=0):
    """Writes RUN/eval/NAME.json: name → `metrics.Confusion.results`; see `config.Evaluate`.

    Models are evaluated without and, with --crf, with the CRF (`NAME_crf`), from one pass. Saliency
    has numbers of its own, `metrics.Saliency.results`.
    """
    what, split = settings.what, settings.split
    truth_key = f"write_voc/{split}/ground_truth"
    steps = make_masks.name_of(settings.merge_steps)
    if what == "model":
        name = settings.model + ("_gt" if settings.with_tags else "")
        inputs = [truth_key, f"write_voc/{split}", f"train_segmenter/{settings.model}"]
        measure = _model
    elif what == "masks":
        name = f"masks_{settings.masks or steps}"
        inputs = [truth_key, train_segmenter.masks_key(settings.masks or steps)]
        measure = _masks
    elif what == "saliency":
        return _saliency(settings, run_dir, truth_key)
    else:
        name = f"regions_{steps}"
        inputs = [
            truth_key,
            *(f"mine_regions/step_{s}" for s in range(1, settings.merge_steps + 1)),
        ]
        measure = _regions

    def work(partial):
        model_dir.start_over(settings)
        truth = records.Family(run_dir.ground_truth(split, "evaluate"))
        names = run_dir.classes().all_names()
        results = {
            f"{name}{suffix}": confusion.results(names)
            for suffix, confusion in measure(settings, run_dir, truth, len(names), workers).items()
        }
        tables.show_segmentation(results, names)
        write_atomic(partial, to_json(results))

    run_dir.phase(f"evaluate/{name}", settings, inputs, run_dir.evaluation(name), work)


def _compare(truth, masks, num_classes):
    """A `Confusion` of (id, mask) pairs against the truth family."""
    confusion = metrics.Confusion(num_classes)
    with records.progress(truth.images, "evaluate") as bar:
        for row, (id_, mask) in zip(truth.read(), masks, strict=True):
            records.check_same_id(row["image/id"], id_, truth.directory)
            confusion.add(encoding.read_grey_png(row["mask/png"]), mask, id_)
            bar.update()
    return confusion


def _masks(settings, run_dir, truth, num_classes, workers):
    del workers
    name = settings.masks or make_masks.name_of(settings.merge_steps)
    masks = records.Family(run_dir.masks(name))
    pairs = ((r["image/id"], encoding.read_grey_png(r["mask/png"])) for r in masks.read())
    return {"": _compare(truth, pairs, num_classes)}


def _regions(settings, run_dir, truth, num_classes, workers):
    """The union of the steps; what no region claims is background, conflicts are void."""
    del workers

    def pairs():
        for id_, labels, mined in regions.merged(run_dir, settings.merge_steps):
            mask = np.zeros(mined[0].shape, np.uint8)
            for label, region in zip(labels, mined, strict=True):
                mask[region] = np.where(mask[region] == 0, label, VOID)
            yield id_, mask

    return {"": _compare(truth, pairs(), num_classes)}


def _saliency(settings, run_dir, truth_key):
    """Any class is object, as the background cue (§3.1) takes it."""
    split = settings.split
    name = f"saliency_{split}"

    def work(partial):
        truth = records.Family(run_dir.ground_truth(split, "evaluate"))
        maps = records.Family(run_dir.family(split, "saliency"))
        scores = metrics.Saliency()
        with records.progress(truth.images, "evaluate") as bar:
            for row in records.read_zipped([truth, maps]):
                mask = encoding.read_grey_png(row["mask/png"])
                values = encoding.read_grey_png(row["saliency/png"])
                scores.add(values, mask != BACKGROUND, mask != VOID)
                bar.update()
        results = {name: scores.results()}
        tables.show_saliency(results)
        write_atomic(partial, to_json(results))

    inputs = [truth_key, f"write_saliency/{split}"]
    return run_dir.phase(f"evaluate/{name}", settings, inputs, run_dir.evaluation(name), work)


def _model(settings, run_dir, truth, num_classes, workers):
    model = model_dir.load(run_dir.model(settings.model))
    if settings.with_tags and not model.has_scores:
        raise InputError(
            f"--with_tags: {settings.model} was trained with --psl=none and takes no scores"
        )
    family = records.Family(run_dir.family(settings.split, "images"))
    if settings.with_tags and not any(row["image/labels"] for row in family.read()):
        raise InputError(
            f"--with_tags: split {settings.split} has no tags; write it again with --tags_from, "
            "or evaluate without --with_tags"
        )
    predictor = Predictor(model, settings.p, settings.pixel_limit)
    # One picture at a time, as the exported model is asked: its masks, bit for bit.
    reader = Reader(model, model.cells, settings.pixel_limit, batch=1)
    plain, cleaned = metrics.Confusion(num_classes), metrics.Confusion(num_classes)

    def items(read):
        for row, picture, outputs in read():
            if settings.with_tags:
                outputs["scores"] = np.isin(np.arange(1, num_classes), row["image/labels"])
                outputs["scores"] = outputs["scores"].astype(np.float32)
            weights = predictor.weights(outputs)
            size = row["image/height"], row["image/width"]
            mask = predictor.mask(outputs["logits"], weights, size).numpy()
            yield mask, predictor.to_worker(picture, outputs["logits"], weights)

    clean = functools.partial(cells.clean, crf.settings_of(settings) if settings.crf else None)
    with (
        over_split(reader, run_dir, family, datasets.fill_pixel(family)) as read,
        records.progress(truth.images, f"evaluate {settings.model}") as bar,
    ):
        outputs = runners.ordered_map(clean, items(read), workers if settings.crf else 1)
        for row, masks in zip(truth.read(), outputs, strict=True):
            expected = encoding.read_grey_png(row["mask/png"])
            for confusion, mask in zip((plain, cleaned), masks, strict=True):
                if mask is not None:
                    mask = encoding.resize_mask(mask, *expected.shape)
                    confusion.add(expected, mask, row["image/id"])
            bar.update()
    return {"": plain} | ({"_crf": cleaned} if settings.crf else {})


if __name__ == "__main__":
    config_flags.run_phase(config.Evaluate, run)
