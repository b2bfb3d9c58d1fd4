"""One panel of pictures a class: image, heatmap and erased image per step, S, prediction, truth.

python -m aepsl_tf.phases.report --run_dir=RUN
"""

import numpy as np

from aepsl_tf import config, config_flags
from aepsl_tf.data import datasets, encoding, records, transforms
from aepsl_tf.inference import drawing
from aepsl_tf.inference.predictor import Predictor
from aepsl_tf.mining.heatmaps import Heatmaps
from aepsl_tf.models import model_dir
from aepsl_tf.phases import make_masks

_MODELS = ("psl_plus_plus", "psl", "no_psl")


def run(settings, run_dir, workers=0):
    """Writes RUN/report/CLASS.png from what the run has finished; see `config.Report`."""
    del workers
    split, manifest = settings.train_split, run_dir.manifest()
    steps = sum(1 for key in manifest if key.startswith("mine_regions/"))
    model = next((m for m in _MODELS if run_dir.entry(f"train_segmenter/{m}")), None)
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
        palette = classes.palette()
        rows = _chosen(run_dir, split, len(classes), settings.panel_images)
        cells = {index: [] for index in rows}
        fill = datasets.fill_pixel(records.Family(run_dir.family(split, "images")))
        for step in range(1, steps + 1):
            heatmaps = Heatmaps(model_dir.load(run_dir.classifier(step)))
            family = records.Family(run_dir.training_images(split, step))
            for index, row in _rows(family, rows):
                image = datasets.picture(row, fill).numpy()
                for c in row["image/labels"]:
                    heat = drawing.heatmap_overlay(image, heatmaps.of(image, [c])[0])
                    cells[index].append((c, f"step {step}", heat))
        overlays = {}
        if masks:
            overlays["S"] = records.Family(run_dir.masks(masks.split("/")[1]))
        if has_truth:
            overlays["truth"] = records.Family(run_dir.ground_truth(split, "report"))
        predictor = model and Predictor(
            model_dir.load(run_dir.model(model)), settings.p, settings.pixel_limit
        )
        pictures = {}
        for index, row in _rows(records.Family(run_dir.family(split, "images")), rows):
            image = transforms.decode_image(row["image/encoded"]).numpy()
            after = []
            for title, family in overlays.items():
                mask = encoding.read_grey_png(next(_rows(family, [index]))[1]["mask/png"])
                after.append((title, drawing.overlay(image, mask, palette)))
            if predictor:
                mask = predictor.segment(image[None])["mask"][0].numpy()
                after.insert(1, (model, drawing.overlay(image, mask, palette)))
            pictures[index] = (row, image, after)
        for class_id in range(1, len(classes) + 1):
            lines = [
                [(row["image/id"], image)]
                + [(title, heat) for c, title, heat in cells[index] if c == class_id]
                + after
                for index, (row, image, after) in pictures.items()
                if class_id in row["image/labels"]
            ][: settings.panel_images]
            if lines:
                panel = drawing.panel(lines, title=names[class_id])
                (partial / f"{names[class_id]}.png").write_bytes(encoding.rgb_png(panel))

    run_dir.phase("report", settings, inputs, run_dir.report, work)


def _masks_key(run_dir, steps):
    """The masks that a segmenter was trained on; before there is one, those of all steps."""
    for entry in (run_dir.entry(f"train_segmenter/{name}") for name in ("psl", "no_psl")):
        for key in entry["inputs"] if entry else ():
            if key.startswith("make_masks/"):
                return key
    key = f"make_masks/{make_masks.name_of(steps)}"
    return key if run_dir.entry(key) else None


def _chosen(run_dir, split, num_classes, count):
    """Positions in the split of the first `count` images of every class."""
    chosen, seen = [], np.zeros(num_classes + 1, int)
    for index, row in enumerate(records.Family(run_dir.family(split, "images")).read()):
        labels = np.array(row["image/labels"], int)
        if labels.size and (seen[labels] < count).any():
            chosen.append(index)
            seen[labels] += 1
    return chosen


def _rows(family, indices):
    """Yields (position, row) of the chosen positions."""
    wanted = set(indices)
    for index, row in enumerate(family.read()):
        if index in wanted:
            yield index, row


if __name__ == "__main__":
    config_flags.run_phase(config.Report, run)
