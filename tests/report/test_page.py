"""The report's page: what it holds, what it leaves out, and that nothing in it can be more."""

import json
import re
import shutil

import numpy as np

from aepsl_tf import config
from aepsl_tf.evaluation import metrics
from aepsl_tf.files import sealed, write_atomic
from aepsl_tf.phases import evaluate, report
from aepsl_tf.report import gallery, page
from aepsl_tf.run_dir import RunDir

ODD = ["<b>bold</b>", 'a"b', "</script><script>alert(1)</script>", "<!--", "🐈 cat", "{{css}}"]
"""Names of classes and pictures that a careless page would take for more than names."""


def shown(text):
    """What a page shows, as its script reads it."""
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def with_odd_names(found):
    """`page.of_run` with odd names for classes, pictures and the run."""
    odd = {c["name"]: name for c, name in zip(found["classes"][1:], ODD, strict=False)}
    classes = [c | {"name": odd.get(c["name"], c["name"])} for c in found["classes"]]
    pictures = [
        p | {"id": f"{ODD[n % len(ODD)]} {n}", "tags": [odd[tag] for tag in p["tags"]]}
        for n, p in enumerate(found["gallery"])
    ]
    return found | {"classes": classes, "gallery": pictures, "run": ODD[2]}


def edit_manifest(run, change):
    """The manifest as `change(key, entry)` has it; None drops an entry."""
    manifest = {k: change(k, entry) for k, entry in run.manifest().items()}
    write_atomic(run.root / "manifest.json", sealed({k: v for k, v in manifest.items() if v}))


def redrawn(run, read, *dropped):
    """What the page shows where the phases whose keys begin so were never run."""
    edit_manifest(run, lambda key, entry: None if key.startswith(("report", *dropped)) else entry)
    shutil.rmtree(run.root / "report")
    report.run(read(config.Report, panel_images=1), run)
    return shown(run.page.read_text())


# ------------------------------------------------------------------------------------ a whole run


def test_the_page_of_a_run(finished):
    text = finished.run_dir.page.read_text()
    assert text.isascii() and len(text) < 15_000_000
    found = shown(text)
    assert found["sentences"] and found["left_out"] == 0
    assert [len(line["values"]) for line in found["losses"][0]["lines"]] == [1, 1]
    assert found["steps"][1]["mask_miou"] == finished.summary["mask_miou"]["step_2"]
    assert [s["title"] for s in found["segmenters"]] == ["No PSL", "PSL", "PSL++"]
    assert found["segmenters"][1]["crf"] == finished.summary["model_miou"]["psl_crf"]
    assert found["results"][0]["title"] == "PSL++ + CRF"
    assert len(found["results"][0]["iou"]) == len(found["classes"])
    phases = {p["key"]: p for stage in found["flow"] for p in stage["phases"]}
    assert {k: p["seconds"] for k, p in phases.items()} == finished.summary["seconds"]
    assert not any(p["stale"] for p in phases.values())
    assert phases["train_segmenter/psl"]["said"] == "Ŝ never joined"


def test_a_class_has_its_own_iou_however_a_file_sorts_them():
    iou = {"ant": 0.1, "background": 0.9, "zebra": None}
    one = {"miou": 0.5, "iou": iou, "confusion": [[4, 1, 0], [0, 0, 0], [0, 2, 1]]}
    known = {"psl": {"psl": one}}
    shown = page._results(
        lambda name: known.get(name, {}), [page._Evaluation("psl", "psl", "")], [],
        ["background", "zebra", "ant"],
    )  # fmt: skip
    assert shown[0]["iou"] == [0.9, None, 0.1]
    assert shown[0]["confused"][0] == [2, 1, 2 / 3]


def test_evaluations_over_views_stand_beside_the_plain_ones(run_copy, read):
    """A share of the ceiling is one of a ceiling that was seen in the same way."""
    changes = {"what": "model", "split": "val", "crf": False}
    for model, views in (("psl", {"flip": True}), ("no_psl", {"multi_scale": "0.5,1"})):
        evaluate.run(read(config.Evaluate, model=model, **changes, **views), run_copy)
    found = page.of_run(run_copy)
    rows = [(s["title"], s["how"]) for s in found["segmenters"]]
    assert rows == [
        ("No PSL", ""), ("No PSL at scales 0.5,1", " at scales 0.5,1"), ("PSL", ""),
        ("PSL and mirrored", " and mirrored"), ("PSL++", ""),
    ]  # fmt: skip
    [numbers] = metrics.load(run_copy.evaluation("psl_flip")).values()
    assert found["segmenters"][3]["plain"] == numbers["miou"]
    shown = {result["title"]: result for result in found["results"]}
    assert shown["PSL and mirrored"]["miou"] == numbers["miou"]
    stage = next(s for s in found["flow"] if s["title"] == "Segmenter: PSL")
    said = {p["key"]: p["said"] for p in stage["phases"]}
    assert said["evaluate/psl_flip"] == f"mIoU {numbers['miou']:.3f}"


def test_evaluations_of_several_splits_say_of_which():
    def titles(**splits):
        current = {f"evaluate/{name}": {"config": {"model": name, "split": split}}
                   for name, split in splits.items()}  # fmt: skip
        return [one.title for one in page._evaluations(current, ["no_psl", "psl"])]

    assert titles(no_psl="val", psl="val") == ["No PSL", "PSL"]
    assert titles(no_psl="val", psl="train") == ["No PSL on val", "PSL on train"]


def test_it_asks_for_nothing_else(finished):
    text = finished.run_dir.page.read_text()
    markup = text.replace("http://www.w3.org/2000/svg", "")  # a name, and no address
    assert "http" not in markup.replace("http-equiv", "")
    assert set(re.findall(r'(?:src|href)="([^"]*)', markup)) == {"#main"}
    assert "default-src 'none'" in text
    images = [layer["image"] for p in shown(text)["gallery"] for layer in p["layers"]]
    assert images and all(image.startswith("data:image/webp;base64,") for image in images)


def test_a_training_picture_has_its_layers_by_step(finished):
    first, *_, last = shown(finished.run_dir.page.read_text())["gallery"]
    assert (first["split"], last["split"]) == ("train", "val")
    tag = first["tags"][0]
    titles = [(layer["step"], layer["title"]) for layer in first["layers"]]
    after = [(None, title) for title in ("S, trained on", "PSL++", "Truth")]
    assert titles[0] == (None, "Picture") and titles[-3:] == after
    expected = {(1, f"Heatmap of {tag}"), (1, "Mined by step 1"), (1, "Mask S of step 1"),
                (2, "Erased before step 2"), (2, f"Heatmap of {tag}"),
                (2, "Mined by steps 1 to 2"), (2, "Mask S of steps 1 to 2")}  # fmt: skip
    assert expected <= set(titles)
    assert [layer["title"] for layer in last["layers"]] == ["Picture", "PSL++", "Truth"]


def test_failures_come_first():
    def picture(iou, step):
        return {"iou": iou, "layers": [["Picture", step, ""]]}

    order = [picture(0.1, 1), picture(0.7, 1), picture(None, 2), picture(0.0, None),
             picture(0.2, None), picture(None, None)]  # fmt: skip
    assert page._by_failure(order[::-1]) == order


def test_the_same_run_has_the_same_page_but_for_its_times(run_copy, read):
    report.run(read(config.Report), run_copy)
    one = run_copy.page.read_text()
    run_copy.page.unlink()
    report.run(read(config.Report), run_copy)
    assert run_copy.page.read_text() == one
    edit_manifest(run_copy, lambda key, entry: entry | {"seconds": 7.5})
    report.run(read(config.Report), run_copy)
    other = run_copy.page.read_text()
    assert other != one
    without = [re.sub(r'"seconds": [\d.]+', "", text) for text in (one, other)]
    assert without[0] == without[1]


def test_what_was_made_from_something_else_is_stale_and_counts_no_more(run_copy, read):
    edit_manifest(run_copy, lambda key, entry: entry | (
        {"digest": "another"} if key == "train_segmenter/psl" else {}))  # fmt: skip
    found = page.of_run(run_copy)
    stale = {p["key"] for stage in found["flow"] for p in stage["phases"] if p["stale"]}
    assert {"evaluate/psl", "relabel/relabelled", "train_segmenter/psl_plus_plus"} <= stale
    assert [s["title"] for s in found["segmenters"]] == ["No PSL"]


def test_stale_masks_are_not_drawn(run_copy, read):
    regions = run_copy.entry("mine_regions/step_2")["digest"]
    edit_manifest(run_copy, lambda key, entry: None if key == "report" else entry | (
        {"inputs": entry["inputs"] | {"mine_regions/step_2": f"not {regions}"}}
        if key == "make_masks/steps_1_to_2" else {}))  # fmt: skip
    found = report.Found.of(run_copy, "train")
    assert found.step_masks == ("steps_1_to_1", None)
    assert found.masks is None and found.model is None
    assert "make_masks/steps_1_to_2" not in found.inputs()


def test_examples_are_predicted_as_they_were_evaluated(run_copy, read):
    """Or an IoU would stand beside another mask."""

    def examples():
        files = (run_copy.drawn / "figures").glob("*st.png")
        return {path.name: path.read_bytes() for path in files}

    before = examples()
    report.run(read(config.Report, test_policy="none", p=0.0), RunDir(run_copy.root, restart=True))
    assert len(before) == 2 and examples() == before


# --------------------------------------------------------------------------- what is not there


def test_without_truth(run_copy, read):
    truth = ("write_voc/train/ground_truth", "write_voc/val/ground_truth", "evaluate")
    found = redrawn(run_copy, read, *truth)
    assert found["results"] == found["segmenters"] == []
    assert all(p["iou"] is None and p["layers"][-1]["title"] == "PSL++" for p in found["gallery"])
    assert found["steps"][0]["mask_miou"] is None
    assert found["sentences"] == [s for s in found["sentences"] if "Ŝ" in s]


def test_without_segmenters_the_masks_are_judged(run_copy, read):
    found = redrawn(run_copy, read, "train_segmenter", "relabel", "evaluate/no", "evaluate/psl",
                    "export")  # fmt: skip
    assert found["segmenters"] == []
    assert {p["split"] for p in found["gallery"]} == {"train"}
    assert {p["judged"] for p in found["gallery"]} == {"S"}
    assert all(0 <= p["iou"] <= 1 for p in found["gallery"])
    assert found["results"][0]["title"] == "Masks S of steps 1 to 2"


def test_with_pictures_alone(run_copy, read):
    found = redrawn(run_copy, read, "write_saliency", "write_erased", "train_", "mine", "make",
                    "relabel", "evaluate", "export")  # fmt: skip
    assert found["steps"] == found["losses"] == found["results"] == found["sentences"] == []
    assert {layer["title"] for p in found["gallery"] for layer in p["layers"]} == {
        "Picture", "Truth"
    }  # fmt: skip


# --------------------------------------------------------------------------------------- names


def test_no_name_ends_the_script_that_holds_it(finished):
    found = with_odd_names(page.of_run(finished.run_dir))
    text = page.html(found)
    assert text.isascii() and text.count("</script>") == 2
    assert "<b>bold" not in text and "<!--" not in text
    assert shown(text) == found


# ------------------------------------------------------------------------------------ its size


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, [700, 500, 3], dtype=np.uint8)


def item(number, layers=2):
    pictures = [(f"layer {k}", None, noise(10 * number + k)) for k in range(layers)]
    return {"id": str(number), "split": "train", "tags": [1], "iou": None, "judged": "",
            "layers": pictures}  # fmt: skip


def test_pictures_without_room_are_left_out_and_counted(tmp_path, monkeypatch):
    gallery.write(tmp_path, [item(0)])
    size = sum(p.stat().st_size for p in (tmp_path / "gallery").iterdir())
    monkeypatch.setattr(gallery, "BUDGET", int(2.5 * size))
    shutil.rmtree(tmp_path / "gallery")
    gallery.write(tmp_path, (item(number) for number in range(5)))
    pictures, left_out = gallery.read(tmp_path)
    assert [p["id"] for p in pictures] == ["0", "1"] and left_out == 3
    assert len(list((tmp_path / "gallery").iterdir())) == 4


def test_the_budget_keeps_a_page_below_15_mb():
    assert gallery.BUDGET * 4 / 3 < 14_000_000


def test_every_class_has_a_picture_before_one_has_two():
    labels = {0: [1], 1: [1], 2: [1, 2], 3: [2], 4: [3]}
    rows = {index: {"image/labels": ids} for index, ids in labels.items()}
    assert gallery._fair(rows) == [0, 2, 4, 1, 3]


# ------------------------------------------------------------------------------------- the phase


def test_open_shows_the_finished_page_and_is_no_part_of_what_it_is(run_copy, read, monkeypatch):
    opened = []
    monkeypatch.setattr(report.webbrowser, "open", lambda uri: opened.append(uri) or True)
    before = run_copy.manifest()
    report.run(read(config.Report), run_copy)
    assert opened == []
    report.run(read(config.Report, open=True), run_copy)
    assert opened == [run_copy.page.resolve().as_uri()]
    assert run_copy.manifest() == before and "open" not in before["report"]["config"]


def test_where_no_browser_opens_the_page_is_named(run_copy, read, monkeypatch, caplog):
    monkeypatch.setattr(report.webbrowser, "open", lambda uri: False)
    with caplog.at_level("WARNING"):
        report.run(read(config.Report, open=True), run_copy)
    assert str(run_copy.page) in caplog.text


def test_a_report_of_a_version_without_a_page_is_drawn_anew(run_copy, read):
    folder = run_copy.root / "report"
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "cat.png").write_text("old")
    edit_manifest(run_copy, lambda key, entry: entry | (
        {"output": "report", "inputs": {}} if key == "report" else {}))  # fmt: skip
    report.run(read(config.Report, panel_images=1), RunDir(run_copy.root))
    assert not (folder / "cat.png").exists()
    assert run_copy.entry("report")["output"] == "report/drawn"
    assert shown(run_copy.page.read_text())["gallery"]


def test_a_page_that_is_gone_is_written_again(run_copy, read):
    before = run_copy.page.read_text()
    run_copy.page.unlink()
    report.run(read(config.Report), run_copy)
    assert run_copy.page.read_text() == before
