"""The manifest: what is skipped, refused, redone and recovered; the firewall; the lock."""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

from aepsl_tf import config as configs
from aepsl_tf.classes import VOC, ClassSet
from aepsl_tf.errors import InputError
from aepsl_tf.files import digest, write_atomic
from aepsl_tf.run_dir import GROUND_TRUTH_PHASES, RunDir

KEY = "mine_regions/step_1"


class Phase:
    """A phase that counts its calls and leaves what it found."""

    def __init__(self, root, restart=False, text="made", **settings):
        self.run = RunDir(root, restart)
        self.output = self.run.regions(1)
        self.config = configs.MineRegions(**settings)
        self.text, self.calls, self.found = text, 0, []

    def work(self, partial):
        self.calls += 1
        self.found = sorted(p.name for p in partial.iterdir())
        (partial / "file").write_text(self.text)
        return {"calls": self.calls}

    def __call__(self, inputs=()):
        return self.run.phase(KEY, self.config, inputs, self.output, self.work)


def killed(partial):
    (partial / "half").write_text("half")
    raise KeyboardInterrupt


def test_phase_makes_its_output_and_is_then_skipped(tmp_path):
    phase = Phase(tmp_path / "run")
    assert phase() == {"calls": 1}
    assert phase() == {"calls": 1} and phase.calls == 1
    again = Phase(tmp_path / "run")
    assert again() == {"calls": 1} and again.calls == 0
    entry = again.run.entry(KEY)
    assert entry["status"] == "finished" and entry["output"] == "step_1/regions"
    assert entry["digest"] == digest(phase.output)
    names = sorted(p.name for p in phase.output.parent.iterdir())
    assert names == ["regions"]  # neither a partial nor its note


def test_a_file_can_be_the_output(tmp_path):
    run = RunDir(tmp_path)
    output = run.evaluation("psl")
    run.phase("evaluate/psl", configs.Evaluate(), [], output, lambda p: p.write_text("{}") and None)
    assert output.read_text() == "{}"
    assert run.entry("evaluate/psl")["facts"] == {}


def test_another_setting_is_refused_by_flag(tmp_path):
    Phase(tmp_path)()
    other = Phase(tmp_path, threshold=0.3)
    with pytest.raises(InputError, match=r"--threshold=0\.2, now 0\.3") as caught:
        other()
    assert "--restart" in str(caught.value) and "\n" not in str(caught.value)
    assert other.calls == 0 and (other.output / "file").read_text() == "made"


def test_restart_redoes_and_only_what_differs(tmp_path):
    Phase(tmp_path)()
    same = Phase(tmp_path, restart=True)
    same()
    assert same.calls == 0
    other = Phase(tmp_path, restart=True, threshold=0.3, text="new")
    other()
    assert other.calls == 1 and other.found == []
    assert (other.output / "file").read_text() == "new"
    Phase(tmp_path, threshold=0.3)()


def test_changed_input_makes_a_phase_stale(tmp_path):
    def before(text, restart):
        run = RunDir(tmp_path, restart)
        work = lambda p: (p / "w").write_text(text) and None  # noqa: E731
        config = configs.TrainClassifier(seed=len(text))
        run.phase("train_classifier/step_1", config, [], run.classifier(1), work)

    before("a", False)
    Phase(tmp_path)(["train_classifier/step_1"])
    before("bb", True)
    with pytest.raises(InputError, match="another output of train_classifier/step_1"):
        Phase(tmp_path)(["train_classifier/step_1"])
    phase = Phase(tmp_path, restart=True)
    phase(["train_classifier/step_1"])
    assert phase.calls == 1


# --------------------------------------------------------------------------- files by their content


class Training:
    """The chief's training from a weights file, or a word; `again` from a new process."""

    def __init__(self, root, weights, **options):
        self.run, self.calls = RunDir(root / "run", **options), 0
        self.config = configs.TrainClassifier(weights=str(weights))

    def work(self, partial):
        self.calls += 1
        (partial / "file").write_text("made")

    def __call__(self, work=None):
        self.run.phase("train_classifier/step_1", self.config, [], self.run.classifier(1),
                       work or self.work, reads={"weights": self.config.weights})  # fmt: skip
        return self.calls


def test_a_file_is_what_it_holds(tmp_path):
    one, other = tmp_path / "one.h5", tmp_path / "other.h5"
    one.write_text("1")
    assert Training(tmp_path, one)() == 1
    one.rename(other)
    assert Training(tmp_path, other)() == 0  # moved
    other.write_text("2")
    with pytest.raises(InputError, match=r"finished with another --weights \(the content of .*oth"):
        Training(tmp_path, other)()
    redone = Training(tmp_path, other, restart=True)
    assert redone() == 1 and redone() == 1


def test_a_finished_phase_does_not_need_its_files(tmp_path):
    path = tmp_path / "w.h5"
    path.write_text("1")
    Training(tmp_path, path)()
    path.unlink()
    assert Training(tmp_path, path)() == 0
    with pytest.raises(InputError, match=r"another --weights .*w\.h5; .*typo\.h5 is not there"):
        Training(tmp_path, tmp_path / "typo.h5")()


def test_words_stay_words(tmp_path):
    path = tmp_path / "w.h5"
    path.write_text("1")
    Training(tmp_path, "none")()
    assert Training(tmp_path, "none")() == 0
    with pytest.raises(InputError, match="--weights=none, now imagenet"):
        Training(tmp_path, "imagenet")()
    with pytest.raises(InputError, match=r"--weights=none, now .*w\.h5"):
        Training(tmp_path, path)()
    Training(tmp_path, path, restart=True)()
    with pytest.raises(InputError, match=r"--weights=.*w\.h5, now none"):
        Training(tmp_path, "none")()


def test_a_killed_phase_does_not_go_on_with_another_file(tmp_path):
    path = tmp_path / "w.h5"
    path.write_text("1")
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path, path)(killed)
    path.write_text("2")
    with pytest.raises(InputError, match="begun with another --weights"):
        Training(tmp_path, path)()
    path.write_text("1")
    assert Training(tmp_path, path)() == 1
    assert (RunDir(tmp_path / "run").classifier(1) / "half").exists()


def test_a_file_that_is_away_for_a_while_is_not_forgotten(tmp_path):
    path = tmp_path / "w.h5"
    path.write_text("1")
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path, path)(killed)
    path.unlink()
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path, path)(killed)
    path.write_text("2")
    with pytest.raises(InputError, match="begun with another --weights"):
        Training(tmp_path, path)()


def _edit(root, change):
    """A manifest as another version wrote it: `change(config)`."""
    manifest = RunDir(root).manifest()
    for entry in manifest.values():
        change(entry["config"])
    write_atomic(root / "manifest.json", json.dumps(manifest))


def test_a_field_that_an_older_version_lacked_had_its_default(tmp_path):
    Phase(tmp_path)()
    _edit(tmp_path, lambda config: config.pop("threshold_rule"))
    assert Phase(tmp_path)() == {"calls": 1}
    with pytest.raises(InputError, match="--threshold_rule=fraction_of_max, now top_pixels"):
        Phase(tmp_path, threshold_rule="top_pixels")()


def test_a_field_of_another_name_is_read_by_its_new_one(tmp_path):
    """A segmenter of the version that had --psl_start_epoch, where 0 was the default."""
    run, made = RunDir(tmp_path), []

    def train(**settings):
        run.phase(
            "train_segmenter/psl", configs.TrainSegmenter(**settings), [], run.model("psl"),
            lambda partial: made.append(1),
        )  # fmt: skip

    def older(config):
        config.pop("psl_start")
        config["psl_start_epoch"] = 0

    train(psl_start=0)
    _edit(tmp_path, older)
    train(psl_start=0)
    assert made == [1]
    with pytest.raises(InputError, match="--psl_start=0, now auto"):
        train()


@pytest.mark.parametrize("weights", ["imagenet", "imagenet_notop"])
def test_the_word_imagenet_meant_less_once(tmp_path, weights):
    run = Training(tmp_path, "imagenet")
    run()
    _edit(tmp_path / "run", lambda config: config.pop("fc_channels"))
    if weights == "imagenet_notop":
        assert Training(tmp_path, weights)() == 0
    else:
        with pytest.raises(InputError, match="--weights=imagenet_notop, now imagenet"):
            Training(tmp_path, weights)()


def test_a_field_that_is_no_more_is_told(tmp_path):
    Phase(tmp_path)()
    _edit(tmp_path, lambda config: config.update(old_flag=3))
    with pytest.raises(InputError, match="--old_flag=3, which is no setting any more"):
        Phase(tmp_path)()


def test_older_versions_recorded_paths(tmp_path):
    """What the file held is not known then: the path decides, as it did."""
    path = tmp_path / "w.h5"
    path.write_text("1")
    Training(tmp_path, path)()
    _edit(tmp_path / "run", lambda config: config.update(weights=str(path)))
    path.write_text("2")
    assert Training(tmp_path, path)() == 0
    path.rename(tmp_path / "new.h5")
    with pytest.raises(InputError, match=r"--weights=.*w\.h5, now .*new\.h5"):
        Training(tmp_path, tmp_path / "new.h5")()


# ------------------------------------------------------------------------------ several workers


@pytest.mark.parametrize("text", ["1", "2"], ids=["the same file", "another file"])
def test_a_helper_compares_files_too(tmp_path, text, monkeypatch):
    monkeypatch.setattr("aepsl_tf.run_dir._CHIEF_STARTS", 0.0)
    one, other = tmp_path / "w.h5", tmp_path / "of_the_helper.h5"
    one.write_text("1")
    other.write_text(text)
    Training(tmp_path, one)()
    helper = Training(tmp_path, other, worker=1)
    if text == "1":
        assert helper() == 0
    else:
        with pytest.raises(InputError, match="another --weights"):
            helper()


def test_the_chief_publishes_while_a_helper_looks(tmp_path, monkeypatch):
    """Between the helper's look for the record of how a phase was begun and its reading of it."""
    chief, helper = Phase(tmp_path), Phase(tmp_path)
    helper.run = RunDir(tmp_path, worker=1)
    with pytest.raises(KeyboardInterrupt):
        chief.run.phase(KEY, chief.config, [], chief.output, killed)
    read, seen = pathlib.Path.read_bytes, []

    def read_late(path, *args, **kwargs):
        if path.name == "regions.partial.json" and not seen:
            seen.append(path)
            chief()
        return read(path, *args, **kwargs)

    monkeypatch.setattr(pathlib.Path, "read_bytes", read_late)
    facts = helper.run.phase(KEY, helper.config, [], helper.output, helper.work, together=True)
    assert seen and facts == {"calls": 1} and helper.calls == 0


def test_a_look_from_outside_writes_nothing(tmp_path):
    """--dry_run beside a run that is just publishing must not get in its way."""
    phase = Phase(tmp_path)
    phase()
    publishing(phase)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert RunDir(tmp_path).entry(KEY)["status"] == "finished"
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_missing_input_names_its_command(tmp_path):
    with pytest.raises(InputError, match=r"python -m aepsl_tf\.phases\.train_classifier"):
        Phase(tmp_path)(["train_classifier/step_1"])
    with pytest.raises(InputError, match=r"python -m data_prep\.write_voc"):
        Phase(tmp_path)(["write_voc/train/images"])


def test_a_killed_phase_goes_on_with_what_it_had(tmp_path):
    phase = Phase(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        phase.run.phase(KEY, phase.config, [], phase.output, killed)
    assert phase.run.entry(KEY) is None and not phase.output.exists()
    again = Phase(tmp_path)
    again()
    assert again.found == ["half"]
    assert sorted(p.name for p in again.output.iterdir()) == ["file", "half"]


def test_a_resumed_phase_took_as_long_as_all_its_tries(tmp_path):
    for _ in range(2):
        phase = Phase(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            phase.run.phase(KEY, phase.config, [], phase.output, killed)
        partial = phase.output.with_name(f"{phase.output.name}.partial")
        then = partial.stat().st_mtime - 1000
        os.utime(f"{partial}.json", (then, then))
        os.utime(partial / "half", (then, then + 100))
    phase = Phase(tmp_path)
    (partial / "ahead").write_text("by another worker of this job, after a pause")
    os.utime(partial / "ahead", (then, time.time() + 5))
    phase()
    assert 200 <= phase.run.entry(KEY)["seconds"] < 210


def test_begun_with_another_setting(tmp_path):
    phase = Phase(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        phase.run.phase(KEY, phase.config, [], phase.output, killed)
    with pytest.raises(InputError, match=r"begun with --threshold=0\.2, now 0\.3"):
        Phase(tmp_path, threshold=0.3)()
    other = Phase(tmp_path, threshold=0.3, restart=True)
    other()
    assert other.found == []


def test_a_partial_of_unknown_settings_is_not_trusted(tmp_path):
    phase = Phase(tmp_path)
    partial = phase.output.with_name("regions.partial")
    partial.mkdir(parents=True)
    (partial / "stray").write_text("?")
    phase()
    assert phase.found == []


def publishing(phase):
    """The manifest as it is between the intent and the success of the rename."""
    manifest = phase.run.manifest()
    manifest[KEY]["status"] = "publishing"
    write_atomic(phase.run.root / "manifest.json", json.dumps(manifest))
    partial = phase.output.with_name("regions.partial")
    write_atomic(
        partial.with_name("regions.partial.json"),
        json.dumps({k: manifest[KEY][k] for k in ("config", "inputs")}),
    )
    return partial


def test_killed_after_the_rename_is_finished(tmp_path):
    phase = Phase(tmp_path)
    phase()
    publishing(phase)
    again = Phase(tmp_path)
    assert again() == {"calls": 1} and again.calls == 0
    assert again.run.manifest()[KEY]["status"] == "finished"


def test_killed_before_the_rename_goes_on(tmp_path):
    phase = Phase(tmp_path)
    phase()
    phase.output.rename(publishing(phase))
    assert phase.run.entry(KEY) is None
    again = Phase(tmp_path)
    again()
    assert again.calls == 1 and again.found == ["file"]
    assert again.run.entry(KEY)["status"] == "finished"


def test_an_old_output_is_no_longer_finished_once_it_is_being_removed(tmp_path, monkeypatch):
    """Killed while a redone phase clears the old output, half of it must not count as whole."""
    Phase(tmp_path)()
    other = Phase(tmp_path, restart=True, threshold=0.3, text="new")
    remove = "aepsl_tf.run_dir._remove"

    def kill(path):
        if path == other.output:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(remove, kill)
        with pytest.raises(KeyboardInterrupt):
            other()
    assert RunDir(tmp_path).entry(KEY) is None
    again = Phase(tmp_path, threshold=0.3, text="new")
    again()
    assert (again.output / "file").read_text() == "new"


def test_output_that_was_deleted_is_made_again(tmp_path):
    phase = Phase(tmp_path)
    phase()
    (phase.output / "file").unlink()
    phase.output.rmdir()
    phase()
    assert phase.calls == 2


def test_damaged_manifest_is_told(tmp_path):
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json: cannot be read"):
        Phase(tmp_path)()


def test_ground_truth_is_behind_the_firewall(tmp_path):
    run = RunDir(tmp_path)
    with pytest.raises(InputError, match="firewall"):
        run.family("train", "ground_truth")
    for phase in ("train_segmenter", "train_classifier", "mine_regions", "make_masks", "relabel"):
        with pytest.raises(InputError, match=f"{phase} may not open"):
            run.ground_truth("train", phase)
    for phase in GROUND_TRUTH_PHASES:
        assert run.ground_truth("val", phase) == tmp_path / "data" / "val" / "ground_truth"
    assert run.family("val", "images") == tmp_path / "data" / "val" / "images"


def test_training_images_are_clean_first_and_erased_after(tmp_path):
    run = RunDir(tmp_path)
    assert run.training_images("train", 1) == run.family("train", "images")
    assert run.training_images("train", 2) == tmp_path / "step_2" / "erased"


def test_one_writer_at_a_time(tmp_path):
    phase = Phase(tmp_path)
    with phase.run.locked():
        with pytest.raises(InputError, match="another process is writing"):
            Phase(tmp_path)()
        phase()  # its holder may
        phase()
        with pytest.raises(InputError, match="another process is writing"):
            Phase(tmp_path)()  # and still holds it
    other = Phase(tmp_path)
    other()
    assert (phase.calls, other.calls) == (1, 0)


def test_runs_that_share_work_one_at_a_time(tmp_path):
    """They fill the same feature cache."""
    one, other = (RunDir(tmp_path / name, share=tmp_path) for name in "ab")
    message = "another process is writing to"
    with one.locked(), pytest.raises(InputError, match=message), other.locked():
        pass
    with other.locked():
        pass


def test_what_runs_share_has_the_same_class_names(tmp_path):
    """Names stand in tables and exports, and in no digest of masks or models."""
    sets = [ClassSet((name,), ((1, 2, 3),), (False,)) for name in ("cat", "dog")]
    for run, classes, calls in (("one", 0, 1), ("other", 1, 1), ("third", 0, 0)):
        phase = Phase(tmp_path / run)
        phase.run = RunDir(tmp_path / run, share=tmp_path)
        phase.output = phase.run.regions(1)
        phase.run.fix_classes(sets[classes])
        phase()
        assert phase.calls == calls, run


def test_a_cache_goes_when_its_phase_is_published(tmp_path):
    phase = Phase(tmp_path)

    def work(partial):
        phase.run.cache("features").mkdir(parents=True)
        (partial / "file").write_text("made")
        assert phase.run.cache("features").exists()

    phase.work = killed
    other = tmp_path / "cache" / "of_another_phase"
    other.mkdir(parents=True)
    with pytest.raises(KeyboardInterrupt):
        phase()
    phase.work = work
    phase()
    assert list((tmp_path / "cache").iterdir()) == [other]


def test_current_is_what_was_made_from_what_there_is(tmp_path):
    run = RunDir(tmp_path)
    text = "one"

    def make(key, output, inputs=()):
        def work(partial):
            (partial / "file").write_text(text)

        run.phase(key, configs.MineRegions(), inputs, tmp_path / output, work)

    make("a", "a")
    make("b", "b", ["a"])
    make("c", "c", ["b"])
    assert all(map(run.is_current, "abc")) and not run.is_current("d")
    text = "two"
    run.forget("a")
    assert not any(map(run.is_current, "abc")) and not (tmp_path / "a").exists()
    make("a", "a")
    assert run.is_current("a") and not run.is_current("b") and not run.is_current("c")


def test_the_lock_goes_with_its_process(tmp_path):
    hold = (
        "import sys; from aepsl_tf.run_dir import RunDir\n"
        "with RunDir(sys.argv[1]).locked(): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another process is writing"):
            Phase(tmp_path)()
        holder.kill()
    assert Phase(tmp_path)() == {"calls": 1}


@pytest.mark.parametrize("below", ["", "run"])
def test_a_run_dir_that_is_a_file_is_told(tmp_path, below):
    (tmp_path / "file").write_text("text")
    with pytest.raises(InputError, match=r"--run_dir=\S*: cannot be made \("):
        Phase(tmp_path / "file" / below)()


def test_empty_run_dir_is_refused():
    with pytest.raises(InputError, match="--run_dir is empty"):
        RunDir("")


def test_classes_are_fixed_by_the_first_split(tmp_path):
    run = RunDir(tmp_path)
    with pytest.raises(InputError, match="write_voc"):
        run.classes()
    cat = ClassSet(("cat",), ((1, 2, 3),), (False,))
    run.fix_classes(cat)
    run.fix_classes(VOC)  # nothing is written that holds the others
    run.phase("write_voc/train", configs.WriteVoc(), [], run.family("train", "images"),
              lambda partial: None)  # fmt: skip
    run.fix_classes(VOC, "val")
    assert run.classes() == VOC
    for split in ("val", ""):
        with pytest.raises(InputError, match=r"other classes.* remove .*/data to write all"):
            run.fix_classes(cat, split)
    run.fix_classes(cat, "train")
    assert run.classes() == cat
    run.phase(KEY, configs.MineRegions(), [], run.regions(1), lambda partial: None)
    with pytest.raises(InputError, match=r"use another --run_dir$"):
        run.fix_classes(VOC, "train")  # who learned those ids is there


def test_digest_sees_names_and_contents(tmp_path):
    def folder(name, files):
        (tmp_path / name / "sub").mkdir(parents=True)
        for path, text in files.items():
            (tmp_path / name / path).write_text(text)
        return digest(tmp_path / name)

    one = folder("a", {"x": "1", "sub/y": "2"})
    assert one == folder("b", {"sub/y": "2", "x": "1"})
    assert one != folder("c", {"x": "1", "sub/z": "2"})
    assert one != folder("d", {"x": "1", "sub/y": "3"})


def test_write_atomic_replaces_whole(tmp_path):
    path = tmp_path / "a.json"
    write_atomic(path, "long text")
    write_atomic(path, "new")
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["a.json"]
