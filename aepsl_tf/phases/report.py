"""A run to look at: one page of it, panels of pictures, the paper's figures.

python -m aepsl_tf.phases.report --run_dir=RUN --open
"""

import dataclasses
import itertools
import webbrowser

from absl import logging

from aepsl_tf import config, config_flags
from aepsl_tf.data import records
from aepsl_tf.phases import make_masks

_MODELS = ("psl_plus_plus_2", "psl_plus_plus", "psl", "no_psl", "supervised")


def run(settings, run_dir, workers=0):
    """Draws what the run has finished and writes RUN/report/index.html; see `config.Report`.

    In RUN/report/drawn: CLASS.png, the gallery of the page and, in `figures`: `loss.png` (Figure
    5 a), `over_erased.png` (Figure 5 b: regions of later steps that saliency calls background; no
    ground truth is read for it), and, of a validation split with truth, `worst.png` and `best.png`
    (Figure 4).

    The page is no part of what the manifest has a digest of, for it tells the times of phases. It
    is written each time, from what is drawn and the numbers of that moment.
    """
    del workers
    before = run_dir.entry("report")
    if before and run_dir.chief and run_dir.root / before["output"] != run_dir.drawn:
        run_dir.forget("report")  # of a version that had no page
    found = Found.of(run_dir, settings.train_split)

    def truth(split):
        return records.Family(run_dir.ground_truth(split, "report"))

    def work(partial):
        from aepsl_tf.models import model_dir
        from aepsl_tf.report import drawn

        model_dir.start_over(settings)
        drawn.write(partial, settings, run_dir, found, truth)

    run_dir.phase("report", settings, found.inputs(), run_dir.drawn, work)
    if not run_dir.chief:
        return
    from aepsl_tf.report import page

    with run_dir.locked():
        page.write(run_dir)
    logging.info("report: %s", run_dir.page)
    if settings.open and not webbrowser.open(run_dir.page.resolve().as_uri()):
        logging.warning("no browser opens here: open %s yourself", run_dir.page)


@dataclasses.dataclass(frozen=True)
class Found:
    """What of a run can be drawn.

    Attributes:
      steps: how many were mined.
      step_masks: of each, the masks S of the steps up to it, or None.
      masks: those that a segmenter was trained on, or None.
      model: the segmenter that is shown, or None.
      truth: whether the training split has any.
      measured: whether the model was evaluated.
    """

    split: str
    steps: int
    step_masks: tuple
    masks: str | None
    model: str | None
    truth: bool
    measured: bool

    @classmethod
    def of(cls, run_dir, split):
        every = itertools.count(1)
        steps = next(k for k in every if not run_dir.is_current(f"mine_regions/step_{k}")) - 1
        names = (make_masks.name_of(step) for step in range(1, steps + 1))
        model = next((m for m in _MODELS if run_dir.is_current(f"train_segmenter/{m}")), None)
        return cls(
            split, steps,
            tuple(name if run_dir.is_current(f"make_masks/{name}") else None for name in names),
            _masks(run_dir, steps), model,
            truth=run_dir.entry(f"write_voc/{split}/ground_truth") is not None,
            measured=model is not None and run_dir.is_current(f"evaluate/{model}"),
        )  # fmt: skip

    def inputs(self):
        """The keys of the phases that are drawn from."""
        steps = range(1, self.steps + 1)
        masks = dict.fromkeys(name for name in (*self.step_masks, self.masks) if name)
        return [f"write_voc/{self.split}", *(f"train_classifier/step_{s}" for s in steps),
                *(f"mine_regions/step_{s}" for s in steps),
                *(f"write_erased/step_{s}" for s in steps[1:]),
                *(f"make_masks/{name}" for name in masks),
                *([f"train_segmenter/{self.model}"] if self.model else []),
                *([f"write_saliency/{self.split}"] if self.steps > 1 else []),
                *([f"write_voc/{self.split}/ground_truth"] if self.truth else []),
                *([f"evaluate/{self.model}"] if self.measured else [])]  # fmt: skip


def _masks(run_dir, steps):
    """The masks that a segmenter was trained on; before there is one, those of all steps."""
    for key in ("train_segmenter/psl", "train_segmenter/no_psl"):
        for before in run_dir.entry(key)["inputs"] if run_dir.is_current(key) else ():
            if before.startswith("make_masks/"):
                return before.split("/")[1]
    name = make_masks.name_of(steps)
    return name if run_dir.is_current(f"make_masks/{name}") else None


if __name__ == "__main__":
    config_flags.run_phase(config.Report, run)
