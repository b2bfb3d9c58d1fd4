"""The whole method in one process: tags in, segmenters, numbers and pictures out.

python -m aepsl_tf.pipeline --flagfile=flags/voc2012.flags --run_dir=RUN --voc_root=VOC2012

Phases that are finished are skipped, so a killed run goes on where it stopped.
"""

import pathlib
import types
import typing

from absl import logging

from aepsl_tf import config, config_flags
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation import metrics, summary, tables, verdict
from aepsl_tf.files import to_json, write_atomic
from aepsl_tf.phases import (
    choose_threshold,
    evaluate,
    export,
    make_masks,
    mine_regions,
    relabel,
    report,
    supervised_masks,
    train_classifier,
    train_segmenter,
)
from aepsl_tf.progress import Whole, clock
from data_prep import sources, write_erased, write_saliency, write_voc

_SEGMENTERS = ("no_psl", "psl", "psl_plus_plus", "psl_plus_plus_2", "supervised")
_ROUNDS = {"psl_plus_plus": ("psl", "relabelled"),
           "psl_plus_plus_2": ("psl_plus_plus", "relabelled_2")}  # fmt: skip
"""Segmenter → (whose output it is trained on, what that is called)."""
_PLAIN = {"with_tags": False, "multi_scale": "1", "flip": False}
"""Of `config.Evaluate`: a segmenter's own numbers, which are there whatever else is asked."""


class Step(typing.NamedTuple):
    """One call of a phase.

    Attributes:
      keys: what the manifest calls that which it makes.
      phase: the module whose `run` makes it.
      settings: its `Config`.
    """

    keys: tuple
    phase: types.ModuleType
    settings: config.Config


class Pipeline:
    """Every phase's settings, and the order they run in."""

    def __init__(self, settings, read, run_dir, workers=0):
        """Args: settings: `config.Pipeline`; read: `read(ConfigClass, **changes)` → settings."""
        self.settings, self.read, self.run_dir, self.workers = settings, read, run_dir, workers
        self.segmenters = [n for n in settings.segmenters.split(",") if n]
        wrong = [n for n in self.segmenters if n not in _SEGMENTERS]
        if wrong:
            raise InputError(f"--segmenters: {wrong[0]} is none of {', '.join(_SEGMENTERS)}")
        for index, name in enumerate(self.segmenters):
            before = _ROUNDS[name][0] if name in _ROUNDS else name
            if before not in self.segmenters[: index + 1]:
                raise InputError(f"--segmenters: {name} needs {before} before it")
        self.finish = [n for n in settings.finish.split(",") if n]
        if wrong := set(self.finish) - {"export", "report"}:
            raise InputError(f"--finish: {min(wrong)} is none of export, report")

    # ------------------------------------------------------------------------- the list of steps

    def steps(self):
        """Every step of a run, in order.

        Yields:
          `Step`s. Who runs them sends each one's facts back, for these decide how many steps of
          Algorithm 1 there are; of a step without facts (None) success is assumed.

        Returns:
          How many steps were mined.
        """
        s = self.settings
        settings = {
            split: self.read(config.WriteVoc, split=split,
                             **({} if split == s.train_split else {"ids_file": ""}))
            for split in (s.train_split, s.val_split)
        }  # fmt: skip
        if not self._is_there(settings[s.val_split]):
            told = "there is no split %s: nothing is evaluated on one"
            logging.log_first_n(logging.WARNING, told, 1, s.val_split)
            del settings[s.val_split]
        truth = {split: self._has_truth(one) for split, one in settings.items()}
        needs_truth = self.run_dir.chief and "supervised" in self.segmenters
        if needs_truth and not truth[s.train_split]:
            raise InputError(
                f"--segmenters: supervised needs a mask for every image of {s.train_split}"
            )
        for split, one in settings.items():
            key = f"write_voc/{split}"
            keys = (key, f"{key}/ground_truth") if truth[split] else (key,)
            yield Step(keys, write_voc, one)
        yield self._step(f"write_saliency/{s.train_split}", write_saliency, config.WriteSaliency)
        mined = yield from self._mine()
        merge = self.read(config.MakeMasks).merge_steps
        used = mined if merge == "auto" else min(mined, merge)
        for merged in range(1, mined + 1):
            name = make_masks.name_of(merged)
            yield self._step(
                f"make_masks/{name}", make_masks, config.MakeMasks, merge_steps=merged
            )  # fmt: skip
            if truth[s.train_split]:
                yield self._step(
                    f"evaluate/masks_{name}", evaluate, config.Evaluate, what="masks",
                    split=s.train_split, masks="", merge_steps=merged,
                )  # fmt: skip
        ready = {}
        for name in self.segmenters:
            ready[name] = yield from self._segment(name, used, ready)
            if truth.get(s.val_split):
                for measured, changes in self._measured(name).items():
                    yield self._step(f"evaluate/{measured}", evaluate, config.Evaluate, **changes)
        if self.segmenters and "export" in self.finish:
            last = self.segmenters[-1]
            yield self._step(f"export/{last}", export, config.Export, model=last)
        if "report" in self.finish:
            yield self._step("report", report, config.Report)
        return mined

    def _step(self, key, phase, cls, **changes):
        return Step((key,), phase, self.read(cls, **changes))

    def _is_there(self, settings):
        """Whether a split is written or can be."""
        written = self.run_dir.entry(f"write_voc/{settings.split}") is not None
        return written or bool(sources.of(settings).ids)

    def _has_scores(self, name):
        """Whether a segmenter has a classification branch."""
        if name in ("no_psl", "supervised"):
            return False
        psl = self.read(config.TrainSegmenter).psl if name == "psl" else self.settings.psl_plus_plus
        return psl != "none"

    def _has_truth(self, settings):
        """Whether a split's ground truth is there, or will be."""
        written = self.run_dir.entry(f"write_voc/{settings.split}/ground_truth")
        return written is not None or write_voc.has_truth(settings)

    def _mine(self):
        """Algorithm 1: the steps until training is no success; returns how many were mined.

        With --merge_steps=auto also until a step takes the regions further from the salient area.
        """
        first, best, compared = None, 0.0, 0
        auto = self.read(config.MakeMasks).merge_steps == "auto"
        for t in range(1, self.settings.max_steps + 1):
            name = f"step_{t}"
            if t > 1:
                yield self._step(f"write_erased/{name}", write_erased, config.WriteErased, step=t)
            facts = yield self._step(
                f"train_classifier/{name}", train_classifier, config.TrainClassifier, step=t
            )
            if facts:
                loss = facts["last_epoch"]["loss"]
                first = loss if first is None else first
                if self._failed(t, loss, first):
                    if t == 1:
                        raise InputError(
                            f"M_1 did not converge: loss {loss:.3f} is above --stop_loss="
                            f"{self.settings.stop_loss}; train longer or raise it"
                        )
                    return t - 1
            if self._measures():
                facts = yield self._step(
                    f"choose_threshold/{name}", choose_threshold, config.ChooseThreshold, step=t
                )
                if facts and auto:
                    agreement = facts["agreement"]
                    if t > 1 and agreement <= best:
                        logging.info("--merge_steps=auto: %d, for step %d would take the regions "
                                     "from an IoU of %.3f with the salient area to %.3f",
                                     t - 1, t, best, agreement)  # fmt: skip
                        return t - 1
                    best, compared = agreement, compared + 1
            yield self._step(f"mine_regions/{name}", mine_regions, config.MineRegions, step=t)
        if 1 < compared == self.settings.max_steps:  # a plan does not know of steps to come
            logging.info("--merge_steps=auto: all %d, for each took the regions nearer to the "
                         "salient area", self.settings.max_steps)  # fmt: skip
        return self.settings.max_steps

    def _measures(self):
        """Whether the run measures how its regions meet the salient area."""
        chosen = self.read(config.MakeMasks).merge_steps, self.read(config.MineRegions).threshold
        return "auto" in chosen

    def _failed(self, step, loss, first):
        """Whether "training of classification is success" (Algorithm 1, line 1) no more."""
        s = self.settings
        over = (s.stop_loss and loss > s.stop_loss) or (
            s.stop_loss_ratio and loss > s.stop_loss_ratio * first
        )
        share = loss / first if first else 1.0  # all pictures with the same tags end at 0
        logging.info("step %d: loss %.4f, %.2f of step 1%s", step, loss, share,
                     ": no success, stop" if over else "")  # fmt: skip
        return bool(over)

    def _segment(self, name, merged, ready):
        """A segmenter of --segmenters and, before it, masks of its own.

        Returns:
          Whether its scores are ready for Ŝ; `ready` says so of the segmenters before it.
        """
        changes = {"name": name, "merge_steps": merged, "masks": "", "start_model": ""}
        if name == "no_psl":
            changes["psl"] = "none"
        elif name in _ROUNDS:
            before, masks = _ROUNDS[name]
            yield self._step(
                f"relabel/{masks}", relabel, config.Relabel, model=before, relabelled=masks
            )  # fmt: skip
            start = before if self.settings.psl_plus_plus_from == "psl" else ""
            changes |= {"masks": masks, "start_model": start, "psl": self.settings.psl_plus_plus}
            if changes["psl"] != "full" or (start and ready[before]):
                changes["psl_start"] = 0
        elif name == "supervised":
            yield self._step(
                "supervised_masks/supervised", supervised_masks, config.SupervisedMasks
            )  # fmt: skip
            changes |= {"masks": "supervised", "psl": "none"}
        facts = yield self._step(
            f"train_segmenter/{name}", train_segmenter, config.TrainSegmenter, **changes
        )
        return facts is None or facts.get("last_epoch", {}).get("tag_score", 0) >= config.READY

    def _measured(self, name):
        """How a segmenter is evaluated: plainly and, beside that, with tags and over views where
        these are asked for. Name of the numbers → settings.
        """
        asked = self.read(config.Evaluate)
        plain = {"what": "model", "split": self.settings.val_split, "model": name} | _PLAIN
        with_tags = plain | {"with_tags": asked.with_tags and self._has_scores(name)}
        over_views = plain | {"multi_scale": asked.multi_scale, "flip": asked.flip}
        every = (plain, with_tags, over_views)
        return {evaluate.name_of(self.read(config.Evaluate, **one)): one for one in every}

    # ---------------------------------------------------------------------------- who walks them

    def _walk(self, do):
        """Calls `do(step) -> facts` for every step in turn; returns how many were mined."""
        steps, facts = self.steps(), None
        try:
            while True:
                facts = do(steps.send(facts))
        except StopIteration as end:
            return end.value

    def plan(self):
        """What a run makes, in order: manifest key → whether it is finished."""
        plan = {}

        def look(step):
            done = {key: self.run_dir.entry(key) for key in step.keys}
            plan.update({key: entry is not None for key, entry in done.items()})
            return (done[step.keys[0]] or {}).get("facts")

        self._walk(look)
        return plan

    def check(self):
        """Refuses, before anything is made, what a later phase would: bad settings of any of them,
        and of those that are not finished files and tags, as far as nothing need be decoded.
        """
        classes, untagged, segmenters = None, (), {}
        for step in self.steps():
            if isinstance(step.settings, config.TrainSegmenter):
                segmenters[step.settings.name] = step.settings
            if not self.run_dir.chief or self.run_dir.entry(step.keys[0]):
                continue
            settings = step.settings
            if step.phase is write_voc:
                found = write_voc.check(settings)
                if settings.split == self.settings.train_split:
                    classes, untagged = found
                    if untagged and settings.untagged == "refuse":
                        raise InputError(
                            f"{settings.split}: {len(untagged)} pictures have no tag, the first is "
                            f"{untagged[0]}: nothing can be learned from them; give --labels_csv"
                        )
            elif step.phase is write_saliency:
                write_saliency.check(settings)
            elif isinstance(settings, config.Network):
                before = getattr(settings, "start_model", "")
                if before:
                    train_segmenter.refuse_start(settings, segmenters[before].psl)
                elif settings.backbone != "vgg16" and settings.weights != "none":
                    raise InputError(config.NO_IMAGENET.format_map(vars(settings)))
                if not (settings.is_word("weights") or pathlib.Path(settings.weights).is_file()):
                    raise InputError(f"--weights={settings.weights}: no such file")
                if settings.label_loss == "softmax" and getattr(settings, "psl", "") != "none":
                    if classes and len(classes) == 1:
                        raise InputError(config.ONE_CLASS)
                    if untagged:
                        raise InputError(
                            f"{self.settings.train_split}: {len(untagged)} pictures have no tag: "
                            "--label_loss=softmax cannot learn from them; give "
                            "--label_loss=sigmoid or cross_entropy"
                        )

    def run(self):
        """All of it. Returns the summary."""
        self.check()
        if self.settings.dry_run:
            for key, finished in self.plan().items():
                print(f"{'finished' if finished else 'to do':9} {key}")
            return None
        with self.run_dir.locked():
            if self.run_dir.chief:
                self.run_dir.before_change = self._drop_summary
            self.run_dir.keep_cache = True
            to_do = [k for k, finished in self.plan().items()
                     if not finished and not k.endswith("/ground_truth")]  # fmt: skip
            whole = Whole(to_do, self._took)

            def do(step):
                with whole.step(step.keys[0]):
                    return step.phase.run(step.settings, self.run_dir, self.workers)

            mined = self._walk(do)
            if not self.run_dir.chief:
                return None
            self.run_dir.drop_all_caches()
            numbers = self.summary(mined)
            self._close(numbers, whole)
            return numbers

    def _drop_summary(self):
        """Until there is another, no summary is this run's."""
        (self.run_dir.root / "summary.json").unlink(missing_ok=True)

    def _took(self, key):
        """Seconds that the longest phase of this one's kind took in this run, or None."""
        kind = f"{key.split('/')[0]}/"
        entries = (e for k, e in self.run_dir.manifest().items() if f"{k}/".startswith(kind))
        return max((entry["seconds"] for entry in entries), default=None)

    def summary(self, steps):
        """Writes RUN/summary.json; returns what it holds."""
        found = summary.of_run(
            self.run_dir.manifest(),
            lambda name: metrics.load(self.run_dir.evaluation(name)),
            [make_masks.name_of(step) for step in range(1, steps + 1)],
            self.segmenters,
            range(1, self.settings.max_steps + 1) if self._measures() else (),
            [n for name in self.segmenters for n in self._measured(name)],
        )
        write_atomic(self.run_dir.root / "summary.json", to_json(found))
        return found

    def _close(self, numbers, whole):
        """Prints what took how long, what came out, and where it lies."""
        tables.show(
            ["phase", "images/s", "time"],
            [[key, "–" if rate is None else f"{rate:.1f}", clock(seconds)]
             for key, rate, seconds in whole.rows],
        )  # fmt: skip
        tables.show(
            ["masks of steps", "loss of M_t", "mIoU, labelled", "mIoU, void wrong", "labelled"],
            [
                [f"1 to {k[5:]}", *(tables.number(value) for value in (
                    numbers["classifier_loss"][k], miou, numbers["mask_miou_void_wrong"][k],
                    numbers["mask_labelled_share"][k]))]
                for k, miou in numbers["mask_miou"].items()
            ],
        )  # fmt: skip
        tables.show(
            ["segmenter", "mIoU"],
            [[name, tables.number(miou)] for name, miou in numbers["model_miou"].items()],
        )
        for sentence in verdict.sentences(numbers):
            print(sentence)
        print(f"minutes: {sum(numbers['seconds'].values()) / 60:.1f}")
        page = f"page: {self.run_dir.page}   " if "report" in self.finish else ""
        print(f"{page}numbers: {self.run_dir.root / 'summary.json'}   "
              f"curves: tensorboard --logdir {self.run_dir.root / 'tensorboard'}")  # fmt: skip


def main(argv):
    del argv
    run_dir = config_flags.open_run(config_flags.read(config.TrainClassifier))
    settings = config_flags.read(config.Pipeline)
    Pipeline(settings, config_flags.read, run_dir, config_flags.workers()).run()


if __name__ == "__main__":
    config_flags.run_app(main, config.Pipeline)
