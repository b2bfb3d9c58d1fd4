"""One panel of pictures a class: image, heatmap and erased image per step, S, prediction, truth.

python -m aepsl_tf.phases.report --run_dir=RUN
"""

import functools

from aepsl_tf import config, config_flags
from aepsl_tf.data import datasets, encoding, records
from aepsl_tf.files import safe_name
from aepsl_tf.inference import drawing, panels
from aepsl_tf.models import model_dir
from aepsl_tf.phases import make_masks

_MODELS = ("psl_plus_plus_2", "psl_plus_plus", "psl", "no_psl", "supervised")


def run(settings, run_dir, workers=0):
    """Writes RUN/report/CLASS.png from what the run has finished; see `config.Report`."""
    del workers
    split, steps = settings.train_split, 0
    while run_dir.is_current(f"mine_regions/step_{steps + 1}"):
        steps += 1
    model = next((m for m in _MODELS if run_dir.is_current(f"train_segmenter/{m}")), None)
    masks = _masks_key(run_dir, steps)
    truth_key = f"write_voc/{split}/ground_truth"
    has_truth = run_dir.entry(truth_key) is not None
    inputs = [f"write_voc/{split}", *(f"train_classifier/step_{s}" for s in range(1, steps + 1)),
              *(f"mine_regions/step_{s}" for s in range(1, steps + 1)),
              *([masks] if masks else []),
              *([f"train_segmenter/{model}"] if model else []),
              *([truth_key] if has_truth else [])]  # fmt: skip

    def work(partial):
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
