"""The manifest: what is skipped, refused, redone and recovered; the firewall; the lock."""

import json
import subprocess
import sys

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
    path = phase.run.root / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest[KEY]["status"] = "publishing"
    write_atomic(path, json.dumps(manifest))
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
    with pytest.raises(InputError, match="is damaged"):
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


def test_empty_run_dir_is_refused():
    with pytest.raises(InputError, match="--run_dir is empty"):
        RunDir("")


def test_classes_are_fixed_by_the_first_split(tmp_path):
    run = RunDir(tmp_path)
    with pytest.raises(InputError, match="write_voc"):
        run.classes()
    run.fix_classes(VOC)
    run.fix_classes(VOC)
    assert run.classes() == VOC
    with pytest.raises(InputError, match="other classes"):
        run.fix_classes(ClassSet(("cat",), ((1, 2, 3),), (False,)))


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
