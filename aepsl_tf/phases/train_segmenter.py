"""Trains the segmenter on masks, with prohibitive segmentation learning (§3.2).

python -m aepsl_tf.phases.train_segmenter --run_dir=RUN --psl=full
"""

import re

from absl import logging

from aepsl_tf import config, config_flags
from aepsl_tf.data import records
from aepsl_tf.errors import InputError
from aepsl_tf.phases import make_masks
from aepsl_tf.phases.train_classifier import choose

NAMES = {"none": "no_psl", "branch_only": "branch_only", "full": "psl"}
_RESERVED = ("data", "masks", "cache", "eval", "export", "report", "tensorboard")


def masks_key(masks):
    """The phase that makes the masks of a name."""
    if masks == "supervised":
        return "supervised_masks/supervised"
    return f"{'relabel' if masks.startswith('relabelled') else 'make_masks'}/{masks}"


def _checked(name):
    """A model name becomes a folder of the run, beside the run's own."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or name in _RESERVED or name.startswith("step_"):
        raise InputError(
            f"--name={name}: expected letters, digits, _ and -, and none of the run's own folders "
            f"({', '.join(_RESERVED)}, step_1, …)"
        )
    return name


def refuse_start(settings, psl):
    """Refuses --start_model where that has no branch to start from; `psl` is what it learned by."""
    if psl == "none" != settings.psl:
        raise InputError(
            f"--start_model={settings.start_model} was trained with --psl=none: it has no "
            f"classification branch, which --psl={settings.psl} starts with; start from weights "
            "(in the pipeline --psl_plus_plus_from=weights) or train both with one"
        )


def run(settings, run_dir, workers=0):
    """Trains one segmenter; see `config.TrainSegmenter`. Returns its facts."""
    del workers
    split = settings.train_split
    name = _checked(settings.name or NAMES[settings.psl])
    masks = settings.masks or make_masks.name_of(settings.merge_steps)
    inputs = [f"write_voc/{split}", masks_key(masks)]
    if settings.start_model:
        inputs.append(f"train_segmenter/{settings.start_model}")
        if before := run_dir.entry(inputs[-1]):
            refuse_start(settings, (settings.defaults() | before["config"])["psl"])
    key = f"train_segmenter/{name}"

    def work(partial, settings):
        from aepsl_tf.data import datasets
        from aepsl_tf.models import model_dir
        from aepsl_tf.models.segmenter import PslStart, Segmenter
        from aepsl_tf.training import pictures, strategies, train

        model_dir.start_over(settings)  # before the scope, which does not outlive it
        with strategies.get(settings.strategy).scope():
            images, fill = datasets.open_training_split(run_dir, split, 1)
            families = [images, records.Family(run_dir.masks(masks))]
            model = Segmenter(settings, len(run_dir.classes()))
            if settings.start_model:
                model_dir.load_weights(model, run_dir.model(settings.start_model))
                logging.info("layers start: all from %s", run_dir.model(settings.start_model))
            else:
                model.load_pretrained(settings.weights)
            draw = pictures.segmenter_overlays(model, families, run_dir.classes())
            online = PslStart() if settings.psl == "full" else None
            facts = train.train(
                model, families, fill, run_dir, key, partial, [online] if online else [], draw
            )
            return facts | ({"psl_start": online.joined()} if online else {})

    reads = {} if settings.start_model else {"weights": settings.weights}
    return run_dir.phase(
        key, settings, inputs, run_dir.model(name), work, together=True, reads=reads,
        choose=choose,
    )  # fmt: skip


if __name__ == "__main__":
    config_flags.run_phase(config.TrainSegmenter, run)
