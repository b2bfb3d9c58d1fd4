"""RUN/report/index.html: one file with everything in it, that asks for nothing else.

`page.html` takes `page.css`, `page.js` and the run as JSON; the script writes names as text and
never as HTML, so no name of a class or a picture can be more than a name.
"""

import base64
import json
import pathlib
import re
import typing

from aepsl_tf import config
from aepsl_tf.evaluation import metrics, summary, verdict
from aepsl_tf.files import write_atomic
from aepsl_tf.models import model_dir
from aepsl_tf.report import gallery

_HERE = pathlib.Path(__file__).parent
_PAIRS = 8  # of confused classes


def write(run_dir):
    """Writes the page; one that would hold the same is left as it is."""
    text = html(of_run(run_dir))
    if not run_dir.page.exists() or run_dir.page.read_bytes() != text.encode():
        write_atomic(run_dir.page, text)


def html(shown):
    """The page of `of_run`: the same bytes for the same run."""
    # Without "<" no text can end the script that holds it. All is ASCII, whatever the names are.
    parts = {"data": json.dumps(shown, sort_keys=True, allow_nan=False).replace("<", "\\u003c")}
    parts |= {name: (_HERE / f"page.{name}").read_text("utf-8") for name in ("css", "js")}
    page = (_HERE / "page.html").read_text("utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], page)


def of_run(run_dir):
    """What the page shows, as JSON holds it: of everything that is finished and not stale."""
    manifest = run_dir.manifest()
    entries = {key: entry for key in manifest if (entry := run_dir.entry(key))}
    current = {key: entry for key, entry in entries.items() if run_dir.is_current(key)}

    def results(name):
        return metrics.load(run_dir.evaluation(name)) if f"evaluate/{name}" in current else {}

    masks = _masks(current)
    trained = [key.split("/")[1] for key in current if key.startswith("train_segmenter/")]
    segmenters = [n for n in verdict.NAMES if n in trained]
    segmenters += sorted(set(trained) - set(segmenters))
    chosen = [int(key.split("_")[-1]) for key in current if key.startswith("choose_threshold/")]
    evaluations = _evaluations(current, segmenters)
    numbers = summary.of_run(
        current, results, masks, segmenters, sorted(chosen), [one.name for one in evaluations]
    )
    said, names = verdict.of_phases(numbers), run_dir.classes().all_names()
    pictures, left_out = gallery.read(run_dir.drawn)
    return {
        "run": run_dir.root.resolve().name,
        "sentences": verdict.sentences(numbers),
        "flow": _flow(entries, current, said),
        "classes": [
            {"name": name, "colour": f"rgb({', '.join(map(str, colour))})"}
            for name, colour in zip(names, run_dir.classes().palette().tolist(), strict=False)],
        "steps": _steps(numbers, len(masks)),
        "losses": _losses(run_dir, current, segmenters),
        "segmenters": _segmenters(numbers["model_miou"], evaluations),
        "results": _results(results, evaluations, masks, names),
        "gallery": [_embedded(picture, run_dir.drawn, names) for picture in _by_failure(pictures)],
        "left_out": left_out,
    }  # fmt: skip


# ---------------------------------------------------------------------------------- the numbers


def _masks(current):
    """The names of the masks of step 1, of steps 1 to 2, …"""
    masks = []
    while f"mine_regions/step_{len(masks) + 1}" in current:
        masks.append(f"steps_1_to_{len(masks) + 1}")
    return masks


class _Evaluation(typing.NamedTuple):
    """An evaluation of a segmenter: what its numbers are called, and in words what they are of."""

    model: str
    name: str
    how: str

    @property
    def title(self):
        return verdict.NAMES.get(self.model, self.model) + self.how


def _evaluations(current, segmenters):
    """Of each segmenter its `_Evaluation`s, the plain one first; where they are not all of one
    split, each says of which.
    """
    every = {key.removeprefix("evaluate/"): entry["config"] for key, entry in current.items()
             if key.startswith("evaluate/")}  # fmt: skip
    every = {name: asked for name, asked in every.items()
             if asked.get("what", "model") == "model" and asked["model"] in segmenters}  # fmt: skip
    several = len({asked["split"] for asked in every.values()}) > 1
    found = []
    for name, asked in every.items():
        scales = asked.get("multi_scale", "1")
        parts = {" with tags as scores": asked.get("with_tags"), " and mirrored": asked.get("flip"),
                 f" at scales {scales}": config.scales(scales) != [1],
                 f" on {asked['split']}": several}  # fmt: skip
        how = "".join(part for part, is_so in parts.items() if is_so)
        found.append(_Evaluation(asked["model"], name, how))
    return sorted(found, key=lambda one: (segmenters.index(one.model), one.how))


_STAGES = {
    "write_voc": "Pictures and tags", "write_saliency": "Pictures and tags",
    "write_erased": "Erase step", "train_classifier": "Erase step",
    "choose_threshold": "Erase step", "mine_regions": "Erase step",
    "make_masks": "Masks S", "relabel": "", "supervised_masks": "", "train_segmenter": "",
    "evaluate": "", "export": "To use and to look at", "report": "To use and to look at",
}  # fmt: skip
"""Phase → its stage, in the order of a run; "" has stages of its own, a segmenter each."""


def _flow(entries, current, said):
    """Stages, in the order of a run: [{"title", "phases": [{"key", "seconds", "said", "stale"}]}].

    The manifest has no order.
    """
    stages = {}
    order = list(_STAGES)

    def place(key):
        phase, _, what = key.partition("/")
        place = order.index(phase) if phase in order else len(order)
        return place, [int(number) for number in re.findall(r"\d+", what)], what

    for key in sorted(entries, key=place):
        stages.setdefault(_stage(key, entries), []).append({
            "key": key, "seconds": entries[key]["seconds"], "said": said.get(key, ""),
            "stale": key not in current,
        })  # fmt: skip
    return [{"title": title, "phases": stages[place, title]} for place, title in sorted(stages)]


def _stage(key, entries):
    """(place, title) of the stage of a phase."""
    phase, _, what = key.partition("/")
    stage = _STAGES.get(phase, "")
    if stage == "Erase step":
        return (1, int(what[5:])), f"{stage} {what[5:]}"
    if what.startswith(("masks_", "regions_")):
        stage = "Masks S"
    if what.startswith("saliency_"):
        stage = "Pictures and tags"
    if stage:
        return (list(_STAGES.values()).index(stage), 0), stage
    name = entries[key]["config"]["model"] if phase == "evaluate" else what
    if phase in ("relabel", "supervised_masks"):  # belongs to the segmenter that is trained on it
        users = [user for user, entry in entries.items() if key in entry["inputs"]]
        name = next((u.split("/")[1] for u in users if u.startswith("train_segmenter/")), name)
    known = list(verdict.NAMES)
    place = known.index(name) if name in known else len(known)
    return (list(_STAGES.values()).index(""), place), f"Segmenter: {verdict.NAMES.get(name, name)}"


def _steps(numbers, count):
    """Of each erase step what its masks are worth; null where it was not measured."""
    measures = ("classifier_loss", "mask_miou", "mask_miou_void_wrong", "mask_labelled_share")
    rows = []
    for step in (f"step_{k}" for k in range(1, count + 1)):
        chosen = numbers["agreement"].get(step, {})
        row = {name: numbers[name].get(step) for name in measures}
        rows.append(row | {name: chosen.get(name) for name in ("threshold", "agreement")})
    return rows


def _losses(run_dir, current, segmenters):
    """The losses an epoch: [{"title", "lines": [{"name", "values"}]}], M_t's and segmenters'."""
    steps = sorted(int(k.split("_")[-1]) for k in current if k.startswith("train_classifier/"))
    folders = {
        "Loss of the classifiers M_t": [(f"step {k}", run_dir.classifier(k)) for k in steps],
        "Loss of the segmenters": [(verdict.NAMES.get(n, n), run_dir.model(n)) for n in segmenters],
    }
    return [
        {"title": title, "lines": [
            {"name": name, "values": [logs["loss"] for logs in model_dir.history(folder)]}
            for name, folder in those]}
        for title, those in folders.items() if those
    ]  # fmt: skip


def _segmenters(miou, evaluations):
    """[{"title", "how", "plain", "crf", "ceiling"}] of `_evaluations`."""
    return [
        {"title": one.title, "how": one.how, "plain": miou[one.name],
         "crf": miou.get(f"{one.name}_crf"), "ceiling": one.model.startswith("supervised")}
        for one in evaluations if one.name in miou
    ]  # fmt: skip


def _results(results, evaluations, masks, names):
    """[{"title", "miou", "iou" by class id, "confused"}]: segmenters, the last ones first, plain
    before others; S.
    """
    found = []
    models = list(dict.fromkeys(one.model for one in evaluations))
    for one in sorted(evaluations, key=lambda one: -models.index(one.model)):
        for name, crf in ((f"{one.name}_crf", " + CRF"), (one.name, "")):
            if name in results(one.name):
                found.append((f"{one.title}{crf}", results(one.name)[name]))
    found.sort(key=lambda pair: pair[0].startswith(verdict.NAMES["supervised"]))
    for step, name in reversed(list(enumerate(masks, start=1))):
        if one := results(f"masks_{name}").get(f"masks_{name}"):
            found.append((f"Masks S of steps 1 to {step}", one))
    return [
        {"title": title, "miou": one["miou"], "iou": [one["iou"][name] for name in names],
         "confused": _confused(one["confusion"])}
        for title, one in found
    ]  # fmt: skip


def _confused(confusion):
    """The pairs that cost most pixels: [true id, said id, share of the true class's pixels]."""
    pairs = sorted(
        ((count, true, said) for true, row in enumerate(confusion)
         for said, count in enumerate(row) if count and said != true), reverse=True,
    )  # fmt: skip
    return [[true, said, count / sum(confusion[true])] for count, true, said in pairs[:_PAIRS]]


# ---------------------------------------------------------------------------------- the gallery


def _by_failure(pictures):
    """Those with erase steps before the others; of either the worst first, unjudged ones last."""

    def place(picture):
        has_steps = any(step for _, step, _ in picture["layers"])
        return not has_steps, picture["iou"] is None, picture["iou"]

    return sorted(pictures, key=place)


def _embedded(picture, folder, names):
    """A picture of `gallery.read` with names for ids and images for files."""

    def data(file):
        encoded = base64.b64encode((folder / file).read_bytes()).decode()
        return f"data:image/webp;base64,{encoded}"

    layers = [{"title": title, "step": step, "image": data(file)}
              for title, step, file in picture["layers"]]  # fmt: skip
    return picture | {"tags": [names[tag] for tag in picture["tags"]], "layers": layers}
