"""What a run's numbers say, in words."""

import itertools

_LITTLE = 0.5  # of the truth's object pixels: below it a model marks next to nothing
NAMES = {"no_psl": "No PSL", "psl": "PSL", "psl_plus_plus": "PSL++",
         "psl_plus_plus_2": "PSL++, second round", "supervised": "Supervised"}  # fmt: skip
"""The pipeline's segmenters in words."""


def sentences(summary):
    """The sentences that close a run, from the numbers of `summary.of_run` alone."""
    return [*_lost(summary["lost"]), *_agreement(summary["agreement"]),
            *_masks(_counted(summary["mask_miou_void_wrong"])),
            *_learned_from(summary["merged"], summary["classifier_loss"]),
            *_segmenters(_counted(summary["model_miou"]), summary["split"]),
            *_online_masks(summary["psl_start"]), *_objects(summary["object_share"]),
            *_lengths(summary["still_falling"])]  # fmt: skip


def of_phases(summary):
    """What the numbers say of single phases, in a few words: the phase's key → a sentence."""
    falling, masks = summary["still_falling"], _counted(summary["mask_miou_void_wrong"])
    said = {
        f"train_classifier/{step}": [f"loss {loss:.3f}", *_falls(falling[step])]
        for step, loss in summary["classifier_loss"].items()
    }
    for step, names in summary["lost"].items():
        said[f"mine_regions/{step}"] = [_unknown(step, names)]
    for step, found in summary["agreement"].items():
        said[f"choose_threshold/{step}"] = [
            f"δ {found['threshold']:g}: regions meet the salient area with an IoU of "
            f"{found['agreement']:.3f}"
        ]
    for step, value in masks.items():
        before = masks.get(f"step_{int(step[5:]) - 1}")
        said[f"make_masks/steps_1_to_{step[5:]}"] = [_of_step(step[5:], before, value)]
    for name, falls in falling.items():
        if name not in summary["classifier_loss"]:
            start = summary["psl_start"].get(name, 0)
            joined = ("Ŝ never joined" if start is None else
                      f"Ŝ joined after {start} epochs" if start else "")  # fmt: skip
            said[f"train_segmenter/{name}"] = [*filter(None, [joined]), *_falls(falls)]
    miou = _counted(summary["model_miou"])
    compared = _compared(miou, summary["split"])
    for name in miou:
        if name.endswith("_crf") and name.removesuffix("_crf") in miou:
            continue  # told beside the plain one
        crf = miou.get(f"{name}_crf")
        said[f"evaluate/{name}"] = [
            f"mIoU {miou[name]:.3f}", *([f"with CRF {crf:.3f}"] if crf is not None else []),
            *filter(None, [compared.get(name)]),
        ]  # fmt: skip
    return {key: "; ".join(parts) for key, parts in said.items() if parts}


def _of_step(step, before, value):
    if before is None:
        return f"masks at {value:.3f}"
    if f"{value:.3f}" == f"{before:.3f}":
        return f"masks stay at {value:.3f}"
    if value < before:
        return f"step {step} over-erases: masks fall from {before:.3f} to {value:.3f}"
    return f"masks rise from {before:.3f} to {value:.3f}"


def _falls(falling):
    return ["the loss still falls"] if falling else []


def _counted(miou):  # None where nothing was
    return {name: value for name, value in miou.items() if value is not None}


def _unknown(step, names):
    return f"M_{step[5:]} does not know {', '.join(names)}"


def _lost(steps):
    for step, names in steps.items():
        of = "it" if len(names) == 1 else "them"
        yield f"{_unknown(step, names)}: what is mined of {of} means little. Tags alone say so."


def _agreement(steps):
    """Of `agreement.Agreement.results` by step."""
    if steps:
        each = ", ".join(
            f"{found['agreement']:.3f} (step {name[5:]}, δ {found['threshold']:g})"
            for name, found in steps.items()
        )
        last, *before = [found["agreement"] for found in reversed(steps.values())]
        end = "; the last one took them further apart" if before and last <= before[0] else ""
        yield f"Regions and salient area: IoU {each}{end}. Tags and saliency alone say so."


def _masks(miou):
    """Of "step_1", "step_2", …: mIoU with unlabelled pixels counted wrong; some may be missing."""
    if len(miou) < 2:
        return
    numbers, values = [int(name[5:]) for name in miou], [round(v, 3) for v in miou.values()]
    best = values.index(max(values))
    if values[-1] < values[best]:
        after = f"after step {numbers[best]} it mined more background than object"
    elif best < len(values) - 1:
        after = f"after step {numbers[best]} it found as much background as object"
    elif all(one < other for one, other in itertools.pairwise(values)):
        after = "every step found more of the objects"
    else:
        after = "not every step before found more of the objects"
    # Of the first and the best: one and the same where erasing did no good.
    shown = [f"{values[i]:.3f} ({merged(numbers[i])})" for i in sorted({0, best})]
    took = f"took S from {shown[0]} to {shown[1]}" if best else f"did not help S, {shown[0]}"
    yield f"Masks: erasing {took}; {after}."


def _learned_from(count, mined):
    if count and count < len(mined):
        yield f"Segmenters learned from S of {merged(count)}; {len(mined)} were mined."


def merged(step):
    """The steps up to one, in words."""
    return "step 1" if step == 1 else f"steps 1 to {step}"


def _segmenters(miou, split):
    for name, said in _compared(miou, split).items():
        if said:
            yield f"{NAMES[name]}: {miou[name]:.3f}, {said}."


def _compared(miou, split):
    """Segmenter → how far above the one before it is; "" of the first, and of one that was measured
    on another split than that.
    """
    models = [name for name in miou if name in NAMES]
    said = dict.fromkeys(models, "")
    for before, name in itertools.pairwise(models):
        if split.get(name) != split.get(before):
            continue
        points = 100 * (miou[name] - miou[before])
        how = f"{abs(points):.1f} points {'above' if points > 0 else 'BELOW'}"
        said[name] = f"{how if round(abs(points), 1) else 'level with'} {NAMES[before]}"
    return said


def _online_masks(starts):
    for name, start in starts.items():
        if start is None:
            yield (
                f"{NAMES.get(name, name)}: Ŝ never joined (--psl_start; auto waits for scores "
                "that are ready): this is the classification branch alone. Train longer."
            )
        elif start:
            yield f"{NAMES.get(name, name)}: Ŝ joined after {start} epochs."


def _objects(shares):
    weak = [name for name in shares if name != "supervised"]  # the ceiling is not what was made
    for name in (weak or list(shares))[-1:]:
        predicted, true = shares[name]
        word = "; it misses most of them" if predicted < _LITTLE * true else ""
        yield (f"Objects: {NAMES.get(name, name)} marks {predicted:.0%} of the pixels, the truth "
               f"{true:.0%}{word}.")  # fmt: skip


def _lengths(falling):
    short = [name for name, falls in falling.items() if falls]
    if short:
        yield (f"The loss still fell at the end of {', '.join(short)}: longer training may do "
               "better.")  # fmt: skip
