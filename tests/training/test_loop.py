"""A training killed anywhere ends with the bytes of one that was not."""

import dataclasses
import functools
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from aepsl_tf import config as configs
from aepsl_tf.data import datasets
from aepsl_tf.errors import InputError
from aepsl_tf.models.classifier import Classifier
from aepsl_tf.training import loop, solver

IMAGES, STEPS = 6, 3
CONFIG = configs.TrainClassifier(
    backbone="vgg16_small", weights="none", input_size=33, input="warp", freeze_through="pool5a",
    epochs=3, lr_drop_epochs="2", global_batch=2, dropout=0.5, checkpoint_seconds=0.0,
    learning_rate=0.01,
)  # fmt: skip


def batches(epoch, position, context, pieces=1):
    rng = np.random.default_rng(0)
    features = tf.constant(rng.uniform(0, 1, (IMAGES, 5, 5, 64)), tf.float32)
    labels = tf.one_hot(rng.integers(0, 3, IMAGES), 3)

    def load(row):
        image = row["image"]
        return {"features": tf.gather(features, image), "labels": tf.gather(labels, image)}

    return datasets.replica_batches(load, IMAGES, 2, 0, epoch, position, context, pieces)


def fresh(config=CONFIG):
    model = Classifier(config, 3)
    model.compile(optimizer=solver.build(model, config, STEPS))
    return model


class Kill(keras.callbacks.Callback):
    """Dies at the end of a step, or of an epoch, before that is checkpointed."""

    def __init__(self, epoch, step=None):
        super().__init__()
        self.at, self.epoch, self.begun = (epoch, step), None, None

    def on_train_begin(self, logs=None):
        self.begun = {k: logs[k] for k in ("epoch", "position")}

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.at:
            raise KeyboardInterrupt

    def on_epoch_end(self, epoch, logs=None):
        if (epoch, None) == self.at:
            raise KeyboardInterrupt


def train(directory, *kills, config=CONFIG, data=batches):
    """Trains with a new model a life; returns (model, history, where the last life began)."""
    for kill in kills:
        with pytest.raises(KeyboardInterrupt):
            loop.fit(fresh(config), data, IMAGES, config, directory, [kill])
    model, watch = fresh(config), Kill(-1)
    history = loop.fit(model, data, IMAGES, config, directory, [watch])
    return model, history, watch.begun


def state(model):
    return [v.numpy() for v in model.tuned.variables + model.optimizer.variables]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    model, history, begun = train(tmp_path_factory.mktemp("whole"))
    assert begun == {"epoch": 0, "position": 0}
    pairs = zip(state(model), state(fresh()), strict=True)
    assert all((a != b).any() for a, b in pairs if a.dtype.kind == "f" and a.size > 1)
    generators = [v for v in model.tuned.variables if "seed" in v.path]
    assert len(generators) == 2  # drop6 and drop7: their states are part of what is compared
    return state(model), history


def same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_history_has_the_mean_loss_of_each_epoch(whole):
    _, history = whole
    assert len(history) == 3 and all(set(h) == {"loss"} and h["loss"] > 0 for h in history)


@pytest.mark.parametrize("kills", [[Kill(1, 1)], [Kill(0, 2), Kill(2, None)]])
def test_resumed_training_is_bit_equal(whole, kills, tmp_path):
    model, history, begun = train(tmp_path, *kills)
    assert begun in ({"epoch": 1, "position": 1}, {"epoch": 2, "position": 2})
    same(state(model), whole[0])
    assert history == whole[1]


def tear(directory, which=-1):
    newest = pathlib.Path(
        tf.train.get_checkpoint_state(directory).all_model_checkpoint_paths[which]
    )
    data = newest.with_name(newest.name + ".data-00000-of-00001")
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])


def test_torn_checkpoint_falls_back_to_the_one_before(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        loop.fit(fresh(), batches, IMAGES, CONFIG, tmp_path, [Kill(1, 2)])
    tear(str(tmp_path))
    model, history, begun = train(tmp_path)
    assert begun == {"epoch": 1, "position": 1}
    same(state(model), whole[0])
    assert history == whole[1]


@pytest.mark.parametrize("listed", [True, False])
def test_torn_checkpoints_are_an_error_that_names_them(listed, tmp_path):
    """Starting over would throw days away without a word."""
    with pytest.raises(KeyboardInterrupt):
        loop.fit(fresh(), batches, IMAGES, CONFIG, tmp_path, [Kill(1, 2)])
    tear(str(tmp_path), 0)
    tear(str(tmp_path), 1)
    if not listed:
        (tmp_path / "checkpoint").unlink()
    with pytest.raises(InputError, match=r"no checkpoint can be restored \(ckpt-4, ckpt-5: ") as e:
        train(tmp_path)
    assert str(tmp_path) in str(e.value) and "\n" not in str(e.value)


def test_checkpoints_are_found_without_tensorflow_s_list(whole, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        loop.fit(fresh(), batches, IMAGES, CONFIG, tmp_path, [Kill(1, 2)])
    (tmp_path / "checkpoint").write_bytes(bytes(100))  # as after a power cut
    model, history, begun = train(tmp_path)
    assert begun == {"epoch": 1, "position": 2}
    same(state(model), whole[0])
    assert history == whole[1]


def test_finished_training_only_restores(whole, tmp_path):
    train(tmp_path)

    def none(epoch, position, context):
        raise AssertionError("no batch is needed")

    model, history, _ = train(tmp_path, data=none)
    same(state(model), whole[0])
    assert history == whole[1]


def test_only_so_many_checkpoints_are_kept(tmp_path):
    train(tmp_path, config=dataclasses.replace(CONFIG, epochs=1, keep=1))
    assert len(list(tmp_path.glob("*.index"))) == 1


def test_keras_s_own_callbacks_are_driven(tmp_path):
    stop = keras.callbacks.EarlyStopping("loss", min_delta=1e9, patience=1)
    board = keras.callbacks.TensorBoard(str(tmp_path / "board"), update_freq="epoch")
    model = fresh()
    history = loop.fit(model, batches, IMAGES, CONFIG, tmp_path / "checkpoints", [stop, board])
    assert len(history) == 2 and stop.stopped_epoch == 1
    assert list((tmp_path / "board").rglob("events*"))
    again = loop.fit(fresh(), batches, IMAGES, CONFIG, tmp_path / "checkpoints", [stop])
    assert len(again) == 3  # without a reason to stop, training goes on from the checkpoint


def test_a_batch_that_cannot_be_cut_evenly_gives_the_same_step(tmp_path):
    """It is filled up for --accumulate, as for replicas (test_strategies)."""
    found = []
    for accumulate in (1, 3):
        config = dataclasses.replace(CONFIG, accumulate=accumulate, dropout=0.0)
        cut = functools.partial(batches, pieces=accumulate)
        model = fresh(config)
        history = loop.fit(model, cut, IMAGES, config, tmp_path / str(accumulate))
        found.append((model.tuned.get_weights(), history[-1]["loss"]))
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5)
    for one, other in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("message", "raised", "told"),
    [
        ("OOM when allocating\nmore", InputError, "OOM when .*give --classifier_accumulate=2 to .* "
         "smaller --classifier_global_batch"),
        ("a.data-0; No space left on device", InputError, "no space is left on the disk"),
        ("B; Too many open files", tf.errors.ResourceExhaustedError, "Too many"),
    ],
)  # fmt: skip
def test_what_is_used_up_is_told(tmp_path, monkeypatch, message, raised, told):
    def exhausted(*_):
        raise tf.errors.ResourceExhaustedError(None, None, message)

    monkeypatch.setattr(Classifier, "train_step", exhausted)
    with pytest.raises(raised, match=told) as caught:
        loop.fit(fresh(), batches, IMAGES, CONFIG, tmp_path)
    assert raised is not InputError or "\n" not in str(caught.value)


def test_no_pieces_are_advised_where_there_are_none():
    error = tf.errors.ResourceExhaustedError(None, None, "OOM")
    told = str(loop._used_up(error, configs.TrainSegmenter(pixel_norm="batch")))
    assert "accumulate" not in told and "--segmenter_global_batch" in told


def poisoned(of_step):
    """`batches` in which labels are no numbers from a step of the first epoch on."""

    def data(epoch, position, context):
        def spoil(step, batch):
            wrong = tf.where(step >= of_step - 1, float("nan"), 0.0)
            return batch | {"labels": batch["labels"] + wrong}

        return batches(epoch, position, context).enumerate().map(spoil)

    return data


def test_loss_that_is_no_number_stops(tmp_path):
    with pytest.raises(InputError, match=r"epoch 1, within steps 2 to 2: lower --lear") as caught:
        loop.fit(fresh(), poisoned(2), IMAGES, CONFIG, tmp_path)
    assert "\n" not in str(caught.value)
    assert [p.stem for p in tmp_path.glob("*.index")] == ["ckpt-1"]  # of step 1


def test_losses_are_read_at_log_steps_only(monkeypatch, tmp_path):
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(logs.get("loss"))

    def history(log_steps):
        seen.clear()
        monkeypatch.setattr(loop, "_LOG_STEPS", log_steps)
        config = dataclasses.replace(CONFIG, epochs=2, checkpoint_seconds=1e9)
        return loop.fit(
            fresh(config), batches, IMAGES, config, tmp_path / str(log_steps), [Watch()]
        )

    every, each = history(1), list(seen)
    assert None not in each
    assert history(2) == every  # to the last bit
    np.testing.assert_allclose(seen[1::3], [np.mean(each[:2]), np.mean(each[3:5])], rtol=1e-12)
    np.testing.assert_allclose(seen[2::3], each[2::3], rtol=1e-12)
    assert seen[::3] == [None, None]
    monkeypatch.setattr(loop, "_LOG_STEPS", 10)
    rare = dataclasses.replace(CONFIG, checkpoint_seconds=1e9)
    with pytest.raises(InputError, match="within steps 1 to 3"):
        loop.fit(fresh(rare), poisoned(2), IMAGES, rare, tmp_path / "poisoned")


def test_no_checkpoint_holds_a_weight_that_is_no_number(tmp_path):
    """The last step breaks the weights after its loss was computed."""

    class Break(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            weight = self.model.tuned.trainable_variables[0]
            weight.assign(weight * float("nan"))

    config = dataclasses.replace(CONFIG, epochs=1, checkpoint_seconds=1e9)
    with pytest.raises(InputError, match="a weight is no number any more after 1 epochs"):
        loop.fit(fresh(config), batches, IMAGES, config, tmp_path, [Break()])
    assert not list(tmp_path.glob("*.index"))


def test_nothing_is_traced_again_after_the_first_epoch(monkeypatch, tmp_path):
    traces, original = [], Classifier.train_step

    def counting(self, batch):
        traces.append("step")
        return original(self, batch)

    def data(*args):
        traces.append("data")
        return batches(*args)

    monkeypatch.setattr(Classifier, "train_step", counting)
    train(tmp_path, data=data)
    assert sorted(traces) == ["data", "step"]
