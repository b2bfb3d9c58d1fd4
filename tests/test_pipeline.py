"""The whole method at a toy's size: its results, its reruns, and its phases one by one."""

import ast
import dataclasses
import functools
import json
import pathlib
import shutil

import numpy as np
import pytest
from conftest import reader
from PIL import Image

from aepsl_tf import config, pipeline
from aepsl_tf.data import datasets, encoding, records, runners
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation import verdict
from aepsl_tf.files import to_json, write_atomic
from aepsl_tf.inference import panels
from aepsl_tf.mining import regions
from aepsl_tf.models import model_dir
from aepsl_tf.phases import evaluate
from aepsl_tf.pipeline import Pipeline
from aepsl_tf.report import page
from aepsl_tf.run_dir import RunDir


def _unstarted(root, **changes):
    read = reader(**changes)
    return Pipeline(read(config.Pipeline), read, RunDir(root))


def test_summary_has_every_number(finished):
    summary = json.loads((finished.root / "summary.json").read_text())
    assert summary == finished.summary
    steps = {"step_1", "step_2"}
    for name in ("mask_miou", "mask_miou_void_wrong", "mask_labelled_share", "classifier_loss"):
        assert summary[name].keys() == steps, name
    models = {"no_psl", "psl", "psl_plus_plus"}
    assert summary["model_miou"].keys() == models | {f"{m}_crf" for m in models}
    for name in ("mask_miou", "model_miou"):
        assert all(0 <= value <= 1 for value in summary[name].values())
    assert summary["merged"] == 2
    assert summary["object_share"].keys() == models
    assert all(0 <= s <= 1 for shares in summary["object_share"].values() for s in shares)
    assert summary["psl_start"].keys() == models - {"no_psl"}
    assert summary["still_falling"].keys() == models | steps
    assert summary["seconds"].keys() == finished.run_dir.manifest().keys()
    assert all(seconds >= 0 for seconds in summary["seconds"].values())


def test_a_run_closes_with_its_verdict(run_copy, read, capsys):
    (run_copy.root / "summary.json").unlink()
    summary = Pipeline(read(config.Pipeline), read, run_copy, workers=1).run()
    shown = capsys.readouterr().out.splitlines()
    said = verdict.sentences(summary)
    assert len(said) > 3 and [line for line in shown if line in said] == said


def test_plan_is_what_was_done(finished, read, tmp_path, monkeypatch):
    """Before the run, after it, and step by step in between."""
    before = Pipeline(read(config.Pipeline), read, RunDir(tmp_path / "none")).plan()
    after = Pipeline(read(config.Pipeline), read, finished.run_dir).plan()
    assert list(before) == list(after)
    assert after.keys() == finished.run_dir.manifest().keys()
    assert set(after.values()) == {True} and set(before.values()) == {False}
    done = []
    run = RunDir(finished.root)
    monkeypatch.setattr(
        run, "phase", lambda key, *args, **kw: done.append(key) or run.entry(key)["facts"]
    )
    Pipeline(read(config.Pipeline), read, run, workers=1).run()
    assert done == list(after)


@pytest.mark.parametrize(
    ("logs", "start", "expected"),
    [({"tag_score": 0.8}, "psl", 0), ({"tag_score": 0.79}, "psl", "auto"), ({}, "psl", "auto"),
     ({"tag_score": 0.8}, "weights", "auto")],
)  # fmt: skip
def test_a_further_round_waits_for_scores_unless_it_starts_with_ready_ones(
    common, tmp_path, logs, start, expected
):
    segmenters = "psl,psl_plus_plus,psl_plus_plus_2"
    run = _unstarted(tmp_path, **common, segmenters=segmenters, psl_plus_plus_from=start)
    starts = {}

    def do(step):
        if step.keys[0].startswith("train_segmenter"):
            starts[step.settings.name] = step.settings.psl_start
            assert step.settings.start_model == "" or start == "psl"
            return {"last_epoch": logs}
        return None

    run._walk(do)
    assert starts == {"psl": "auto", "psl_plus_plus": expected, "psl_plus_plus_2": expected}


@pytest.mark.parametrize(
    ("segmenters", "said"),
    [("psl_plus_plus,psl", "psl_plus_plus needs psl before it"),
     ("psl,psl_plus_plus_2", "psl_plus_plus_2 needs psl_plus_plus before it")],
)  # fmt: skip
def test_a_round_without_the_one_before_it_is_refused(common, tmp_path, segmenters, said):
    with pytest.raises(InputError, match=said):
        _unstarted(tmp_path, **common, segmenters=segmenters)


def test_what_has_no_scores_is_asked_for_none(common, tmp_path):
    """Nothing is said of settings of a branch, or of its loss, that nobody trains."""
    given = common | {"segmenters": "no_psl", "with_tags": True, "pixel_norm": "batch",
                      "accumulate": 2, "label_loss": "softmax", "untagged": "negative"}  # fmt: skip
    plan = _unstarted(tmp_path, **given).plan()
    assert "train_segmenter/no_psl" in plan and "evaluate/no_psl_gt" not in plan


def test_steps_end_where_all_losses_are_zero(common, tmp_path):
    """Pictures that all have the same tags are learned to the last bit."""
    run = _unstarted(tmp_path, **common)

    def do(step):
        is_classifier = step.keys[0].startswith("train_classifier")
        return {"last_epoch": {"loss": 0.0, "tag_score": 1.0}} if is_classifier else None

    assert run._walk(do) == common["max_steps"]


def test_the_further_rounds_have_a_psl_of_their_own(common, tmp_path):
    segmenters = "no_psl,psl,psl_plus_plus,psl_plus_plus_2,supervised"
    run = _unstarted(tmp_path, **common, segmenters=segmenters, psl_plus_plus="branch_only")
    given = {}

    def do(step):
        if step.keys[0].startswith("train_segmenter"):
            given[step.settings.name] = step.settings.psl
        return None

    run._walk(do)
    expected = ("none", "full", "branch_only", "branch_only", "none")
    assert given == dict(zip(segmenters.split(","), expected, strict=True))


@pytest.mark.parametrize("split", ["train", "val"])
def test_plan_of_splits_without_masks(common, tmp_path, split):
    """What needs ground truth is planned where there is some, and only there."""
    devkit, other = tmp_path / "voc", {"train": "val", "val": "train"}[split]
    shutil.copytree(common["voc_root"], devkit)
    for id_ in (devkit / f"ImageSets/Segmentation/{split}.txt").read_text().split():
        (devkit / f"SegmentationClass/{id_}.png").unlink()
    plan = _unstarted(tmp_path / "run", **common | {"voc_root": str(devkit)}).plan()
    assert f"write_voc/{other}/ground_truth" in plan
    assert f"write_voc/{split}/ground_truth" not in plan
    assert ("evaluate/masks_steps_1_to_1" in plan) is (split == "val")
    assert ("evaluate/psl" in plan) is (split == "train")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "value"),
    [("panel_images", 0), ("crf_iterations", 0), ("p", -0.1), ("psl_scores", "none")],
)
def test_bad_settings_of_late_phases_end_a_run_before_its_first(
    common, tmp_path, monkeypatch, setting, value
):
    monkeypatch.setattr(pipeline.write_voc, "run", lambda *_: pytest.fail("a phase was begun"))
    with pytest.raises(InputError, match=f"--{setting}={value}"):
        _unstarted(tmp_path / "run", **common | {setting: value}).run()
    assert not (tmp_path / "run").exists()


def test_nothing_unfinished_is_left_behind(finished):
    left = [p for p in finished.root.rglob("*") if ".partial" in p.name or p.suffix == ".tmp"]
    assert left == []
    assert not (finished.root / "cache").exists()


def test_report_has_a_panel_for_every_class_of_the_split(finished, devkit):
    tags = (devkit / "image_labels.csv").read_text().splitlines()
    train = [line.split(",")[1].split() for line in tags if line.startswith("demo_train")]
    expected = {f"{name}.png" for names in train for name in names}
    assert {p.name for p in finished.run_dir.drawn.glob("*.png")} == expected


def test_report_has_the_paper_s_figures(finished):
    """Figures 4 and 5; what was over-erased may be nothing."""
    names = {path.stem for path in (finished.run_dir.drawn / "figures").iterdir()}
    assert {"loss", "worst", "best"} <= names <= {"loss", "worst", "best", "over_erased"}
    with Image.open(finished.run_dir.drawn / "figures" / "worst.png") as picture:
        assert picture.width > 3 * 180  # picture, prediction, truth


def test_over_erased_is_what_saliency_calls_background(run_copy, read):
    """A step that takes the salient part is none; one that takes the rest is, by its size."""
    images = records.Family(run_copy.family("train", "images"))
    ids, sizes = zip(*((r["image/id"], (r["image/height"], r["image/width"]))
                       for r in images.read()), strict=True)  # fmt: skip
    rows = {"saliency": [], 1: [], 2: []}
    for number, (id_, (height, width)) in enumerate(zip(ids, sizes, strict=True)):
        salient, one, two = np.zeros((3, height, width), np.uint8)
        salient[:, : width // 2] = 255
        one[:4, :4] = 255
        two[:, : width // 2] = 255
        if number in (3, 5):
            two = 255 - two
            two[:, -number:] = 0
        rows["saliency"].append({"image/id": id_, "saliency/png": encoding.grey_png(salient)})
        for step, region in ((1, one), (2, two)):
            rows[step].append({"image/id": id_, "image/labels": [1],
                               "regions/pngs": [encoding.grey_png(region)],
                               "regions/scores": [1000]})  # fmt: skip
    for name, of_all in rows.items():
        family = "regions" if name != "saliency" else name
        folder = run_copy.regions(name) if name != "saliency" else run_copy.family("train", name)
        shutil.rmtree(folder)
        folder.mkdir()
        records.write_family(folder, family, [len(ids)], lambda _, made=of_all: made)
    labels = [row | {"image/labels": [1]} for row in images.read()]
    shutil.rmtree(images.directory)
    images.directory.mkdir()
    records.write_family(images.directory, "images", [len(ids)], lambda _: labels,
                         facts=images.facts)  # fmt: skip
    decode = functools.partial(datasets.picture, fill=None)
    lines = panels.over_erased(
        run_copy, "train", 2, decode, run_copy.classes(), read(config.Report)
    )
    assert [line[0][0] for line in lines] == [ids[3], ids[5]]
    assert [line[2][0].split(":")[0] for line in lines] == ["step 2", "step 2"]


def test_rerun_makes_nothing_again(finished, read, monkeypatch):
    def state():
        files = [p for p in finished.root.rglob("*") if p.is_file() and p.name != "summary.json"]
        return {p: p.stat().st_mtime_ns for p in files if p.name != ".lock"}

    def refuse(*_):
        raise AssertionError("a finished phase was done again")

    monkeypatch.setattr("aepsl_tf.training.train.train", refuse)
    manifest, before = finished.run_dir.manifest(), state()
    again = Pipeline(read(config.Pipeline), read, RunDir(finished.root), workers=1).run()
    assert again == finished.summary
    assert finished.run_dir.manifest() == manifest
    assert state() == before


def test_changed_setting_is_refused_and_named(run_copy, common):
    changed = reader(**common | {"threshold": 0.3})
    with pytest.raises(InputError, match=r"--threshold=0.2, now 0.3"):
        Pipeline(changed(config.Pipeline), changed, RunDir(run_copy.root), workers=1).run()
    assert (run_copy.root / "summary.json").exists()  # it is still the run's


def test_no_summary_is_there_while_a_run_is_made_again(run_copy, read, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    shutil.rmtree(run_copy.root / "eval")
    monkeypatch.setattr(run_copy, "_settled", killed)
    with pytest.raises(KeyboardInterrupt):
        Pipeline(read(config.Pipeline), read, run_copy, workers=1).run()
    assert not (run_copy.root / "summary.json").exists()


def test_dry_run_prints_the_plan_and_writes_nothing(read, tmp_path, capsys):
    root = tmp_path / "run"
    Pipeline(read(config.Pipeline, dry_run=True), read, RunDir(root)).run()
    lines = capsys.readouterr().out.splitlines()
    assert not root.exists()
    assert all(line.startswith("to do") for line in lines)
    assert lines[:2] == ["to do     write_voc/train", "to do     write_voc/train/ground_truth"]
    assert lines[-1].endswith("report")
    assert "to do     train_classifier/step_2" in lines


def test_dry_run_of_a_finished_run(finished, read, capsys):
    Pipeline(read(config.Pipeline, dry_run=True), read, finished.run_dir).run()
    assert all(line.startswith("finished") for line in capsys.readouterr().out.splitlines())


def test_a_plan_knows_the_facts_of_what_is_finished(run_copy, read, common):
    """Here: that the second classifier is no success, so what it mined is no part of the run."""
    losses = [
        run_copy.entry(f"train_classifier/step_{t}")["facts"]["last_epoch"]["loss"] for t in (1, 2)
    ]
    manifest = run_copy.manifest()
    manifest["train_classifier/step_2"]["facts"]["last_epoch"]["loss"] = 3 * losses[0]
    write_atomic(run_copy.root / "manifest.json", to_json(manifest))
    stopping = reader(**common | {"stop_loss_ratio": 2.0})
    plan = Pipeline(stopping(config.Pipeline), stopping, run_copy).plan()
    assert "train_classifier/step_2" in plan and "mine_regions/step_2" not in plan
    assert "make_masks/steps_1_to_1" in plan and "make_masks/steps_1_to_2" not in plan


@pytest.mark.parametrize(
    ("changes", "loss", "stops"),
    [
        ({}, 100.0, False),
        ({"stop_loss": 0.5}, 0.5, False),
        ({"stop_loss": 0.5}, 0.51, True),
        ({"stop_loss_ratio": 2.0}, 0.5, False),
        ({"stop_loss_ratio": 2.0}, 0.51, True),
    ],
)
def test_when_training_is_no_success(tmp_path, changes, loss, stops):
    assert _unstarted(tmp_path, **changes)._failed(2, loss, first=0.25) is stops


def _mined(unstarted, losses):
    """Walks the steps with these losses of M_t; returns (how many were mined, keys of mining)."""
    keys = []

    def do(step):
        keys.append(step.keys[0])
        if step.phase is pipeline.train_classifier:
            return {"last_epoch": {"loss": losses[step.settings.step]}}
        return {}

    mined = unstarted._walk(do)
    return mined, [k for k in keys if "/step_" in k], keys


@pytest.mark.parametrize("changes", [{"stop_loss": 0.5}, {"stop_loss_ratio": 1.9}])
def test_mining_stops_at_the_first_failed_step(tmp_path, changes):
    unstarted = _unstarted(tmp_path, max_steps=4, **changes)
    mined, mining, keys = _mined(unstarted, {1: 0.3, 2: 0.4, 3: 0.6, 4: 0.1})
    assert mined == 2
    assert mining == [
        "train_classifier/step_1", "mine_regions/step_1",
        "write_erased/step_2", "train_classifier/step_2", "mine_regions/step_2",
        "write_erased/step_3", "train_classifier/step_3",
    ]  # fmt: skip
    assert [k for k in keys if k.startswith("make_masks/")] == [
        "make_masks/steps_1_to_1", "make_masks/steps_1_to_2"
    ]  # fmt: skip


def test_failing_first_step_is_an_error(tmp_path):
    with pytest.raises(InputError, match="M_1 did not converge"):
        _mined(_unstarted(tmp_path, stop_loss=0.5), {1: 0.6})


def test_segmenters_train_on_what_was_mined(tmp_path):
    """At most --merge_steps steps, fewer where fewer were mined."""
    unstarted = _unstarted(tmp_path, max_steps=4, stop_loss=0.5)
    merged = []

    def do(step):
        if step.phase is pipeline.train_segmenter:
            merged.append(step.settings.merge_steps)
        loss = 0.6 if getattr(step.settings, "step", 0) > 2 else 0.3
        return {"last_epoch": {"loss": loss}}

    unstarted._walk(do)
    assert merged == [2, 2, 2]


def test_steps_end_where_regions_leave_the_salient_area(tmp_path):
    """--merge_steps=auto: the third step is measured, found worse, and not mined."""
    unstarted = _unstarted(tmp_path, max_steps=4, merge_steps="auto", threshold="auto")
    agreement, done, merged = {1: 0.4, 2: 0.5, 3: 0.45}, [], []

    def do(step):
        done.append(step.keys[0])
        if step.phase is pipeline.choose_threshold:
            return {"agreement": agreement[step.settings.step], "threshold": 0.3}
        if step.phase is pipeline.train_segmenter:
            merged.append(step.settings.merge_steps)
        return {"last_epoch": {"loss": 0.3}}

    assert unstarted._walk(do) == 2
    assert merged == [2, 2, 2]
    assert "choose_threshold/step_3" in done and "mine_regions/step_3" not in done
    assert done.index("choose_threshold/step_2") < done.index("mine_regions/step_2")


def test_auto_chooses_without_ground_truth_what_agrees_best(run_copy, common):
    """A real step: the δ of the highest IoU is what the regions are mined with."""
    shutil.rmtree(run_copy.root / "step_1/regions")
    read = reader(**common | {"threshold": "auto"})
    facts = pipeline.choose_threshold.run(read(config.ChooseThreshold), run_copy)
    shares = facts["by_threshold"]
    assert len(shares) == 8 and len(set(shares.values())) > 2
    assert shares[str(facts["threshold"])] == max(shares.values()) == facts["agreement"]
    pipeline.mine_regions.run(read(config.MineRegions), run_copy)
    found = run_copy.entry("mine_regions/step_1")["digest"]
    shutil.rmtree(run_copy.root / "step_1/regions")
    chosen = reader(**common | {"threshold": facts["threshold"]})
    pipeline.mine_regions.run(chosen(config.MineRegions), RunDir(run_copy.root, restart=True))
    assert run_copy.entry("mine_regions/step_1")["digest"] == found


@pytest.mark.parametrize("loss", ["sigmoid", "cross_entropy"])
def test_a_class_that_the_classifier_does_not_know_is_told(
    run_copy, common, monkeypatch, caplog, loss
):
    """Its scores all went to 0; the others' are 1."""
    load, names = model_dir.load, run_copy.classes().all_names()

    def without_the_second(path):
        model = load(path)
        model.config = dataclasses.replace(model.config, label_loss=loss)
        bias = np.full(model.num_classes, 60.0)
        bias[1] = -60
        model.fc8.bias.assign(bias)
        return model

    monkeypatch.setattr(model_dir, "load", without_the_second)
    monkeypatch.setattr(regions, "_ENOUGH", 1)  # of twelve pictures
    shutil.rmtree(run_copy.root / "step_1/regions")
    pipeline.mine_regions.run(reader(**common)(config.MineRegions), run_copy)
    [told] = [r.getMessage() for r in caplog.records if "does not know" in r.getMessage()]
    assert f"M_1 does not know {names[2]}: its score of the pictures with that tag is 0.00" in told
    assert ("--label_loss=cross_entropy" in told) == (loss != "cross_entropy")
    assert run_copy.entry("mine_regions/step_1")["facts"] == {"lost": [names[2]]}
    shown = page.of_run(run_copy)
    assert shown["sentences"][0].startswith(f"M_1 does not know {names[2]}:")


def test_auto_goes_to_the_end(run_copy, common):
    """With every phase that --merge_steps=auto is handed to."""
    shutil.rmtree(run_copy.root / "step_1/regions")
    read = reader(**common | {"threshold": "auto", "merge_steps": "auto"})
    run = RunDir(run_copy.root, restart=True)
    summary = Pipeline(read(config.Pipeline, segmenters="psl"), read, run, workers=1).run()
    assert summary["model_miou"].keys() == {"psl", "psl_crf"}
    assert summary["agreement"].keys() >= {"step_1", "step_2"}


def test_auto_needs_its_choice(run_copy, common):
    shutil.rmtree(run_copy.root / "step_1/regions")
    read = reader(**common | {"threshold": "auto", "merge_steps": "auto"})
    with pytest.raises(InputError, match=r"run python -m aepsl_tf\.phases\.choose_threshold first"):
        pipeline.mine_regions.run(read(config.MineRegions), run_copy)
    with pytest.raises(InputError, match="--merge_steps=auto: only the pipeline"):
        pipeline.make_masks.run(read(config.MakeMasks), run_copy)


def test_a_second_round_and_tags_as_scores(run_copy, common):
    """PSL++ relabelled by itself; +GT beside each segmenter with scores; what is there is taken."""
    changed = {"segmenters": "psl,psl_plus_plus,psl_plus_plus_2", "with_tags": True, "finish": "",
               "crf": True}  # fmt: skip
    read = reader(**common | changed)
    summary = Pipeline(read(config.Pipeline), read, run_copy, workers=1).run()
    models = ["psl", "psl_plus_plus", "psl_plus_plus_2"]
    expected = {f"{m}{gt}{crf}" for m in models for gt in ("", "_gt") for crf in ("", "_crf")}
    assert summary["model_miou"].keys() == expected
    inputs = run_copy.entry("train_segmenter/psl_plus_plus_2")["inputs"]
    assert {"relabel/relabelled_2", "train_segmenter/psl_plus_plus"} <= inputs.keys()
    assert "train_segmenter/psl_plus_plus" in run_copy.entry("relabel/relabelled_2")["inputs"]


def test_views_are_measured_beside_the_plain_numbers(finished, common):
    def plan(**changed):
        read = reader(**common | changed)
        return Pipeline(read(config.Pipeline), read, finished.run_dir).plan()

    before, after = plan(), plan(flip=True, multi_scale="0.5,1", with_tags=True)
    assert set(before.values()) == {True}
    new = {f"evaluate/{model}_flip_multi_scale": False for model in
           ("no_psl", "psl", "psl_plus_plus")}  # fmt: skip
    new |= {f"evaluate/{model}_gt": False for model in ("psl", "psl_plus_plus")}
    assert {key: done for key, done in after.items() if key not in before} == new


def test_what_is_asked_of_a_model_is_nothing_to_the_masks(run_copy, common):
    """Given again with it, a finished run goes on; so does a phase by hand."""
    asked = {"flip": True, "multi_scale": "0.5,1", "with_tags": True, "p": 0.9, "crf": False,
             "crf_preset": "sec", "test_policy": "none"}  # fmt: skip
    read = reader(**common | asked | {"segmenters": "", "finish": ""})
    before = run_copy.manifest()
    Pipeline(read(config.Pipeline), read, run_copy, workers=1).run()
    evaluate.run(read(config.Evaluate, what="masks", masks="steps_1_to_1", split="train"), run_copy)
    assert run_copy.manifest() == before


@pytest.mark.parametrize("what", ["masks", "regions"])
def test_masks_and_regions_are_of_the_split_they_are_of(run_copy, common, what):
    settings = reader(**common)(config.Evaluate, what=what, merge_steps=2)
    with pytest.raises(InputError, match=r"--split=val: .* is of train: give --split=train"):
        evaluate.run(settings, run_copy)


@pytest.mark.parametrize(
    ("changes", "flag"),
    [({"segmenters": "psl,psl_plus_plus_2"}, "--segmenters"), ({"finish": "exports"}, "--finish")],
)
def test_what_cannot_be_run(tmp_path, changes, flag):
    with pytest.raises(InputError, match=flag):
        _unstarted(tmp_path, **changes)


def test_runs_that_share_make_once_what_they_have_in_common(finished, common, tmp_path):
    """Another number of merged steps: all up to the masks is taken, and bears the same digests."""
    (tmp_path / "first").symlink_to(finished.root)
    read = reader(**common | {"merge_steps": 1, "segmenters": "no_psl", "finish": ""})
    run = RunDir(tmp_path / "second", share=tmp_path)
    Pipeline(read(config.Pipeline), read, run, workers=1).run()
    mine, theirs = run.manifest(), finished.run_dir.manifest()
    assert set(mine) - set(theirs) == set()
    made = {key for key in mine if mine[key]["digest"] != theirs[key]["digest"]}
    assert made == {"train_segmenter/no_psl", "evaluate/no_psl"}
    shared, other = (r / "data/train/images/family.json" for r in (run.root, finished.root))
    assert shared.stat().st_ino == other.stat().st_ino
    assert run.classes() == finished.run_dir.classes()
    again = Pipeline(read(config.Pipeline), read, RunDir(run.root), workers=1).run()
    assert again["model_miou"].keys() == {"no_psl", "no_psl_crf"}


@pytest.mark.parametrize("names", ["psl_plus_plus", "no_psl,best"])
def test_segmenters_that_cannot_be(tmp_path, names):
    with pytest.raises(InputError, match="--segmenters"):
        _unstarted(tmp_path, segmenters=names)


def test_phases_by_hand_without_ground_truth_give_the_same_bytes(finished, read, tmp_path):
    """Neither the one process nor pixel ground truth has a part in what is trained."""
    run_dir = RunDir(tmp_path / "run")

    def do(phase, cls, **changes):
        phase.run(read(cls, **changes), run_dir, 1)

    for split in ("train", "val"):
        do(pipeline.write_voc, config.WriteVoc, split=split)
    for split in ("train", "val"):
        shutil.rmtree(run_dir.ground_truth(split, "write_voc"))
    manifest = run_dir.manifest()
    for key in [k for k in manifest if k.endswith("/ground_truth")]:
        del manifest[key]
    write_atomic(run_dir.root / "manifest.json", to_json(manifest))

    do(pipeline.write_saliency, config.WriteSaliency)
    for step in (1, 2):
        if step > 1:
            do(pipeline.write_erased, config.WriteErased, step=step)
        do(pipeline.train_classifier, config.TrainClassifier, step=step)
        do(pipeline.mine_regions, config.MineRegions, step=step)
    do(pipeline.make_masks, config.MakeMasks, merge_steps=2)
    do(pipeline.train_segmenter, config.TrainSegmenter, name="no_psl", psl="none")

    by_pipeline, by_hand = finished.run_dir.manifest(), run_dir.manifest()
    assert by_hand.keys() == {
        "write_voc/train", "write_voc/val", "write_saliency/train",
        "train_classifier/step_1", "mine_regions/step_1", "write_erased/step_2",
        "train_classifier/step_2", "mine_regions/step_2", "make_masks/steps_1_to_2",
        "train_segmenter/no_psl",
    }  # fmt: skip
    differ = [k for k, entry in by_hand.items() if entry["digest"] != by_pipeline[k]["digest"]]
    assert differ == []
    assert not list(run_dir.root.glob("data/*/ground_truth"))


@pytest.mark.parametrize("name", ["pool", pytest.param("beam", marks=pytest.mark.scale)])
def test_the_runner_changes_no_byte(finished, run_copy, read, name, monkeypatch):
    """Of any phase that shares its work; the others' inputs do not notice."""
    monkeypatch.setattr(runners, "PATIENCE", 0.0)
    workers = runners.Beam(2) if name == "beam" else 2
    phases = {
        "write_saliency/train": (pipeline.write_saliency, read(config.WriteSaliency)),
        "write_erased/step_2": (pipeline.write_erased, read(config.WriteErased, step=2)),
        "make_masks/steps_1_to_2": (pipeline.make_masks, read(config.MakeMasks)),
        "relabel/relabelled": (pipeline.relabel, read(config.Relabel, model="psl")),
    }
    for key, (phase, settings) in phases.items():
        shutil.rmtree(run_copy.root / run_copy.entry(key)["output"])
        phase.run(settings, run_copy, workers)
        assert run_copy.entry(key)["digest"] == finished.run_dir.entry(key)["digest"], key


def test_relabel_makes_only_missing_shards(finished, run_copy, read):
    """Its pictures go through the network shard by shard too."""
    folder = run_copy.masks("relabelled")
    first = folder / records.shard_name("masks", 0, 2)
    before = first.stat().st_mtime_ns
    (folder / records.shard_name("masks", 1, 2)).unlink()
    (folder / "family.json").unlink()
    partial = folder.with_name("relabelled.partial")
    folder.rename(partial)
    entry = run_copy.manifest()["relabel/relabelled"]
    begun = {"config": entry["config"], "inputs": entry["inputs"]}
    write_atomic(partial.with_name(partial.name + ".json"), to_json(begun))
    pipeline.relabel.run(read(config.Relabel, model="psl"), run_copy, 1)
    assert first.stat().st_mtime_ns == before
    found = run_copy.entry("relabel/relabelled")["digest"]
    assert found == finished.run_dir.entry("relabel/relabelled")["digest"]


def test_evaluation_needs_ground_truth(run_copy, read):
    shutil.rmtree(run_copy.ground_truth("val", "write_voc"))
    with pytest.raises(InputError, match="needs the output of write_voc/val/ground_truth"):
        pipeline.evaluate.run(read(config.Evaluate, model="psl"), run_copy, 1)


@pytest.mark.parametrize("phase", ["train_classifier", "mine_regions", "make_masks", "relabel"])
def test_ground_truth_stays_shut_to_training(finished, phase):
    with pytest.raises(InputError, match="supervision is image tags only"):
        finished.run_dir.ground_truth("train", phase)
    with pytest.raises(InputError, match="behind the firewall"):
        finished.run_dir.family("train", "ground_truth")


_ROOT = pathlib.Path(pipeline.__file__).parents[1]


def _sources():
    files = [*_ROOT.glob("aepsl_tf/**/*.py"), *_ROOT.glob("data_prep/**/*.py")]
    return {str(f.relative_to(_ROOT)): ast.parse(f.read_text()) for f in files}


def test_only_these_files_open_ground_truth():
    opens = {
        name
        for name, tree in _sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "ground_truth"
    }
    assert opens == {
        "data_prep/write_voc.py",
        "aepsl_tf/phases/evaluate.py",
        "aepsl_tf/phases/report.py",
        "aepsl_tf/phases/supervised_masks.py",
    }


def test_only_these_files_know_where_a_devkit_keeps_masks():
    knows = {
        name
        for name, tree in _sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and "SegmentationClass" in str(node.value)
    }
    makers = {"data_prep/demo/devkit.py", "data_prep/download_voc.py"}
    in_words = {"aepsl_tf/config.py", "aepsl_tf/data/lists.py"}  # a flag's help, a docstring
    assert knows == {"data_prep/sources.py"} | makers | in_words
    readers = {
        name
        for name, tree in _sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "masks.Masks"
    }
    assert readers == {"data_prep/write_voc.py"}  # who opens the files
