"""--precision=auto: what is chosen, that it is kept, and that nothing finished gets stale by it."""

import json

import pytest
import tensorflow as tf

from aepsl_tf import config
from aepsl_tf.classes import ClassSet
from aepsl_tf.errors import InputError
from aepsl_tf.models import backbones, model_dir
from aepsl_tf.phases import train_classifier, train_segmenter
from aepsl_tf.run_dir import RunDir
from aepsl_tf.training import precision

BF16 = "mixed_bfloat16"


# ------------------------------------------------------------------------------------- the choice


@pytest.fixture
def fake(monkeypatch):
    """`fake(seconds…)` is what the tries are said to take from then on; returns who asked."""

    def arm(float32, bfloat16=None):
        asked, seconds = [], {"float32": float32}
        if bfloat16 is not None:
            seconds[BF16] = bfloat16
        monkeypatch.setattr(
            precision, "measure", lambda backbone: asked.append(backbone) or seconds
        )
        return asked

    return arm


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [((0.2, 0.1), BF16), ((0.1, 0.2), "float32"), ((0.1, 0.098), "float32"), ((0.1,), "float32")],
)
def test_the_faster_one_is_chosen_and_a_tie_is_float32(seconds, chosen, fake, caplog):
    asked = fake(*seconds)
    with caplog.at_level("INFO", logger="absl"):
        value, why = precision.choose(config.TrainClassifier(precision="auto"))
    assert value == chosen and list(why.values()) == list(seconds) and asked == ["vgg16"]
    (line,) = (r.getMessage() for r in caplog.records)
    assert line.startswith(f"--precision=auto: {chosen} (") and "float32 " in line
    assert (f"{BF16} " in line) == (len(seconds) == 2 or chosen == BF16)


@pytest.mark.parametrize(
    ("capabilities", "chosen"),
    [([(8, 0)], BF16), ([(9, 0), (7, 5)], "float32"), ([(12, 0)], BF16), ([None], "float32")],
)
def test_gpus_are_known_by_their_compute_capability(capabilities, chosen, fake, monkeypatch):
    details = {i: {"compute_capability": c} if c else {} for i, c in enumerate(capabilities)}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(details))
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
    asked = fake(1.0, 0.1)
    value, why = precision.choose(config.TrainClassifier(precision="auto"))
    assert value == chosen and not asked
    assert why == {"compute_capability": ".".join(map(str, min(c or (0, 0) for c in capabilities)))}


def test_a_real_try():
    found = precision.measure("vgg16_small")
    assert "float32" in found and found.keys() <= {"float32", BF16}
    assert all(0 < seconds < 10 for seconds in found.values())


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [((0.2, 0.1), "taps"), ((0.1, 0.2), "library"), ((0.1, 0.098), "library"),
     ((0.1, 0.096), "taps")],
)  # fmt: skip
def test_the_faster_gradients_are_chosen(seconds, chosen, monkeypatch):
    found = dict(zip(("library", "taps"), seconds, strict=True))
    monkeypatch.setattr(precision, "measure_gradients", lambda config: found)
    settings = config.TrainClassifier(kernel_gradients="auto")
    assert precision.choose_gradients(settings) == (chosen, found)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    value, why = precision.choose_gradients(settings)
    assert value == "library" and "GPU" in why["why"]


def test_a_try_counts_by_the_best_of_several_but_where_it_is_hopeless(monkeypatch):
    """A machine with other work gives any one try any time."""
    tried, took = [], {"a": iter([5, 2, 5]), "unlucky": iter([20, 1, 1]), "hopeless": iter([26])}

    def step(name):
        return lambda: tried.append(name) or name

    monkeypatch.setattr(precision, "_timed", lambda step: next(took[step()]))
    monkeypatch.setattr(precision, "_SECONDS", 0.0)
    best = precision._best({name: lambda name=name: step(name) for name in took})
    assert best == {"a": 2, "unlucky": 1, "hopeless": 26}
    assert [tried.count(name) for name in took] == [4, 4, 2]


def test_a_real_try_of_the_gradients(monkeypatch):
    tapped, convolve = [], backbones.convolve
    monkeypatch.setattr(
        backbones, "convolve", lambda *given: tapped.append(given[2]) or convolve(*given)
    )
    settings = config.TrainClassifier(input_size=65, fc_channels=32, freeze_through="conv4")
    found = precision.measure_gradients(settings)
    assert found.keys() == {"library", "taps"} and all(0 < s < 10 for s in found.values())
    assert sorted(tapped) == [2, 12]  # conv5's dilation and fc6's, by taps once each


def test_the_gradients_of_fewer_channels_are_tried_by_one_of_their_shapes(monkeypatch):
    """Each shape is a race; all that see 512 channels count for both ways of taps."""
    raced = []

    def best(made, share):
        shapes = {one.args[2:] for one in made.values()}
        raced.extend(shapes)
        few = max(shapes)[0] < 512
        return {"library": 1.0, "all_taps": 10.0 if few else 0.25}

    monkeypatch.setattr(precision, "_best", best)
    found = precision.measure_gradients(config.TrainClassifier(freeze_through="none"))
    # Of the six shapes of fewer channels three have the middle one's work, three twice as much.
    assert found == {"library": 4.0 + 9, "taps": 1.0 + 9, "all_taps": 1.0 + 90}
    assert (128, 256, 3, 1, 4) in raced and len(raced) == 5


def test_a_machine_without_taps_has_the_library(monkeypatch):
    monkeypatch.setattr(precision, "_best", lambda made, share: {"library": 1.0})
    found = precision.measure_gradients(config.TrainClassifier(freeze_through="conv4"))
    assert found.keys() == {"library"}
    monkeypatch.setattr(precision, "_best", lambda made, share: {})
    assert precision.choose_gradients(config.TrainClassifier())[0] == "library"


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [((1, 0.98, 0.975), "library"), ((1, 0.9, 0.89), "taps"), ((1, 0.9, 0.8), "all_taps"),
     ((1, 1.1, 0.9), "all_taps")],
)  # fmt: skip
def test_a_further_way_is_taken_where_it_is_worth_leaving_the_plainer(seconds, chosen, monkeypatch):
    found = dict(zip(("library", "taps", "all_taps"), seconds, strict=True))
    monkeypatch.setattr(precision, "measure_gradients", lambda config: found)
    assert precision.choose_gradients(config.TrainClassifier())[0] == chosen


def test_nothing_is_tried_where_taps_never_apply(monkeypatch, caplog):
    monkeypatch.setattr(precision, "measure_gradients", lambda config: pytest.fail("tried"))
    settings = config.TrainClassifier(backbone="vgg16_small", kernel_gradients="auto")
    with caplog.at_level("INFO", logger="absl"):
        value, why = precision.choose_gradients(settings)
    assert value == "library" and why == {"why": caplog.messages[0].split("(")[1].rstrip(")")}
    assert "no convolution that learns" in why["why"]


def test_gradients_are_chosen_for_the_precision_that_was(tmp_path):
    asked = []

    def choose(name, settings):
        asked.append((name, settings.precision))
        return {"precision": BF16, "kernel_gradients": "taps"}[name], {}

    settings = config.TrainClassifier(precision="auto", kernel_gradients="auto")
    made = []
    RunDir(tmp_path / "run").phase(
        "train_classifier/step_1", settings, [], tmp_path / "run/out",
        lambda partial, settled: made.append(settled), choose=choose,
    )  # fmt: skip
    assert asked == [("precision", "auto"), ("kernel_gradients", BF16)]
    assert made[0].precision == BF16 and made[0].kernel_gradients == "taps"


def test_what_cannot_be_trained_in_is_left_out(monkeypatch, capfd):
    layer = precision._layer

    def refusing(filters, dilation, name):
        if name == BF16:
            raise tf.errors.AbortedError(None, None, "no such instruction")
        return layer(filters, dilation, name)

    monkeypatch.setattr(precision, "_layer", refusing)
    assert precision.measure("vgg16_small").keys() == {"float32"}


def test_no_network_is_built_in_auto():
    with pytest.raises(InputError, match="--precision=auto: no network is built so"):
        backbones.build(config.TrainClassifier(precision="auto"))


# -------------------------------------------------------------------------------- what is recorded


class Phase:
    """A training phase that notes the precision it is called with, in place of training."""

    def __init__(self, root):
        self.root, self.seen = root, []

    def __call__(
        self, wanted, choose=None, key="train_classifier/step_1", die=False, worker=0, share=""
    ):
        run_dir = RunDir(self.root, worker=worker, share=share)

        def work(partial, settings):
            self.seen.append(settings.precision)
            (partial / "weights").write_text(settings.precision)
            if die:
                raise KeyboardInterrupt

        def chosen(name, settings):
            assert name == "precision"
            assert choose, "nothing was to be chosen"
            return choose, {"float32": 0.2, BF16: 0.1}

        settings = config.TrainClassifier(precision=wanted)
        output = run_dir.root / key.replace("/", "_")
        run_dir.phase(key, settings, [], output, work, together=True, choose=chosen)
        return run_dir.entry(key)


@pytest.fixture
def phase(tmp_path):
    return Phase(tmp_path / "run")


def test_the_choice_is_recorded_and_not_made_again(phase):
    entry = phase("auto", choose=BF16)
    assert entry["config"]["precision"] == BF16
    assert entry["chosen"] == {"precision": {"float32": 0.2, BF16: 0.1}}
    assert phase("auto") == phase(BF16) == entry
    with pytest.raises(InputError, match="--precision=mixed_bfloat16, now float32"):
        phase("float32")
    assert phase.seen == [BF16]


def test_a_run_chooses_once(phase):
    phase("auto", choose=BF16)
    entry = phase("auto", key="train_classifier/step_2")
    assert entry["config"]["precision"] == BF16 and "chosen" in entry
    assert phase.seen == [BF16, BF16]


@pytest.mark.parametrize("given", ["float32", BF16])
def test_a_run_goes_on_as_it_began_before_there_was_auto(given, phase):
    phase(given)
    entry = phase("auto", key="train_classifier/step_2")
    assert entry["config"]["precision"] == given and "chosen" in entry


def test_one_network_s_precision_is_not_the_other_s(phase):
    phase("float32")
    entry = phase("auto", choose=BF16, key="train_segmenter/psl")
    assert entry["config"]["precision"] == BF16


def test_an_older_manifest_had_the_default(phase):
    phase("float32")
    run_dir = RunDir(phase.root)
    entry = run_dir.entry("train_classifier/step_1")
    del entry["config"]["precision"]
    run_dir._record("train_classifier/step_1", entry)
    assert phase("auto", key="train_classifier/step_2")["config"]["precision"] == "float32"


def test_nothing_is_taken_from_a_run_that_chose_otherwise(tmp_path):
    ours, theirs = Phase(tmp_path / "ours"), Phase(tmp_path / "theirs")
    RunDir(theirs.root).fix_classes(ClassSet(("cat",), ((9, 9, 9),), (False,)))
    theirs("auto", choose="float32", share=tmp_path)
    theirs("auto", key="train_classifier/step_2", share=tmp_path)
    ours("auto", choose=BF16)
    ours("auto", key="train_classifier/step_2", share=tmp_path)
    assert ours.seen == [BF16, BF16]


def test_who_takes_the_first_takes_the_choice_too(tmp_path):
    ours, theirs = Phase(tmp_path / "ours"), Phase(tmp_path / "theirs")
    RunDir(theirs.root).fix_classes(ClassSet(("cat",), ((9, 9, 9),), (False,)))
    theirs("auto", choose=BF16, share=tmp_path)
    entry = ours("auto", share=tmp_path)
    assert entry["config"]["precision"] == BF16 and entry["chosen"]
    assert ours("auto", key="train_classifier/step_2", share=tmp_path)["config"] == entry["config"]
    assert ours.seen == [BF16]


@pytest.mark.parametrize("given", ["float32", BF16])
def test_what_was_given_before_is_not_stale(given, phase):
    entry = phase(given)
    assert "chosen" not in entry and phase("auto") == entry
    assert phase.seen == [given]


def test_float16_is_none_that_auto_stands_for(phase):
    phase("mixed_float16")
    with pytest.raises(InputError, match="--precision=mixed_float16, now auto"):
        phase("auto")


@pytest.mark.parametrize("given", ["auto", "float32"])
def test_what_was_begun_goes_on_as_it_was(given, phase):
    with pytest.raises(KeyboardInterrupt):
        phase(given, choose="float32", die=True)
    entry = phase("auto")  # who would choose now is not asked
    assert entry["config"]["precision"] == "float32" and phase.seen == ["float32", "float32"]
    assert ("chosen" in entry) == (given == "auto")


def test_workers_take_the_chief_s_choice(phase, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        phase("auto", choose=BF16, die=True)
    monkeypatch.setattr("aepsl_tf.run_dir._CHIEF_STARTS", 0.0)  # for want of a chief
    with pytest.raises(InputError, match="the chief of this job"):
        phase("auto", worker=1)
    assert phase.seen == [BF16, BF16]


# ----------------------------------------------------------------------------------- the two phases


def test_a_finished_classifier_is_not_trained_again(run_copy, read, fake):
    asked = fake(1.0, 0.1)
    before = run_copy.manifest()
    train_classifier.run(read(config.TrainClassifier, step=1, precision="auto"), run_copy, 1)
    assert run_copy.manifest() == before and not asked


def test_the_network_has_the_chosen_precision(run_copy, read, fake):
    asked = fake(1.0, 0.1)
    for key in [key for key in run_copy.manifest() if key.startswith("train_segmenter/")]:
        run_copy.forget(key)  # whose float32 would stay
    settings = read(config.TrainSegmenter, name="tried", precision="auto", psl="none")
    train_segmenter.run(settings, run_copy, 1)
    assert asked == ["vgg16_small"]
    assert json.loads((run_copy.model("tried") / "settings.json").read_text())["config"][
        "precision"] == BF16  # fmt: skip
    model = model_dir.load(run_copy.model("tried"))
    assert model.tuned.get_layer("fc6").compute_dtype == "bfloat16"
