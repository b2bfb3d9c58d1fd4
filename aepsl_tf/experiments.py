"""The paper's tables and the open choices: every experiment a flagfile, every seed a run.

python -m aepsl_tf.experiments --flagfile=flags/voc2012_subset.flags --voc_root=VOC2012 \
  --runs=RUNS --only=table3,table4 --seeds=3

An experiment is what this command line says, and after it `flags/experiments/NAME.flags`, whose
first line says what it is and whose line `# paper:` which rows of `paper.csv` stand beside it. Each
is run by the pipeline as `RUNS/NAME.seed_K`; what they have in common is made once (--share).
"""

import csv
import json
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import time

from absl import flags, logging

from aepsl_tf import config, config_flags
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation import metrics, tables
from aepsl_tf.files import alone, write_atomic

_FOLDER = config_flags.SHIPPED / "experiments"
_NAMED = ("run_dir", "share", "seed")  # flags of a run that the runner gives itself


def experiments(only):
    """The flagfiles that `only` names, whole or by their beginnings; "" names all."""
    wanted = [name for name in only.split(",") if name] or [""]
    found = {}
    for name in wanted:
        whole = _FOLDER / f"{name}.flags"
        paths = [whole] if whole.exists() else sorted(_FOLDER.glob(f"{name}*.flags"))
        if not paths:
            known = ", ".join(sorted(path.stem for path in _FOLDER.glob("*.flags")))
            raise InputError(f"--only={name}: no experiment begins so; there are {known}")
        found |= {path.stem: path for path in paths}
    return found


def described(path):
    """(what the experiment is, {model: row of paper.csv}) from a flagfile's comments."""
    lines = path.read_text().splitlines()
    paper = [line.removeprefix("# paper:").split() for line in lines if line.startswith("# paper:")]
    return lines[0].removeprefix("# "), dict(pair.split("=") for words in paper for pair in words)


def _given():
    """This command line's flags, but the runner's own, as lines of a flagfile."""
    own = {*config.Experiments.__dataclass_fields__, *_NAMED, "restart", "dry_run"}
    known = {name for cls in config_flags.config_classes() for name in cls.defaults()}
    known |= {f"{p}{name}" for p in ("classifier_", "segmenter_") for name in known}
    known |= {"workers", "runner", "beam_args", "verify"}
    return [
        flags.FLAGS[name].serialize()
        for name in sorted(known - own)
        if name in flags.FLAGS and flags.FLAGS[name].present
    ]


def run_all(settings, found):
    """Runs what is not finished, all experiments of a seed before the next one's.

    Returns:
      The names of those that failed; each has said why.
    """
    runs = pathlib.Path(settings.runs)
    if flags.FLAGS["dry_run"].value:  # which writes nothing
        return _run_all(settings, found, runs, [*_given(), "--dry_run"])
    runs.mkdir(parents=True, exist_ok=True)
    with alone(runs / ".lock", f"other experiments are running in {runs}: wait for them"):
        base = runs / "base.flags"
        write_atomic(base, "".join(f"{line}\n" for line in _given()))
        again = ["--restart"] if flags.FLAGS["restart"].value else []
        return _run_all(settings, found, runs, [f"--flagfile={base}", *again])


def _run_all(settings, found, runs, given):
    failed = []
    todo = [(seed, name) for seed in range(settings.seeds) for name in found]
    for number, (seed, name) in enumerate(todo, start=1):
        folder = runs / f"{name}.seed_{seed}"
        command = [
            sys.executable, "-m", "aepsl_tf.pipeline", *given, f"--flagfile={found[name]}",
            f"--seed={seed}", f"--run_dir={folder}", f"--share={runs}",
        ]  # fmt: skip
        logging.info("experiment %d of %d: %s", number, len(todo), shlex.join(command[1:]))
        if subprocess.run(command, check=False).returncode:
            failed.append(folder.name)
    return failed


# -------------------------------------------------------------------------------------- results


def results_of(folder):
    """What a finished run measured: {"summary", "models": name → `metrics.Confusion.results`,
    "masks": step → the same, "day": of its end, "phases": (key, digest, seconds) of each, which one
    that was taken from another run shares with that}; None where it is not finished.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text())
        manifest = json.loads((folder / "manifest.json").read_text())
        end = time.localtime((folder / "summary.json").stat().st_mtime)
    except FileNotFoundError:
        return None
    masks = {k: f"masks_steps_1_to_{k[5:]}" for k in summary["mask_miou"]}
    found = {}
    for name in (*masks.values(), *summary["model_miou"]):  # with the CRF: in the plain one's file
        found |= metrics.load(folder / "eval" / f"{name}.json")
    return {
        "summary": summary,
        "models": {name: found[name] for name in summary["model_miou"]},
        "masks": {step: found[name] for step, name in masks.items()},
        "day": time.strftime("%Y-%m-%d", end),
        "phases": [(k, manifest[k].get("digest"), s) for k, s in summary["seconds"].items()],
    }


def spread(values):
    """Mean and, of several, standard deviation in percent; – where nothing was measured."""
    values = [100 * value for value in values if value is not None]
    if not values:
        return "–"
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.1f}"


def _table(columns, rows):
    return ["", *tables.markdown(columns, rows), ""]


def _paper(row, classes):
    """The paper's IoU of each of some classes, as shares; {} without a row, and where the paper
    does not have them all: what is not of its classes has nothing beside it.
    """
    if row is None:
        return {}
    with open(_FOLDER / "paper.csv") as file:
        rows = {line.pop("row"): line for line in csv.DictReader(file)}
    if not rows[row].keys() >= set(classes):
        return {}
    return {name: float(rows[row][name]) / 100 for name in classes}


def _every(dictionaries):
    """The keys of any of them, in their order; auto may have mined more steps with one seed."""
    return list(dict.fromkeys(key for one in dictionaries for key in one))


def _masks_table(measured):
    """Of each step's masks; those that an experiment shares with one above are not told again."""
    rows, told = [], set()
    for name, runs in measured.items():
        for step in _every(run["masks"] for run in runs):
            key = f"make_masks/steps_1_to_{step[5:]}"
            made = tuple(digest for run in runs for k, digest, _ in run["phases"] if k == key)
            if made and made in told:
                continue
            told.add(made)
            of_step = [run["masks"][step] for run in runs if step in run["masks"]]
            chosen = [run["summary"]["agreement"].get(step, {}) for run in runs]
            thresholds = {c["threshold"] for c in chosen if c}
            rows.append([
                name, f"1 to {step[5:]}",
                ", ".join(f"{δ:g}" for δ in sorted(thresholds)) or "as set",
                spread(c.get("agreement") for c in chosen),
                ", ".join(f"{run['summary']['classifier_loss'][step]:.3f}" for run in runs
                          if step in run["summary"]["classifier_loss"]),
                *(spread(r[key] for r in of_step)
                  for key in ("labelled_share", "miou", "miou_void_wrong")),
            ])  # fmt: skip
    columns = ["masks S", "steps", "δ", "IoU with the salient area", "loss of M_t", "labelled",
               "mIoU, labelled", "mIoU, unlabelled wrong"]  # fmt: skip
    return _table(columns, rows) if rows else []


def _models(measured):
    """Yields (experiment, model, its results of every seed)."""
    for name, runs in measured.items():
        for model in _every(run["models"] for run in runs):
            yield name, model, [run["models"][model] for run in runs if model in run["models"]]


def _present(results):
    """The classes that have an IoU with any seed: those that are in the truth, or called so."""
    return [c for c in _every(r["iou"] for r in results)
            if any(r["iou"].get(c) is not None for r in results)]  # fmt: skip


def _models_tables(measured, papers):
    """mIoU of every segmenter without and with the CRF; then each class's IoU."""
    rows, by_class = [], []
    every = dict(((name, model), results) for name, model, results in _models(measured))
    columns_of = _every(_present(results) for results in every.values())
    for (name, model), results in every.items():
        present = _present(results)
        of_class = (spread(r["iou"].get(c) for r in results) for c in columns_of)
        by_class.append([f"{name}: {model}", *of_class])
        if paper := _paper(papers[name].get(model), present):
            of_class = (spread([paper.get(c)]) for c in columns_of)
            by_class.append([f"the paper: {papers[name][model]}", *of_class])
        if model.endswith("_crf"):
            continue
        with_crf = every.get((name, f"{model}_crf"), [])
        beside = _paper(papers[name].get(f"{model}_crf"), present)
        run = measured[name]
        share = [r["summary"]["object_share"].get(model) for r in run]
        rows.append([
            name, model, str(len(results)), spread(r["miou"] for r in results),
            spread(r["miou"] for r in with_crf),
            spread([statistics.mean(beside.values())]) if beside else "–",
            ", ".join(f"{s[0] / s[1]:.2f}" for s in share if s and s[1]) or "–",
            ", ".join(_joined(r["summary"]["psl_start"], model) for r in run),
        ])  # fmt: skip
    columns = ["experiment", "segmenter", "seeds", "val mIoU", "with CRF",
               "the paper, same classes", "objects marked / true", "Ŝ from epoch"]  # fmt: skip
    made = _table(columns, rows) if rows else []
    if by_class:
        made += ["IoU by class:", *_table(["", *columns_of], by_class)]
    return made


def _finished(runs, name):
    """{folder's name: what it measured} of the finished runs of an experiment, by seed."""
    folders = [p for p in runs.glob(f"{name}.seed_*") if re.fullmatch(r"\d+", p.suffix[6:])]
    folders.sort(key=lambda path: int(path.suffix[6:]))
    return {p.name: found for p in folders if (found := results_of(p))}


def _joined(starts, model):
    """The epoch (from 1) that Ŝ joined at, never, or – where it was not to join."""
    if model not in starts:
        return "–"
    return "never" if starts[model] is None else str(starts[model] + 1)


def page(asked, runs, command, failed=()):
    """What the folder `runs` has of all experiments, as Markdown.

    Args:
      asked: names of the runs, EXPERIMENT.seed_K, that are `command`'s; others that are there are
        shown too, and said to be another's, as are those that `failed` now.
    """
    measured, papers, told = {}, {}, set()
    wanted, own_runs = {name.rpartition(".")[0] for name in asked}, set(asked) - set(failed)
    lines = [f"By `{command}`; each row alone with `--only=NAME`. "
             "Mean ± standard deviation over seeds, in percent."]  # fmt: skip
    for name, path in experiments("").items():
        found = _finished(runs, name)
        done = list(found.values())
        if done:
            measured[name] = done
        elif name not in wanted:
            continue
        title, papers[name] = described(path)
        phases = {phase for d in done for phase in d["phases"]}
        own, both = (sum(p[-1] for p in some) / 60 for some in (phases - told, phases))
        told |= phases
        lines.append(f"- **{name}**: {title}" + (
            f" {max(d['day'] for d in done)}, {both:.1f} minutes of phases in {len(done)} run(s), "
            f"of them {own:.1f} beside what it shares with those above." if done else
            " Not measured yet."
        ) + ("" if found.keys() <= own_runs else
             f" By an earlier command: {', '.join(n for n in found if n not in own_runs)}."
        ))  # fmt: skip
    if measured:
        lines += [*_masks_table(measured), *_models_tables(measured, papers)]
    return "\n".join(lines) + "\n"


def main(argv):
    del argv
    settings = config_flags.read(config.Experiments)
    if not settings.runs:
        raise InputError("--runs is empty: name the folder for the runs of all experiments")
    for name in _NAMED:
        if flags.FLAGS[name].present:
            raise InputError(f"--{name}: each run gets its own; give --runs, --seeds and --only")
    found, dry = experiments(settings.only), flags.FLAGS["dry_run"].value
    failed = [] if settings.show else run_all(settings, found)
    if settings.show or not dry:
        runs = pathlib.Path(settings.runs)
        asked = [f"{name}.seed_{seed}" for name in found for seed in range(settings.seeds)]
        command = shlex.join(["python", "-m", "aepsl_tf.experiments", *sys.argv[1:]])
        made = page(asked, runs, command, failed)
        print(made)
        if not dry:
            write_atomic(runs / "results.md", made)
            print(f"written to {runs / 'results.md'}")
    if failed:
        raise InputError(f"these runs failed, each with its own line above: {', '.join(failed)}")


if __name__ == "__main__":
    config_flags.run_app(main, config.Experiments)
