"""What a run's numbers say, in words."""

import itertools

_LITTLE = 0.5  # of the truth's object pixels: below it a model marks next to nothing
_NAMES = {"no_psl": "No PSL", "psl": "PSL", "psl_plus_plus": "PSL++", "supervised": "Supervised"}


def sentences(summary):
    """The sentences that close a run, from the numbers of `pipeline.Pipeline.summary` alone."""

    def counted(miou):  # None where nothing was
        return {name: value for name, value in miou.items() if value is not None}

    return [*_agreement(summary["agreement"]), *_masks(counted(summary["mask_miou_void_wrong"])),
            *_segmenters(counted(summary["model_miou"])),
            *_online_masks(summary["psl_start"]), *_objects(summary["object_share"]),
            *_lengths(summary["still_falling"])]  # fmt: skip


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
    """Of "step_1", "step_2", …: mIoU with unlabelled pixels counted wrong."""
    if len(miou) > 1:
        values = list(miou.values())
        best = values.index(max(values)) + 1
        after = (
            "every step found more of the objects" if best == len(values) else
            f"after step {best} it mined more background than object"
        )  # fmt: skip
        yield (f"Masks: erasing took S from {values[0]:.3f} (step 1) to {values[best - 1]:.3f} "
               f"(steps 1 to {best}); {after}.")  # fmt: skip


def _segmenters(miou):
    models = [name for name in miou if name in _NAMES]
    for before, name in itertools.pairwise(models):
        points = 100 * (miou[name] - miou[before])
        yield (f"{_NAMES[name]}: {miou[name]:.3f}, {abs(points):.1f} points "
               f"{'above' if points >= 0 else 'BELOW'} {_NAMES[before]}.")  # fmt: skip


def _online_masks(starts):
    for name, start in starts.items():
        if start is None:
            yield (f"{_NAMES.get(name, name)}: its scores never got ready, so Ŝ never joined: this "
                   "is the classification branch alone. Train longer.")  # fmt: skip
        elif start:
            yield f"{_NAMES.get(name, name)}: Ŝ joined after {start} epochs, its scores ready."


def _objects(shares):
    for name, (predicted, true) in list(shares.items())[-1:]:
        word = "; it misses most of them" if predicted < _LITTLE * true else ""
        yield (f"Objects: {_NAMES.get(name, name)} marks {predicted:.0%} of the pixels, the truth "
               f"{true:.0%}{word}.")  # fmt: skip


def _lengths(falling):
    short = [name for name, falls in falling.items() if falls]
    if short:
        yield (f"The loss still fell at the end of {', '.join(short)}: longer training may do "
               "better.")  # fmt: skip
