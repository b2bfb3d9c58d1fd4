"""What is drawn of a run: a panel a class, the paper's figures, the page's gallery."""

import dataclasses
import functools
import itertools

from aepsl_tf.data import datasets, encoding, records
from aepsl_tf.evaluation import metrics, verdict
from aepsl_tf.files import safe_name
from aepsl_tf.inference import drawing, panels
from aepsl_tf.models import model_dir
from aepsl_tf.report import gallery


def write(folder, settings, run_dir, found, truth):
    """Draws it all.

    Args:
      settings: a `config.Report`.
      found: `phases.report.Found`: what the run has.
      truth: `truth(split)` → its family of ground truth.
    """
    classes = run_dir.classes()
    images = records.Family(run_dir.family(found.split, "images"))
    rows = panels.choose(images, len(classes), settings.panel_images)
    decode = functools.partial(datasets.picture, fill=datasets.fill_pixel(images))
    network = model_dir.load(run_dir.model(found.model)) if found.model else None
    seen = _look(settings, run_dir, found, truth, rows, decode, network)
    _panels(folder, settings, rows, decode, seen, classes)
    items = [gallery.of_training(found.split, rows, decode, seen, classes, settings.pixel_limit)]
    figures = {}
    if found.steps:
        figures["loss"] = _losses(run_dir, found.steps)
    if found.steps > 1:
        lines = panels.over_erased(run_dir, found.split, found.steps, decode, classes, settings)
        if lines:
            title = "Over-erased: mined by a later step, background by saliency"
            figures["over_erased"] = drawing.panel(lines, title=title)
    if found.measured:
        examples, pictures = _examples(settings, run_dir, found.model, network, truth)
        figures |= examples
        items = [*pictures, *items]
    for name, picture in figures.items():
        (folder / "figures").mkdir(exist_ok=True)
        (folder / "figures" / f"{name}.png").write_bytes(encoding.rgb_png(picture))
    gallery.write(folder, itertools.chain(*items))


def _look(settings, run_dir, found, truth, rows, decode, network):
    """`gallery.Seen` of training images."""

    def masks_of(name):
        return panels.masks_of(records.Family(run_dir.masks(name)), rows) if name else None

    heats, erased, mined = [], [], []
    for step in range(1, found.steps + 1):
        images = records.Family(run_dir.training_images(found.split, step))
        erased.append(rows if step == 1 else panels.rows_of(images, rows))
        classifier = model_dir.load(run_dir.classifier(step))
        heats.append(panels.heatmaps_of(classifier, erased[-1], decode, settings.pixel_limit))
        mined.append(panels.rows_of(records.Family(run_dir.regions(step)), rows))
    title = "S, trained on" if network else "S"
    masks = {title: masks_of(found.masks)} if found.masks else {}
    if network:
        title = verdict.NAMES[found.model]
        masks[title] = panels.predictions_of(network, rows, decode, settings)
    if found.truth:
        masks["Truth"] = panels.masks_of(truth(found.split), rows)
    return gallery.Seen(heats, erased, mined, list(map(masks_of, found.step_masks)), masks)


def _panels(folder, settings, rows, decode, seen, classes):
    """CLASS.png: a class's pictures with heatmaps by step, masks, prediction, truth."""
    heats = {f"step {step}": heats for step, heats in enumerate(seen.heats, start=1)}
    lines = panels.lines(rows, decode, heats, seen.masks, classes.palette(), settings.pixel_limit)
    for class_id, name in enumerate(classes.names, start=1):
        of_class = [line(class_id) for row, line in lines.values()
                    if class_id in row["image/labels"]]  # fmt: skip
        if of_class:
            panel = drawing.panel(of_class[: settings.panel_images], title=name)
            (folder / f"{safe_name(name)}.png").write_bytes(encoding.rgb_png(panel))


def _losses(run_dir, steps):
    losses = {
        f"step {step}": [logs["loss"] for logs in model_dir.history(run_dir.classifier(step))]
        for step in range(1, steps + 1)
    }
    return drawing.curves(losses, "Loss of M_t", "epoch")


def _examples(settings, run_dir, model, network, truth):
    """The worst and the best of an evaluation: ({name: panel}, their pictures for the gallery)."""
    asked = run_dir.entry(f"evaluate/{model}")["config"]
    split = asked["split"]
    # As they were evaluated: a caption's IoU is that of the mask above it.
    same = {name: asked[name] for name in ("p", "test_policy", "pixel_limit") if name in asked}
    settings = dataclasses.replace(settings, **same)
    images, truths = records.Family(run_dir.family(split, "images")), truth(split)
    known = metrics.load(run_dir.evaluation(model))[model]
    drawn, pictures, shown = {}, [], set()
    for name in ("worst", "best"):
        if named := known.get(name, []):
            palette = run_dir.classes().palette()
            lines = panels.examples(network, images, truths, named, palette, settings)
            title = f"{name.capitalize()} of {images.images} by {model}"
            drawn[name] = drawing.panel(lines, title=title)
            rows = panels.rows_of(images, [number for *_, number in named])
            items = gallery.of_examples(split, rows, named, lines, verdict.NAMES[model])
            pictures.append([i for i in items if i["id"] not in shown])
            shown |= {id_ for id_, *_ in named}
    return drawn, pictures
