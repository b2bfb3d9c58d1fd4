"""The card beside an exported model: what it is, what from, how good, and what it is not for."""

import collections

from aepsl_tf import config
from aepsl_tf.data import records
from aepsl_tf.evaluation import metrics, tables

_TRAINED = ("backbone", "weights", "freeze_through", "input", "input_size", "precision", "psl",
            "masks", "merge_steps", "label_loss", "classification_weight", "epochs", "global_batch",
            "optimizer", "learning_rate", "start_model", "seed")  # fmt: skip
_POLICY = ("p", "test_policy", "pixel_limit")

_TEMPLATE = """# {model}

A semantic segmenter of {classes} classes and background, made with AE-PSL for TensorFlow (Wei et
al., "Object Region Mining with Adversarial Erasing", CVPR 2017). Its SavedModel is in `1`, names
and colours of its class ids in `classes.json`.

## Learned from

{images} images of the split `{split}`. Supervision: {supervision}.

{tags}

## Measured

{measured}

## Settings

{settings}

## Use and limits

- For pictures like those it learned from, after looking at its results on yours. Not for decisions
  about people, nor where an object that is missed or invented does harm.
- An object of a class that is not listed becomes background or one of the listed.
- Small objects, and objects that touch others, suffer first.
- The scores are no calibrated probabilities.
- How results differ between groups of people or kinds of pictures has not been measured.

## Licence

The code that made it is under the MIT licence. The terms of the training pictures and of pretrained
weights are their owners', and are not told here.
"""


def sources(run_dir, model):
    """Keys of the phases that the card tells of, as far as they are finished and not stale."""
    keys = [f"write_voc/{_trained(run_dir, model)['train_split']}", f"evaluate/{model}"]
    return [key for key in keys if run_dir.is_current(key)]


def text(run_dir, settings):
    """The card as Markdown, without times or paths: the same run always has the same.

    Args:
      settings: a `config.Export`.
    """
    model, trained = settings.model, _trained(run_dir, settings.model)
    shown = {name: trained.get(name) for name in _TRAINED}
    shown |= {name: getattr(settings, name) for name in (*_POLICY, "max_pixels")}
    known, split = sources(run_dir, model), trained["train_split"]
    counts, names = collections.Counter(), run_dir.classes().all_names()
    images = "unknown"
    if f"write_voc/{split}" in known:
        family = records.Family(run_dir.family(split, "images"))
        images = family.images
        for row in family.read():
            counts.update(row["image/labels"] or [0])
    rows = [[name, counts[id_] if counts else "unknown"] for id_, name in enumerate(names) if id_]
    rows += [["(no tag)", counts[0]]] if counts[0] else []
    return _TEMPLATE.format(
        model=model,
        classes=len(names) - 1,
        images=images,
        split=split,
        supervision="**pixel masks** (the supervised ceiling)"
        if trained.get("masks") == "supervised"
        else "image tags; the background by saliency",
        tags=_table(["tag", "images"], rows),
        measured=_measured(run_dir, settings) if f"evaluate/{model}" in known else "Not measured.",
        settings=_table(["setting", "value"], [[f"`--{k}`", _said(v)] for k, v in shown.items()]),
    )


def _trained(run_dir, model):
    recorded = run_dir.need(f"train_segmenter/{model}", "export")["config"]
    return config.TrainSegmenter.defaults() | config.of_today(recorded)


def _measured(run_dir, settings):
    model = settings.model
    asked = config.Evaluate.defaults() | run_dir.entry(f"evaluate/{model}")["config"]
    results = metrics.load(run_dir.evaluation(model))
    others = [f"`--{name}={asked[name]}`" for name in _POLICY
              if asked[name] != getattr(settings, name)]  # fmt: skip
    columns = {name: results[key] for name, key in
               (("alone", model), ("with CRF", f"{model}_crf")) if key in results}  # fmt: skip
    rows = [["mIoU", "miou"], ["pixel accuracy", "pixel_accuracy"]]
    rows = [
        [said, *(tables.number(found[key]) for found in columns.values())] for said, key in rows
    ]
    rows += [[name, *(tables.number(found["iou"][name]) for found in columns.values())]
             for name in results[model]["iou"]]  # fmt: skip
    if others:
        others = [f" **Measured with {', '.join(others)}, which is not what was exported.**"]
    return (
        f"On the {results[model]['images']} images of the split `{asked['split']}`: mIoU, and the "
        "IoU of each class. The CRF is no part of what is exported."
        f"{''.join(others)}\n\n{_table(['', *columns], rows)}"
    )


def _said(value):
    """A setting; of a file what it holds, not where it lies."""
    if isinstance(value, dict):
        return f"a file of sha256 {value['sha256']}" if value.get("sha256") else "a file"
    return "–" if value in ("", None) else value


def _table(columns, rows):
    return "\n".join(tables.markdown(columns, rows))
