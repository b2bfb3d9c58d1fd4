"""Against ground truth: IoU of a model, of masks or of mined regions, and how good saliency is.

python -m aepsl_tf.phases.evaluate --run_dir=RUN --what=model --model=psl --split=val
"""

from aepsl_tf import config, config_flags
from aepsl_tf.classes import BACKGROUND, VOID
from aepsl_tf.data import encoding, records
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation import metrics, tables
from aepsl_tf.files import sealed, write_atomic
from aepsl_tf.phases import make_masks, train_segmenter
from aepsl_tf.progress import progress


def run(settings, run_dir, workers=0):
    """Writes RUN/eval/NAME.json: name → `metrics.Confusion.results`; see `config.Evaluate`.

    Models are evaluated without and, with --crf, with the CRF (`NAME_crf`), from one pass. Saliency
    has numbers of its own, `metrics.Saliency.results`.
    """
    what, split = settings.what, settings.split
    truth_key = f"write_voc/{split}/ground_truth"
    if what == "model":
        name = name_of(settings)
        inputs = [truth_key, f"write_voc/{split}", f"train_segmenter/{settings.model}"]

        def measure(measures, truth, count):
            return measures.of_model(settings, run_dir, truth, count, workers)
    elif what == "masks":
        masks_name = settings.masks or make_masks.name_of(settings.merge_steps)
        name = f"masks_{masks_name}"
        inputs = [truth_key, train_segmenter.masks_key(masks_name)]
        _refuse_another(run_dir, inputs[1], split)

        def measure(measures, truth, count):
            masks = records.Family(run_dir.masks(masks_name))
            return measures.of_masks(masks, truth, count)
    elif what == "saliency":
        return _saliency(settings, run_dir, truth_key)
    else:
        name = f"regions_{make_masks.name_of(settings.merge_steps)}"
        inputs = [
            truth_key,
            *(f"mine_regions/step_{s}" for s in range(1, settings.merge_steps + 1)),
        ]
        _refuse_another(run_dir, inputs[1], split)

        def measure(measures, truth, count):
            return measures.of_regions(run_dir, settings.merge_steps, truth, count)

    def work(partial):
        from aepsl_tf.evaluation import measures
        from aepsl_tf.models import model_dir

        model_dir.start_over(settings)
        truth = records.Family(run_dir.ground_truth(split, "evaluate"))
        names = run_dir.classes().all_names()
        results = {
            f"{name}{suffix}": confusion.results(names)
            for suffix, confusion in measure(measures, truth, len(names)).items()
        }
        tables.show_segmentation(results, names)
        write_atomic(partial, sealed(results))
        if what == "model":
            _log(results, settings, run_dir, name)

    run_dir.phase(f"evaluate/{name}", settings, inputs, run_dir.evaluation(name), work)


def _refuse_another(run_dir, key, split):
    """Refuses a split that masks or regions are not of."""
    if entry := run_dir.entry(key):
        own = (config.TrainSplit.defaults() | entry["config"])["train_split"]
        if own != split:
            raise InputError(f"--split={split}: {key} is of {own}: give --split={own}")


def _log(results, settings, run_dir, name):
    """mIoU, for TensorBoard: its HParams tab has it beside what the model was trained with."""
    from aepsl_tf.training.summaries import Events

    trained = run_dir.entry(f"train_segmenter/{settings.model}")["config"]
    plain = {k: v for k, v in trained.items() if isinstance(v, bool | int | float | str)}
    events = Events(run_dir.tensorboard(f"evaluate/{name}"), plain)
    # By its suffix, "" or "_crf", so that one column of the tab holds all models.
    suffixed = {n.removeprefix(name): result["miou"] for n, result in results.items()}
    events.scalars(0, {f"miou{s}": miou for s, miou in suffixed.items() if miou is not None})
    events.close()


def name_of(settings):
    """What a model's numbers are called: those with tags and over views stand beside its own."""
    parts = {"_gt": settings.with_tags, "_flip": settings.flip,
             "_multi_scale": config.scales(settings.multi_scale) != [1]}  # fmt: skip
    return settings.model + "".join(part for part, is_so in parts.items() if is_so)


def _saliency(settings, run_dir, truth_key):
    """Any class is object, as the background cue (§3.1) takes it."""
    split = settings.split
    name = f"saliency_{split}"

    def work(partial):
        truth = records.Family(run_dir.ground_truth(split, "evaluate"))
        maps = records.Family(run_dir.family(split, "saliency"))
        scores = metrics.Saliency()
        with progress(truth.images, "evaluate") as bar:
            for row in records.read_zipped([truth, maps]):
                mask = encoding.read_grey_png(row["mask/png"])
                values = encoding.read_grey_png(row["saliency/png"])
                scores.add(values, mask != BACKGROUND, mask != VOID)
                bar.update()
        results = {name: scores.results()}
        tables.show_saliency(results)
        write_atomic(partial, sealed(results))

    inputs = [truth_key, f"write_saliency/{split}"]
    return run_dir.phase(f"evaluate/{name}", settings, inputs, run_dir.evaluation(name), work)


if __name__ == "__main__":
    config_flags.run_phase(config.Evaluate, run)
