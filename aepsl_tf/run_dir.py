"""Every path of a run, and the manifest: what is finished, from what, and what is stale.

A phase makes one thing, a folder or a file. It writes beside its goal (`NAME.partial`) and the
goal is renamed into place when whole, so whatever bears its final name is complete. The manifest
records the intent before the rename and its success after it, so a kill between the two loses
nothing.
"""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import shutil
import time

from absl import logging

from aepsl_tf.classes import ClassSet
from aepsl_tf.config import of_today
from aepsl_tf.errors import InputError
from aepsl_tf.files import (
    Content,
    alone,
    digest,
    files_of,
    read_json,
    remove_at_once,
    sealed,
    settle,
    write_atomic,
)

GROUND_TRUTH_PHASES = ("write_voc", "evaluate", "report", "supervised_masks")
"""The firewall around weak supervision: write_voc makes ground truth, three phases may read it."""


_QUICK = 100_000_000  # bytes whose digest takes no time worth a word
_CHIEF_STARTS = 60.0  # seconds that workers wait for a chief that holds no lock


def is_run(path):
    """Whether a folder is that of a run."""
    return all(os.path.isfile(os.path.join(path, name)) for name in ("manifest.json", ".lock"))


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


def _copy(source, target):
    """A finished output, which nobody changes any more, by hard links where the disk has them."""

    def link(file, beside):
        try:
            os.link(file, beside)
        except OSError:
            shutil.copy2(file, beside)

    if source.is_dir():
        shutil.copytree(source, target, copy_function=link)
    else:
        link(source, target)


def _holds_work(partial):
    """Whether an earlier try got so far as to write something."""
    return partial.is_file() or (partial.is_dir() and any(partial.iterdir()))


_BEGUN = {"config": {str: object}, "inputs": {str: str}, "chosen?": {str: object},
          "seconds?": float}  # fmt: skip
_ENTRY = _BEGUN | {"status": str, "output": str, "digest": str, "facts": {str: object},
                   "seconds": float, "bytes?": int}  # fmt: skip


def _worked(begun, partial, until):
    """Seconds that the last try of a phase worked, as far as the times of its files tell; those of
    this try, `until` whose start it is, count nothing: another worker may be ahead.
    """
    since = begun.stat().st_mtime
    times = [time for file in files_of(partial) if (time := file.stat().st_mtime) <= until]
    return max(max(times, default=since) - since, 0.0)


def _read_json(path, shape, advice):
    """`files.read_json` of what another worker may take away at any time; None where it is gone."""
    try:
        return read_json(path, shape, advice)
    except FileNotFoundError:
        return None


def _bytes(path):
    return sum(file.stat().st_size for file in files_of(path))


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What a phase is to be made from.

    Attributes:
      config: field → its value or, where it names a file that is read, its `Content`; None where
        it could name one and none is read.
      inputs: phase key → digest of that phase's output.
      defaults: of every field, which older manifests may lack.
      unsettled: field that is auto → the values that it may have been settled to.
    """

    config: dict
    inputs: dict
    defaults: dict
    unsettled: dict

    @classmethod
    def of(cls, config, reads, inputs):
        files = {
            name: Content(value, value)
            for name, value in reads.items()
            if isinstance(value, str) and not config.is_word(name)
        }
        return cls(config.identity() | reads | files, inputs, config.defaults(), config.unsettled())

    def settled(self, values):
        """The same, with values of unsettled fields."""
        unsettled = {k: v for k, v in self.unsettled.items() if k not in values}
        return dataclasses.replace(self, config=self.config | values, unsettled=unsettled)

    def to_json(self):
        config = {k: v.to_json() if isinstance(v, Content) else v for k, v in self.config.items()}
        return {"config": config, "inputs": self.inputs}

    def difference(self, before):
        """What `before`, of `to_json`, had otherwise, in words, or None.

        A setting that `before` lacks had its default. Files come last: they may take time.
        """
        recorded = of_today(before["config"])
        old = self.defaults | recorded
        files = {k: v for k, v in self.config.items() if isinstance(v, Content)}
        for name in sorted(self.config.keys() - files.keys()):
            now = self.config[name]
            if old[name] in self.unsettled.get(name, ()):
                continue
            if old[name] != now and not (now is None and old[name] == ""):
                return f"--{name}={_named(old[name])}, now {_named(now)}"
        for name in sorted(recorded.keys() - self.defaults.keys()):
            return f"--{name}={old[name]}, which is no setting any more"
        for name in sorted(self.inputs.keys() | before["inputs"].keys()):
            if self.inputs.get(name) != before["inputs"].get(name):
                return f"another output of {name}"
        for name in sorted(files):
            now, was = files[name], _named(old[name])
            if now.is_same(old[name]):
                continue
            if not isinstance(old[name], dict):
                return f"--{name}={was}, now {now.given or now.path}"
            if not now.there:
                return f"another --{name} ({was}; {now.path} is not there)"
            return f"another --{name} (the content of {now.path} is not the same)"
        return None

    def renewed(self, before):
        """`before`, which differs in nothing, with the places and times of files as they are."""
        config = before["config"]
        files = {k: v.renewed(config[k]) for k, v in self.config.items()
                 if isinstance(v, Content) and k in config}  # fmt: skip
        return before | {"config": config | files}


def _named(value):
    """A setting as a manifest holds it, in words."""
    if value is None:
        return "nothing"
    return value.get("path") or "the default" if isinstance(value, dict) else value


class RunDir:
    """A run's folder.

    Args:
      root: the folder; made when the first phase writes.
      restart: redo phases that were finished or begun with other settings or inputs, instead of
        refusing.
      worker: which worker of a job this is. Worker 0, the chief, runs every phase, holds the lock
        and publishes; the others join the phases that are run together and wait for the rest.
      share: a folder of runs that share what they have in common: what one of them has made with
        the same settings from the same inputs is taken from there, and so are feature caches.
      verify: compare everything that is read with its digest; else large outputs by size alone.
    """

    def __init__(self, root, restart=False, worker=0, share="", verify=False):
        if not str(root):
            raise InputError("--run_dir is empty: name the folder that holds this run's files")
        self.root = pathlib.Path(root)
        self.restart, self.chief, self.verify = restart, worker == 0, verify
        self._checked, self._read, self._opened = set(), None, time.time()
        self._share = pathlib.Path(share) if share else None
        # The pipeline shares feature caches between its phases, runs that share with each other.
        self.keep_cache = bool(share)
        self._holds, self._caches = False, set()
        # Called when a phase is about to be made, made again or taken from another run.
        self.before_change = lambda: None

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

    def threshold(self, step):
        return self.root / f"step_{step}" / "threshold.json"

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
    def page(self):
        """The page of the run, and beside it what it shows: `drawn`."""
        return self.root / "report" / "index.html"

    @property
    def drawn(self):
        return self.root / "report" / "drawn"

    def cache(self, name):
        """The folder of a feature cache. The chief removes it when the phase that asks for it is
        published, so that a killed one finds it, but for what phases or runs share.
        """
        self._caches.add(self._cache / name)
        return self._cache / name

    @property
    def _cache(self):
        return (self._share or self.root) / "cache"

    def _drop_caches(self):
        if not self.keep_cache:
            for folder in self._caches:
                remove_at_once(folder)
        self._caches.clear()

    def drop_all_caches(self):
        """Removes what phases shared; what runs share stays."""
        if not self._share:
            remove_at_once(self._cache)

    def tensorboard(self, key):
        return self.root / "tensorboard" / key.replace("/", "_")

    @property
    def _classes_path(self):
        return self.root / "data" / "classes.json"

    def classes(self):
        """The run's `ClassSet`, as the first split that was written fixed it."""
        path = self._classes_path
        if not path.exists():
            raise InputError(f"{path} is not there: write the training images first "
                             f"({_command('write_voc')})")  # fmt: skip
        shape = ({"classes": [object]}, [object])  # older versions wrote the list alone
        found = read_json(path, shape, "write the run's splits again")
        return ClassSet.from_json(found["classes"] if isinstance(found, dict) else found, path)

    def fix_classes(self, classes, split=""):
        """Records the run's classes; every split must bring the same.

        Args:
          split: whose they are; it may bring others while it is the only one.

        Raises:
          InputError: something else was made with others.
        """
        path = self._classes_path
        if path.exists():
            if self.classes() == classes:
                return
            own = (f"write_voc/{split}", f"write_voc/{split}/ground_truth")
            others = [key for key in self.manifest() if key not in own and self.entry(key)]
            if others:
                data = all(key.startswith("write_") for key in others)
                again = f", or remove {path.parent} to write all splits again" if data else ""
                raise InputError(
                    f"{path} holds other classes than this split: use another --run_dir{again}"
                )
            for key in own:  # what is being redone: its ids mean the old ones
                self.forget(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, sealed({"classes": classes.to_json()}))

    # ---------------------------------------------------------------------------- the manifest

    @property
    def _manifest_path(self):
        return self.root / "manifest.json"

    def manifest(self):
        """Phase key → its entry (status, config, inputs, output digest, facts, seconds)."""
        try:
            stat = os.stat(self._manifest_path)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise InputError(f"--run_dir={self.root}: cannot be read ({error.strerror})") from None
        stamp = stat.st_ino, stat.st_mtime_ns, stat.st_size
        if self._read is None or self._read[0] != stamp:  # asked for by the hundred
            self._read = stamp, self._checked_manifest()
        return {key: dict(entry) for key, entry in self._read[1].items()}

    def _checked_manifest(self):
        advice = "remove it; finished phases will then be redone"
        manifest = _read_json(self._manifest_path, {str: _ENTRY}, advice) or {}
        for key, entry in manifest.items():
            if pathlib.PurePath(entry["output"]).is_absolute() or ".." in entry["output"].split(
                "/"
            ):
                raise InputError(
                    f"{self._manifest_path}: {key!r}: its output lies elsewhere: {advice}"
                )
        return manifest

    def _record(self, key, entry):
        manifest = self.manifest()
        if entry is None:
            manifest.pop(key, None)
        else:
            manifest[key] = entry
        write_atomic(self._manifest_path, sealed(manifest))

    def entry(self, key):
        """The entry of a finished phase, or None."""
        entry = self.manifest().get(key)
        if entry is None:
            return None
        output = self.root / entry["output"]
        partial, begun = _beside(output)
        if entry["status"] == "publishing" and output.exists() and not partial.exists():
            entry["status"] = "finished"  # killed between the rename and the manifest
            if self._holds:  # only who holds the run writes; others may look at any time
                self._record(key, entry)
                begun.unlink(missing_ok=True)
        return entry if entry["status"] == "finished" and output.exists() else None

    def is_current(self, key):
        """Whether a phase is finished, and was made from what its inputs hold today."""
        entry = self.entry(key)
        return entry is not None and all(
            self.is_current(before) and self.entry(before)["digest"] == seen
            for before, seen in entry["inputs"].items()
        )

    def forget(self, key):
        """Removes a finished phase's output and its entry: what it was made from is no more."""
        with self._locked():
            if entry := self.entry(key):
                self._record(key, None)
                _remove(self.root / entry["output"])

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
        if key not in self._checked:
            self._check(key, entry)
            self._checked.add(key)
        return entry

    def _check(self, key, entry):
        """Compares an output with what its phase made: its size, and what is small or is to be
        verified by its digest too.
        """
        output = self.root / entry["output"]
        size = _bytes(output)
        same = size == entry.get("bytes", size)
        if same and (self.verify or size <= _QUICK):
            same = digest(output, _beside(output)[0].name) == entry["digest"]
        if not same:
            raise InputError(
                f"{output}: damaged, it is not what {key} made: remove it and run "
                f"{_command(key)} again"
            )

    @contextlib.contextmanager
    def _locked(self):
        """One writer at a time, and one of all runs that share: they fill the same cache."""
        if self._holds or not self.chief:  # a pipeline or the chief already holds it
            yield
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--run_dir={self.root}: cannot be made ({error.strerror})") from None
        with contextlib.ExitStack() as held:
            for folder, name in ((self.root, ".lock"), (self._share, ".sharing")):
                if folder:
                    message = f"another process is writing to {folder}: wait for it or stop it"
                    # A waiting worker's look at the lock lasts no second.
                    held.enter_context(alone(folder / name, message, patience=1.0))
            self._holds = True
            try:
                yield
            finally:
                self._holds = False

    def locked(self):
        """Holds the run for several phases (the pipeline)."""
        return self._locked()

    def phase(self, key, config, inputs, output, work, together=False, reads=None, choose=None):
        """Runs one phase unless it is finished already.

        Args:
          key: the phase and its instance, such as `train_classifier/step_2`.
          config: its `Config`; only fields that shape the output are compared, and those that
            name files only where `reads` says so.
          inputs: keys of the phases whose outputs this one reads.
          output: the folder (or, with a suffix, the file) it makes.
          work: `work(partial) -> facts`: fills the path `partial`, resuming what it finds there;
            returns a JSON dictionary kept in the manifest, or None.
          together: every worker of a job does the work; else the others wait for the chief's.
          reads: field → the file it names, as the setting has it, or a `Content`, or None where
            no file is read. What the files hold is compared. A finished phase does not need
            them: those that are not there any more are taken to be what they were.
          choose: of a config with fields that may be auto; `choose(field, config) -> (value, why)`
            for one that is, those before it being settled; asked once a run: what was begun,
            finished or chosen for another phase of this run stays, and what another of this kind
            was made with. `work` is called with the settled settings too, `work(partial, config)`.

        Returns:
          The facts.

        Raises:
          InputError: an input is missing, or the phase was done with other settings or inputs;
            the chief has stopped.
        """
        inputs = {k: self.need(k, key)["digest"] for k in inputs}
        wanted = _Wanted.of(config, reads or {}, inputs)

        def made(partial, recorded):
            return work(partial, config.settled(recorded)) if choose else work(partial)

        if not self.chief:
            return self._follow(key, wanted, output, made if together else None)
        with self._locked():
            done = self.entry(key)
            if done is not None and not self._differs(key, done, wanted, "finished"):
                logging.info("%s: finished before, skipped", key)
                renewed = wanted.renewed(done)
                if renewed != done:
                    self._record(key, renewed)
                return done["facts"]
            choices = self._choices(key, wanted)
            values = {name: value for name, (value, _) in choices.items()}
            if taken := self._take(key, wanted.settled(values), output):
                return taken["facts"]
            partial, begun = _beside(output)
            partial.parent.mkdir(parents=True, exist_ok=True)
            # Work without a record of how it was begun cannot be trusted.
            before = self._begun(begun, partial) if _holds_work(partial) else None
            if before is None or self._differs(key, before, wanted, "begun"):
                before = None
                _remove(partial)
            self.before_change()
            if before:
                earlier = before.get("seconds", 0.0) + _worked(begun, partial, self._opened)
                source = wanted.renewed(before) | {"seconds": round(earlier, 1)}
            else:
                earlier, source = 0.0, self._settled(wanted, choices, config, choose)
            write_atomic(begun, sealed(source))
            if not output.suffix:
                partial.mkdir(exist_ok=True)
            logging.info("%s: starts", key)
            start = time.monotonic()
            facts = made(partial, source["config"]) or {}
            settle(partial)
            entry = source | {
                "status": "publishing",
                "output": str(output.relative_to(self.root)),
                "digest": digest(partial),
                "bytes": _bytes(partial),
                "facts": facts,
                "seconds": round(earlier + time.monotonic() - start, 1),
            }
            self._record(key, entry)
            _remove(output)  # after the record: half an old output must not count as finished
            os.replace(partial, output)
            self._record(key, entry | {"status": "finished"})
            begun.unlink(missing_ok=True)
            self._drop_caches()
            logging.info("%s: finished in %.0f s → %s", key, entry["seconds"], output)
            return facts

    def _choices(self, key, wanted):
        """Field that is auto → (its value, why) in this run: as it was chosen for another phase or
        else, for it was chosen nowhere, as another phase of this kind was made.
        """
        others = {k: e for k, e in self.manifest().items() if k != key}
        kind = [e for k, e in others.items() if k.split("/")[0] == key.split("/")[0]]
        found = {}
        for name, values in wanted.unsettled.items():
            chosen = [e for e in others.values() if name in e.get("chosen", {})]
            for entry in chosen + kind:
                value = (wanted.defaults | entry["config"])[name]
                if value in values:
                    why = entry.get("chosen", {}).get(name, "as this run began")
                    found.setdefault(name, (value, why))
        return found

    def _settled(self, wanted, choices, config, choose):
        """The record of a phase that begins: `wanted`, a value in the place of every auto."""
        source = wanted.to_json()
        for name in wanted.unsettled:
            if name in choices:
                value, why = choices[name]
                logging.info("--%s=auto: %s, as this run began", name, value)
            else:
                value, why = choose(name, config)
            config = dataclasses.replace(config, **{name: value})
            source["config"][name] = value
            source["chosen"] = source.get("chosen", {}) | {name: why}
        return source

    def _take(self, key, wanted, output):
        """Takes a phase's output from a run that shares; its entry, or None where no run has it."""
        others = sorted(self._share.glob("*/manifest.json")) if self._share else []
        for path in others:
            other = RunDir(path.parent)
            entry = other.entry(key) if not path.parent.samefile(self.root) else None
            if entry is None or wanted.difference(entry) is not None:
                continue
            if self._classes_path.exists() and self.classes() != other.classes():
                continue  # other names of the same ids: its tables and exports have them
            self.before_change()
            partial, begun = _beside(output)
            partial.parent.mkdir(parents=True, exist_ok=True)
            _remove(partial)
            begun.unlink(missing_ok=True)
            _copy(other.root / entry["output"], partial)
            self.fix_classes(other.classes())
            entry = wanted.renewed(entry) | {"status": "publishing"}
            self._record(key, entry)
            _remove(output)
            os.replace(partial, output)
            self._record(key, entry | {"status": "finished"})
            logging.info("%s: taken from %s", key, other.root)
            return entry
        return None

    def _follow(self, key, wanted, output, work):
        """A phase as a worker that is not the chief goes through it. Returns the facts."""
        partial, begun = _beside(output)
        patience = time.monotonic() + _CHIEF_STARTS
        while True:
            alone = self._is_free()  # before the looks: what it published, it published before
            done = self.entry(key)
            if done and wanted.difference(done) is None:
                return done["facts"]
            if done and not self.restart:
                self._differs(key, done, wanted, "finished")
            before = self._begun(begun, partial)
            if work and before and partial.exists() and wanted.difference(before) is None:
                work(partial, before["config"])
                work = None
            if not alone:
                patience = time.monotonic() + _CHIEF_STARTS
            elif time.monotonic() > patience:
                raise InputError(
                    f"{key}: the chief of this job (worker 0) has stopped, or works on another "
                    f"file system than {self.root}: see its log, then start all workers again"
                )
            time.sleep(0.2)

    def _begun(self, begun, partial):
        return _read_json(begun, _BEGUN, f"remove {partial} to begin this phase again")

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
        what = wanted.difference(before)
        if what is None:
            return False
        if not self.restart:
            raise InputError(
                f"{key} was {how} with {what}: give the old one, use another --run_dir, or add "
                "--restart to redo it"
            )
        logging.info("%s: %s with %s; redone (--restart)", key, how, what)
        return True
