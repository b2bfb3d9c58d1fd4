"""Panels of pictures: a class's images with heatmaps per step, S, prediction and truth; the loss of
each step; what was over-erased; the best and the worst of validation.

python -m aepsl_tf.phases.report --run_dir=RUN
"""

import functools

from aepsl_tf import config, config_flags
from aepsl_tf.data import encoding, records
from aepsl_tf.evaluation import metrics
from aepsl_tf.files import safe_name
from aepsl_tf.phases import make_masks

_MODELS = ("psl_plus_plus_2", "psl_plus_plus", "psl", "no_psl", "supervised")


def run(settings, run_dir, workers=0):
    """Writes RUN/report from what the run has finished; see `config.Report`.

    CLASS.png, and in `figures`: `loss.png` (Figure 5 a), `over_erased.png` (Figure 5 b: regions of
    later steps that saliency calls background; no ground truth is read for it), and, of a
    validation split with truth, `worst.png` and `best.png` (Figure 6).
    """
    del workers
    split, steps = settings.train_split, 0
    while run_dir.is_current(f"mine_regions/step_{steps + 1}"):
        steps += 1
    model = next((m for m in _MODELS if run_dir.is_current(f"train_segmenter/{m}")), None)
    masks = _masks_key(run_dir, steps)
    truth_key = f"write_voc/{split}/ground_truth"
    has_truth = run_dir.entry(truth_key) is not None
    measured = f"evaluate/{model}" if model and run_dir.is_current(f"evaluate/{model}") else None
    inputs = [f"write_voc/{split}", *(f"train_classifier/step_{s}" for s in range(1, steps + 1)),
              *(f"mine_regions/step_{s}" for s in range(1, steps + 1)),
              *([masks] if masks else []),
              *([f"train_segmenter/{model}"] if model else []),
              *([f"write_saliency/{split}"] if steps > 1 else []),
              *([truth_key] if has_truth else []),
              *([measured] if measured else [])]  # fmt: skip

    def work(partial):
        from aepsl_tf.data import datasets
        from aepsl_tf.inference import drawing, panels
        from aepsl_tf.models import model_dir

        model_dir.start_over(settings)
        classes, names = run_dir.classes(), run_dir.classes().all_names()
        images = records.Family(run_dir.family(split, "images"))
        rows = panels.choose(images, len(classes), settings.panel_images)
        decode = functools.partial(datasets.picture, fill=datasets.fill_pixel(images))
        heats, overlays = {}, {}
        for step in range(1, steps + 1):
            seen = rows
            if step > 1:
                seen = panels.rows_of(records.Family(run_dir.training_images(split, step)), rows)
            heats[f"step {step}"] = panels.heatmaps_of(
                model_dir.load(run_dir.classifier(step)), seen, decode, settings.pixel_limit
            )
        if masks:
            family = records.Family(run_dir.masks(masks.split("/")[1]))
            overlays["S"] = panels.masks_of(family, rows)
        if model:
            network = model_dir.load(run_dir.model(model))
            overlays[model] = panels.predictions_of(network, rows, decode, settings)
        if has_truth:
            family = records.Family(run_dir.ground_truth(split, "report"))
            overlays["truth"] = panels.masks_of(family, rows)
        lines = panels.lines(
            rows, decode, heats, overlays, classes.palette(), settings.pixel_limit
        ).values()
        for class_id in range(1, len(classes) + 1):
            of_class = [line(class_id) for row, line in lines if class_id in row["image/labels"]]
            if of_class:
                panel = drawing.panel(of_class[: settings.panel_images], title=names[class_id])
                (partial / f"{safe_name(names[class_id])}.png").write_bytes(encoding.rgb_png(panel))
        for name, picture in figures(classes, images, decode).items():
            (partial / "figures").mkdir(exist_ok=True)
            (partial / "figures" / f"{name}.png").write_bytes(encoding.rgb_png(picture))

    def figures(classes, images, decode):
        """Name → picture."""
        from aepsl_tf.inference import drawing, panels
        from aepsl_tf.models import model_dir

        drawn = {}
        if steps:
            losses = {
                f"step {step}": [logs["loss"] for logs in model_dir.history(
                    run_dir.classifier(step))] for step in range(1, steps + 1)
            }  # fmt: skip
            drawn["loss"] = drawing.curves(losses, "Loss of M_t", "epoch")
        if steps > 1:
            rows = panels.over_erased(run_dir, split, steps, decode, classes, settings)
            if rows:
                drawn["over_erased"] = drawing.panel(
                    rows, title="Over-erased: mined by a later step, background by saliency"
                )
        if measured:
            entry = run_dir.entry(measured)
            known = metrics.load(run_dir.evaluation(model))[model]
            family = records.Family(run_dir.family(entry["config"]["split"], "images"))
            truth = records.Family(run_dir.ground_truth(entry["config"]["split"], "report"))
            network = model_dir.load(run_dir.model(model))
            for name in ("worst", "best"):
                rows = panels.examples(
                    network, family, truth, known.get(name, []), classes.palette(), settings
                )
                if rows:
                    title = f"{name.capitalize()} of {family.images} by {model}"
                    drawn[name] = drawing.panel(rows, title=title)
        return drawn

    run_dir.phase("report", settings, inputs, run_dir.report, work)


def _masks_key(run_dir, steps):
    """The masks that a segmenter was trained on; before there is one, those of all steps."""
    for entry in (run_dir.entry(f"train_segmenter/{name}") for name in ("psl", "no_psl")):
        for key in entry["inputs"] if entry else ():
            if key.startswith("make_masks/"):
                return key
    key = f"make_masks/{make_masks.name_of(steps)}"
    return key if run_dir.entry(key) else None


if __name__ == "__main__":
    config_flags.run_phase(config.Report, run)
