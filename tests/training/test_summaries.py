"""What TensorBoard finds after a training, killed or not: read as TensorBoard reads it."""

import dataclasses
import pathlib
import subprocess

import numpy as np
import pytest
from tensorboard.backend.event_processing import event_file_loader, plugin_event_accumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util
from training.test_loop import CONFIG, IMAGES, STEPS, Kill, batches, fresh

from aepsl_tf.data import encoding
from aepsl_tf.evaluation import metrics
from aepsl_tf.training import loop, summaries

ROOT = pathlib.Path(__file__).parents[2]
PICTURE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


def life(folder, config=CONFIG, kill=None):
    """One life of a training with TensorBoard; its history, if nothing kills it."""
    board = summaries.TensorBoard(folder / "board", 2, lambda: {"masks": PICTURE})
    checkpoints, callbacks = folder / "checkpoints", [board, *([kill] if kill else [])]
    try:
        return loop.fit(fresh(config), batches, IMAGES, config, checkpoints, callbacks)
    finally:
        board.close()


def train(folder, *kills, config=CONFIG):
    for kill in kills:
        with pytest.raises(KeyboardInterrupt):
            life(folder, config, kill)
    return life(folder, config)


def board(folder):
    """Tag → [(step, value)], as TensorBoard shows it."""
    found = plugin_event_accumulator.EventAccumulator(str(folder / "board")).Reload()
    return {
        tag: [(e.step, tensor_util.make_ndarray(e.tensor_proto)) for e in found.Tensors(tag)]
        for tag in found.Tags()["tensors"]
    }


def written(folder, tag):
    """Steps at which a tag was ever written."""
    events = (e for path in sorted((folder / "board").iterdir())
              for e in event_file_loader.EventFileLoader(str(path)).Load())  # fmt: skip
    return [event.step for event in events for value in event.summary.value if value.tag == tag]


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr(loop, "_LOG_STEPS", 1)


def steps_of(found):
    return {tag: [step for step, _ in values] for tag, values in found.items()}


EXPECTED = {
    "train/loss": list(range(1, 3 * STEPS + 1)),
    "train/learning_rate": list(range(1, 3 * STEPS + 1)),
    "epoch/loss": [3, 6, 9],
    "epoch/images_per_second": [3, 6, 9],
    "masks": [3, 6, 9],
    metadata.SESSION_START_INFO_TAG: [0],
}


def test_numbers_and_pictures_of_a_training(every_step, tmp_path):
    history = train(tmp_path)
    found = board(tmp_path)
    assert steps_of(found) == EXPECTED
    losses = [float(value) for _, value in found["epoch/loss"]]
    np.testing.assert_allclose(losses, [logs["loss"] for logs in history], rtol=1e-6)
    of_first = [float(value) for _, value in found["train/loss"][:STEPS]]
    np.testing.assert_allclose(np.mean(of_first), history[0]["loss"], rtol=1e-6)
    rates = [float(value) for _, value in found["train/learning_rate"]]
    np.testing.assert_allclose([rates[0], rates[-1]], [0.01, 0.001], rtol=1e-6)
    width, height, png = found["masks"][-1][1]
    assert (int(width), int(height)) == (5, 4)
    np.testing.assert_array_equal(encoding.rgb_pixels(png), PICTURE)


@pytest.mark.parametrize(
    ("kills", "seconds", "twice"),
    [
        ([Kill(1, 1)], 0.0, [5]),  # step 5 was logged, and is not in a checkpoint
        ([Kill(0, 2), Kill(2, None)], 0.0, [3, 9]),  # the end of an epoch, too
        ([Kill(1, 0), Kill(2, 0)], 1e9, [1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7]),  # no checkpoint at all
    ],
)
def test_no_step_is_doubled_after_a_kill(kills, seconds, twice, every_step, tmp_path):
    config = dataclasses.replace(CONFIG, checkpoint_seconds=seconds)
    history = train(tmp_path, *kills, config=config)
    found = board(tmp_path)
    assert steps_of(found) == EXPECTED
    losses = [float(value) for _, value in found["epoch/loss"]]
    np.testing.assert_allclose(losses, [logs["loss"] for logs in history], rtol=1e-6)
    ever = written(tmp_path, "train/loss")
    if seconds == 0:  # the files hold more than is shown
        assert sorted(ever) == sorted(EXPECTED["train/loss"] + twice)
    else:  # what came before the first checkpoint of all is another try's
        assert ever == EXPECTED["train/loss"]


def test_lives_of_one_second_and_of_a_clock_that_runs_behind(every_step, monkeypatch, tmp_path):
    """TensorBoard reads the files by name: the names say which life came first."""
    config = dataclasses.replace(CONFIG, checkpoint_seconds=0.0)
    for clock, kill in ((1e9, Kill(0, 1)), (1e9, Kill(1, 1)), (0.9e9, None)):
        monkeypatch.setattr(summaries.time, "time", lambda clock=clock: clock)
        try:
            life(tmp_path, config, kill)
        except KeyboardInterrupt:
            assert kill
        (tmp_path / "board" / "events.out.tfevents.copy").touch()  # not ours
    assert steps_of(board(tmp_path)) == EXPECTED


def test_a_file_that_a_kill_cut_short_hides_nothing(every_step, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        life(tmp_path, kill=Kill(1, 1))
    (cut,) = (tmp_path / "board").iterdir()
    cut.write_bytes(cut.read_bytes()[:-7])
    life(tmp_path)
    assert steps_of(board(tmp_path)) == EXPECTED


def test_the_settings_are_hparams(tmp_path):
    train(tmp_path)
    found = plugin_event_accumulator.EventAccumulator(str(tmp_path / "board")).Reload()
    content = found.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    shown = metadata.parse_session_start_info_plugin_data(content).hparams
    assert shown.keys() == dataclasses.asdict(CONFIG).keys()
    assert shown["learning_rate"].number_value == 0.01
    assert shown["label_loss"].string_value == "softmax"
    assert shown["cache_features"].bool_value is False


def test_every_phase_has_its_directory_and_every_model_its_miou(finished):
    """As the HParams tab shows them: a model's settings beside what it reaches."""
    directories = {path.name for path in (finished.root / "tensorboard").iterdir()}
    trained = {"train_classifier_step_1", "train_classifier_step_2"}
    for name in ("no_psl", "psl", "psl_plus_plus"):
        trained |= {f"train_segmenter_{name}", f"evaluate_{name}"}
        place = finished.root / "tensorboard" / f"evaluate_{name}"
        found = plugin_event_accumulator.EventAccumulator(str(place)).Reload()
        content = found.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
        shown = metadata.parse_session_start_info_plugin_data(content).hparams
        assert shown["psl"].string_value == ("none" if name == "no_psl" else "full")
        for suffix in ("", "_crf"):
            (event,) = found.Tensors(f"miou{suffix}")
            expected = metrics.load(finished.run_dir.evaluation(name))[name + suffix]["miou"]
            np.testing.assert_allclose(tensor_util.make_ndarray(event.tensor_proto), expected)
    assert directories == trained


def test_make_shows_them():
    for variables, folder in (([], "runs/demo"), (["RUN=runs/mine"], "runs/mine")):
        done = subprocess.run(
            ["make", "--no-print-directory", "-n", "tensorboard", *variables],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0
        assert "tensorboard.main" in done.stdout
        assert done.stdout.splitlines()[-1].split() == ["--logdir", f"{folder}/tensorboard"]
