"""One panel of pictures a class: image, heatmap and erased image per step, S, prediction, truth.

python -m aepsl_tf.phases.report --run_dir=RUN
"""

import numpy as np

from aepsl_tf import config, config_flags
from aepsl_tf.data import datasets, encoding, geometry, records
from aepsl_tf.inference import drawing
from aepsl_tf.inference.over_split import Reader
from aepsl_tf.inference.predictor import Predictor
from aepsl_tf.mining import heatmaps
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
        images = records.Family(run_dir.family(split, "images"))
        chosen = _chosen(images, len(classes), settings.panel_images)
        fill = datasets.fill_pixel(images)

        def decode(row):
            return datasets.picture(row, fill)

        def read(network, cells, rows):
            reader = Reader(network, cells, settings.pixel_limit)
            return zip(rows, reader.read(rows.values(), decode), strict=True)

        heats = {index: [] for index in chosen}
        for step in range(1, steps + 1):
            network = model_dir.load(run_dir.classifier(step))
            family = records.Family(run_dir.training_images(split, step))
            rows = chosen if step == 1 else _rows(family, chosen)
            for index, (row, picture, cells) in read(network, heatmaps.cells(network), rows):
                labels, size = row["image/labels"], picture.shape[:2]
                maps = heatmaps.at_size(cells["heatmaps"], labels, size, network.config)
                heats[index] += [(c, f"step {step}", drawing.heatmap_overlay(picture, heatmap))
                                 for c, heatmap in zip(labels, maps, strict=True)]  # fmt: skip
        overlays = {}
        if masks:
            overlays["S"] = _masks(records.Family(run_dir.masks(masks.split("/")[1])), chosen)
        if model:
            network = model_dir.load(run_dir.model(model))
            predictor = Predictor(network, settings.p, settings.pixel_limit)
            overlays[model] = {
                index: predictor.mask_of(cells, picture.shape[:2])
                for index, (_, picture, cells) in read(network, network.cells, chosen)
            }
        if has_truth:
            overlays["truth"] = _masks(
                records.Family(run_dir.ground_truth(split, "report")), chosen
            )
        pictures = {}
        for index, row in chosen.items():
            image = geometry.limited(decode(row)[None], settings.pixel_limit)[0].numpy()
            pictures[index] = (row, image, [
                (title, _overlay(image, masks_of[index], palette))
                for title, masks_of in overlays.items()
            ])  # fmt: skip
        for class_id in range(1, len(classes) + 1):
            lines = [
                [(row["image/id"], image)]
                + [(title, heat) for c, title, heat in heats[index] if c == class_id]
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


def _chosen(images, num_classes, count):
    """Position in the split → row, of the first `count` images of every class."""
    chosen, seen = {}, np.zeros(num_classes + 1, int)
    for index, row in enumerate(images.read()):
        labels = np.array(row["image/labels"], int)
        if labels.size and (seen[labels] < count).any():
            chosen[index] = row
            seen[labels] += 1
    return chosen


def _rows(family, chosen):
    """Position → row of a family, of the chosen positions."""
    return {index: row for index, row in enumerate(family.read()) if index in chosen}


def _masks(family, chosen):
    rows = _rows(family, chosen)
    return {index: encoding.read_grey_png(row["mask/png"]) for index, row in rows.items()}


def _overlay(picture, mask, palette):
    mask = encoding.resize_mask(mask, *picture.shape[:2])
    return drawing.overlay(picture, mask, palette)


if __name__ == "__main__":
    config_flags.run_phase(config.Report, run)
