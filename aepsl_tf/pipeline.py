"""The whole method in one process: tags in, segmenters, numbers and pictures out.

python -m aepsl_tf.pipeline --flagfile=flags/voc2012.flags --run_dir=RUN --voc_root=VOC2012

Phases that are finished are skipped, so a killed run goes on where it stopped.
"""

import json

from absl import logging

from aepsl_tf import config, config_flags
from aepsl_tf.errors import InputError
from aepsl_tf.files import to_json, write_atomic
from aepsl_tf.phases import (
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
from data_prep import write_erased, write_saliency, write_voc

_SEGMENTERS = ("no_psl", "psl", "psl_plus_plus", "supervised")


class Pipeline:
    """Every phase's settings, and the order they run in."""

    def __init__(self, settings, read, run_dir, workers=0):
        """Args: settings: `config.Pipeline`; read: `read(ConfigClass, **changes)` → settings."""
        self.settings, self.read, self.run_dir, self.workers = settings, read, run_dir, workers
        self.segmenters = [n for n in settings.segmenters.split(",") if n]
        wrong = [n for n in self.segmenters if n not in _SEGMENTERS]
        if wrong:
            raise InputError(f"--segmenters: {wrong[0]} is none of {', '.join(_SEGMENTERS)}")
        if "psl_plus_plus" in self.segmenters and "psl" not in self.segmenters:
            raise InputError("--segmenters: psl_plus_plus needs psl before it")
        self.merge_steps = read(config.MakeMasks).merge_steps

    def _do(self, phase, settings):
        return phase.run(settings, self.run_dir, self.workers)

    def data(self):
        """Images and ground truth of both splits, saliency of the training split."""
        for split in (self.settings.train_split, self.settings.val_split):
            changes = {} if split == self.settings.train_split else {"ids_file": ""}
            self._do(write_voc, self.read(config.WriteVoc, split=split, **changes))
        self._do(write_saliency, self.read(config.WriteSaliency))

    def mine(self):
        """Algorithm 1: returns how many steps were mined."""
        first = None
        for step in range(1, self.settings.max_steps + 1):
            if step > 1:
                self._do(write_erased, self.read(config.WriteErased, step=step))
            facts = self._do(train_classifier, self.read(config.TrainClassifier, step=step))
            loss = facts["last_epoch"]["loss"]
            first = loss if first is None else first
            if self._failed(step, loss, first):
                if step == 1:
                    raise InputError(
                        f"M_1 did not converge: loss {loss:.3f} is above --stop_loss="
                        f"{self.settings.stop_loss}; train longer or raise it"
                    )
                return step - 1
            self._do(mine_regions, self.read(config.MineRegions, step=step))
        return self.settings.max_steps

    def _failed(self, step, loss, first):
        """Whether "training of classification is success" (Algorithm 1, line 1) no more."""
        s = self.settings
        over = (s.stop_loss and loss > s.stop_loss) or (
            s.stop_loss_ratio and loss > s.stop_loss_ratio * first
        )
        logging.info("step %d: loss %.4f, %.2f of step 1%s", step, loss, loss / first,
                     ": no success, stop" if over else "")  # fmt: skip
        return bool(over)

    def masks(self, steps):
        """Masks of every number of merged steps, evaluated; returns the steps trained on."""
        for merged in range(1, steps + 1):
            self._do(make_masks, self.read(config.MakeMasks, merge_steps=merged))
            if self._has_truth(self.settings.train_split):
                self._do(evaluate, self.read(
                    config.Evaluate, what="masks", split=self.settings.train_split, masks="",
                    merge_steps=merged))  # fmt: skip
        return min(steps, self.merge_steps)

    def segment(self, steps):
        """The segmenters of --segmenters, each evaluated."""
        for name in self.segmenters:
            changes = {"name": name, "merge_steps": steps, "masks": "", "start_model": ""}
            if name == "no_psl":
                changes["psl"] = "none"
            elif name == "psl_plus_plus":
                self._do(relabel, self.read(config.Relabel, model="psl"))
                start = "psl" if self.settings.psl_plus_plus_from == "psl" else ""
                changes |= {"masks": "relabelled", "start_model": start,
                            "psl": self.settings.psl_plus_plus,
                            "psl_start": "0"}  # fmt: skip
            elif name == "supervised":
                self._do(supervised_masks, self.read(config.SupervisedMasks))
                changes |= {"masks": "supervised", "psl": "none"}
            self._do(train_segmenter, self.read(config.TrainSegmenter, **changes))
            if self._has_truth(self.settings.val_split):
                self._do(evaluate, self.read(
                    config.Evaluate, what="model", split=self.settings.val_split, model=name,
                    with_tags=False))  # fmt: skip

    def _has_truth(self, split):
        return self.run_dir.entry(f"write_voc/{split}/ground_truth") is not None

    def plan(self):
        """What a run will do, a line a phase."""
        lines = [f"write_voc/{s}" for s in (self.settings.train_split, self.settings.val_split)]
        lines.append(f"write_saliency/{self.settings.train_split}")
        for step in range(1, self.settings.max_steps + 1):
            erased = [f"write_erased/step_{step}"] if step > 1 else []
            lines += [*erased, f"train_classifier/step_{step}", f"mine_regions/step_{step}"]
        lines += [f"make_masks/{make_masks.name_of(k)}"
                  for k in range(1, self.settings.max_steps + 1)]  # fmt: skip
        for name in self.segmenters:
            before = {"psl_plus_plus": ["relabel/relabelled"],
                      "supervised": ["supervised_masks/supervised"]}.get(name, [])  # fmt: skip
            lines += [*before, f"train_segmenter/{name}", f"evaluate/{name}"]
        lines += [*([f"export/{self.segmenters[-1]}"] if self.segmenters else []), "report"]
        return lines

    def run(self):
        """All of it. Returns the summary."""
        if self.settings.dry_run:
            for line in self.plan():
                state = "finished" if self.run_dir.entry(line) else "to do"
                print(f"{state:9} {line}")
            return None
        with self.run_dir.locked():
            self.run_dir.keep_cache = True
            self.data()
            steps = self.mine()
            used = self.masks(steps)
            self.segment(used)
            if self.segmenters:
                self._do(export, self.read(config.Export, model=self.segmenters[-1]))
            self._do(report, self.read(config.Report))
            if not self.run_dir.chief:
                return None
            self.run_dir.drop_cache()
            return self.summary(steps)

    def summary(self, steps):
        """RUN/summary.json and a table."""

        def results(name):
            path = self.run_dir.evaluation(name)
            return json.loads(path.read_text()) if path.exists() else {}

        masks = {}
        for step in range(1, steps + 1):
            name = f"masks_{make_masks.name_of(step)}"
            masks[f"step_{step}"] = results(name).get(name)
        models = {k: v["miou"] for name in self.segmenters for k, v in results(name).items()}
        manifest = self.run_dir.manifest()
        summary = {
            "mask_miou": {k: v["miou"] for k, v in masks.items() if v},
            "mask_miou_void_wrong": {k: v["miou_void_wrong"] for k, v in masks.items() if v},
            "mask_labelled_share": {k: v["labelled_share"] for k, v in masks.items() if v},
            "classifier_loss": {
                f"step_{k}": manifest[f"train_classifier/step_{k}"]["facts"]["last_epoch"]["loss"]
                for k in range(1, steps + 1)
            },
            "model_miou": models,
            "seconds": {k: v["seconds"] for k, v in manifest.items()},
        }
        write_atomic(self.run_dir.root / "summary.json", to_json(summary))
        self._print(summary)
        return summary

    def _print(self, summary):
        print("\n| masks S of steps | loss of M_t | mIoU, labelled | mIoU, void wrong | labelled |")
        print("|---|---:|---:|---:|---:|")
        for k, value in summary["mask_miou"].items():
            print(f"| 1 to {k[5:]} | {summary['classifier_loss'][k]:.3f} | {value:.3f} | "
                  f"{summary['mask_miou_void_wrong'][k]:.3f} | "
                  f"{summary['mask_labelled_share'][k]:.3f} |")  # fmt: skip
        print("\n| segmenter | mIoU |\n|---|---:|")
        for name, value in summary["model_miou"].items():
            print(f"| {name} | {value:.3f} |")
        print(f"\nminutes: {sum(summary['seconds'].values()) / 60:.1f}")
        print(f"pictures: {self.run_dir.report}   numbers: {self.run_dir.root / 'summary.json'}   "
              f"curves: tensorboard --logdir {self.run_dir.root / 'tensorboard'}")  # fmt: skip


def main(argv):
    del argv
    run_dir = config_flags.open_run(config_flags.read(config.TrainClassifier))
    settings = config_flags.read(config.Pipeline)
    Pipeline(settings, config_flags.read, run_dir, config_flags.workers()).run()


if __name__ == "__main__":
    config_flags.run_app(main)
