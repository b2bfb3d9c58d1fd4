"""Every path of a run, and the manifest: what is finished, from what, and what is stale.

A phase makes one thing, a folder or a file. It writes beside its goal (`NAME.partial`) and the
goal is renamed into place when whole, so whatever bears its final name is complete. The manifest
records the intent before the rename and its success after it, so a kill between the two loses
nothing.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import time

from absl import logging

from aepsl_tf.classes import ClassSet
from aepsl_tf.errors import InputError
from aepsl_tf.files import digest, to_json, write_atomic

GROUND_TRUTH_PHASES = ("write_voc", "evaluate", "report", "supervised_masks")
"""The firewall around weak supervision: write_voc makes ground truth, three phases may read it."""


_CHIEF_STARTS = 60.0  # seconds that workers wait for a chief that holds no lock


def _command(key):
    phase = key.split("/")[0]
    home = "data_prep" if phase.startswith("write_") else "aepsl_tf.phases"
    return f"python -m {home}.{phase}"


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _beside(output):
    """(where a phase fills its output, the record of how it was begun)."""
    partial = output.with_name(output.name + ".partial")
    return partial, partial.with_name(partial.name + ".json")


def _holds_work(partial):
    """Whether an earlier try got so far as to write something."""
    return partial.is_file() or (partial.is_dir() and any(partial.iterdir()))


class RunDir:
    """A run's folder.

    Args:
      root: the folder; made when the first phase writes.
      restart: redo phases that were finished or begun with other settings or inputs, instead of
        refusing.
      worker: which worker of a job this is. Worker 0, the chief, runs every phase, holds the lock
        and publishes; the others join the phases that are run together and wait for the rest.
    """

    def __init__(self, root, restart=False, worker=0):
        if not str(root):
            raise InputError("--run_dir is empty: name the folder that holds this run's files")
        self.root = pathlib.Path(root)
        self.restart, self.chief = restart, worker == 0
        self.keep_cache = False  # the pipeline shares feature caches between its phases
        self._lock = None

    # ------------------------------------------------------------------------------- the paths

    def family(self, split, name):
        """A record family of a split: images, saliency. Ground truth has a door of its own."""
        if name == "ground_truth":
            raise InputError(
                "pixel ground truth is behind the firewall: only "
                f"{', '.join(GROUND_TRUTH_PHASES)} may open it (RunDir.ground_truth)"
            )
        return self.root / "data" / split / name

    def ground_truth(self, split, phase):
        """Pixel ground truth of a split, for the phases that may open it."""
        if phase not in GROUND_TRUTH_PHASES:
            raise InputError(
                f"{phase} may not open pixel ground truth: supervision is image tags only; "
                f"{', '.join(GROUND_TRUTH_PHASES)} may"
            )
        return self.root / "data" / split / "ground_truth"

    def classifier(self, step):
        return self.root / f"step_{step}" / "classifier"

    def regions(self, step):
        return self.root / f"step_{step}" / "regions"

    def training_images(self, split, step):
        """The images M_t is trained on: the clean ones at step 1, the erased ones after."""
        return self.family(split, "images") if step == 1 else self.root / f"step_{step}" / "erased"

    def masks(self, name):
        return self.root / "masks" / name

    def model(self, name):
        return self.root / name

    def evaluation(self, name):
        return self.root / "eval" / f"{name}.json"

    def export(self, name):
        return self.root / "export" / name

    @property
    def report(self):
        return self.root / "report"

    @property
    def cache(self):
        return self.root / "cache"

    def drop_cache(self):
        """Removes what phases shared."""
        shutil.rmtree(self.cache, ignore_errors=True)

    def tensorboard(self, key):
        return self.root / "tensorboard" / key.replace("/", "_")

    def classes(self):
        """The run's `ClassSet`, as the first split that was written fixed it."""
        path = self.root / "data" / "classes.json"
        if not path.exists():
            raise InputError(f"{path} is not there: write the training images first "
                             f"({_command('write_voc')})")  # fmt: skip
        return ClassSet.load(path)

    def fix_classes(self, classes):
        """Records the run's classes; a later split must bring the same."""
        path = self.root / "data" / "classes.json"
        if path.exists():
            if ClassSet.load(path) == classes:
                return
            raise InputError(f"{path} holds other classes than this split: use another --run_dir")
        if not self.chief:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, to_json(classes.to_json()))

    # ---------------------------------------------------------------------------- the manifest

    @property
    def _manifest_path(self):
        return self.root / "manifest.json"

    def manifest(self):
        """Phase key → its entry (status, config, inputs, output digest, facts, seconds)."""
        if not self._manifest_path.exists():
            return {}
        try:
            return json.loads(self._manifest_path.read_text())
        except json.JSONDecodeError as error:
            raise InputError(f"{self._manifest_path} is damaged ({error}): remove it; finished "
                             "phases will then be redone") from error  # fmt: skip

    def _record(self, key, entry):
        manifest = self.manifest()
        if entry is None:
            manifest.pop(key, None)
        else:
            manifest[key] = entry
        write_atomic(self._manifest_path, to_json(manifest))

    def entry(self, key):
        """The entry of a finished phase, or None."""
        entry = self.manifest().get(key)
        if entry is None:
            return None
        output = self.root / entry["output"]
        partial, begun = _beside(output)
        if entry["status"] == "publishing" and output.exists() and not partial.exists():
            entry["status"] = "finished"  # killed between the rename and the manifest
            if self.chief:
                self._record(key, entry)
                begun.unlink(missing_ok=True)
        return entry if entry["status"] == "finished" and output.exists() else None

    def digest_of(self, output):
        """The digest of a finished phase's output, as its producer recorded it."""
        output = str(output.relative_to(self.root))
        return next(e["digest"] for e in self.manifest().values() if e["output"] == output)

    def need(self, key, for_phase):
        """The entry of a phase that must be finished."""
        entry = self.entry(key)
        if entry is None:
            raise InputError(
                f"{for_phase} needs the output of {key}, which is not finished in {self.root}: "
                f"run {_command(key)} first"
            )
        return entry

    @contextlib.contextmanager
    def _locked(self):
        """One writer at a time; the kernel frees the lock when its holder dies."""
        if self._lock is not None or not self.chief:  # a pipeline or the chief already holds it
            yield
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / ".lock", "w") as lock:
            for attempt in range(5):  # a waiting worker's look at the lock lasts no second
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if attempt == 4:
                        raise InputError(
                            f"another process is writing to {self.root}: wait for it or stop it"
                        ) from None
                    time.sleep(0.2)
            self._lock = lock
            try:
                yield
            finally:
                self._lock = None

    def locked(self):
        """Holds the run for several phases (the pipeline)."""
        return self._locked()

    def phase(self, key, config, inputs, output, work, together=False):
        """Runs one phase unless it is finished already.

        Args:
          key: the phase and its instance, such as `train_classifier/step_2`.
          config: its `Config`; only fields that shape the output are compared.
          inputs: keys of the phases whose outputs this one reads.
          output: the folder (or, with a suffix, the file) it makes.
          work: `work(partial) -> facts`: fills the path `partial`, resuming what it finds there;
            returns a JSON dictionary kept in the manifest, or None.
          together: every worker of a job does the work; else the others wait for the chief's.

        Returns:
          The facts.

        Raises:
          InputError: an input is missing, or the phase was done with other settings or inputs;
            the chief has stopped.
        """
        wanted = {
            "config": config.identity(),
            "inputs": {k: self.need(k, key)["digest"] for k in inputs},
        }
        if not self.chief:
            return self._follow(key, wanted, output, work if together else None)
        with self._locked():
            done = self.entry(key)
            if done is not None and not self._differs(key, done, wanted, "finished"):
                logging.info("%s: finished before, skipped", key)
                return done["facts"]
            partial, begun = _beside(output)
            partial.parent.mkdir(parents=True, exist_ok=True)
            if begun.exists() and _holds_work(partial):
                if self._differs(key, json.loads(begun.read_text()), wanted, "begun"):
                    _remove(partial)
            else:  # nothing yet, or no record of how it was begun: that cannot be trusted
                _remove(partial)
            write_atomic(begun, to_json(wanted))
            if not output.suffix:
                partial.mkdir(exist_ok=True)
            logging.info("%s: starts", key)
            start = time.monotonic()
            facts = work(partial) or {}
            entry = wanted | {
                "status": "publishing",
                "output": str(output.relative_to(self.root)),
                "digest": digest(partial),
                "facts": facts,
                "seconds": round(time.monotonic() - start, 1),
            }
            self._record(key, entry)
            _remove(output)  # after the record: half an old output must not count as finished
            os.replace(partial, output)
            self._record(key, entry | {"status": "finished"})
            begun.unlink()
            logging.info("%s: finished in %.0f s → %s", key, entry["seconds"], output)
            return facts

    def _follow(self, key, wanted, output, work):
        """A phase as a worker that is not the chief goes through it. Returns the facts."""
        partial, begun = _beside(output)
        patience = time.monotonic() + _CHIEF_STARTS
        while True:
            alone = self._is_free()  # before the looks: what it published, it published before
            done = self.entry(key)
            if done and {k: done[k] for k in wanted} == wanted:
                return done["facts"]
            if done and not self.restart:
                self._differs(key, done, wanted, "finished")
            started = partial.exists() and begun.exists()
            if work and started and json.loads(begun.read_text()) == wanted:
                work(partial)
                work = None
            if not alone:
                patience = time.monotonic() + _CHIEF_STARTS
            elif time.monotonic() > patience:
                raise InputError(
                    f"{key}: the chief of this job (worker 0) has stopped, or works on another "
                    f"file system than {self.root}: see its log, then start all workers again"
                )
            time.sleep(0.2)

    def _is_free(self):
        """Whether no chief holds the run."""
        try:
            with open(self.root / ".lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return True
        except FileNotFoundError:
            return True
        except OSError:
            return False

    def _differs(self, key, before, wanted, how):
        """Whether a phase was done otherwise; refuses unless --restart."""
        for kind in ("config", "inputs"):
            old, new = before[kind], wanted[kind]
            for name in sorted(old.keys() | new.keys()):
                if old.get(name) == new.get(name):
                    continue
                what = (
                    f"--{name}={old.get(name)}, now {new.get(name)}"
                    if kind == "config"
                    else f"another output of {name}"
                )
                if not self.restart:
                    raise InputError(
                        f"{key} was {how} with {what}: give the old value, use another --run_dir, "
                        "or add --restart to redo it"
                    )
                logging.info("%s: %s with %s; redone (--restart)", key, how, what)
                return True
        return False
