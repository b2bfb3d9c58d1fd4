"""Own pictures: a folder with a list of tags, or a sub-folder a class, to the end of a run."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
from conftest import TINY, jpeg, reader
from PIL import Image

from aepsl_tf import config
from aepsl_tf.data import encoding, records
from aepsl_tf.errors import InputError
from aepsl_tf.phases import predict
from aepsl_tf.pipeline import Pipeline
from aepsl_tf.run_dir import RunDir
from data_prep import inspect, sources, write_folder


def picture(seed, size=(40, 52)):
    return jpeg(np.random.default_rng(seed).integers(0, 256, [*size, 3], dtype=np.uint8))


@pytest.fixture
def photos(tmp_path):
    """Pictures of odd names in sub-folders, and their tags."""
    folder = tmp_path / "photos"
    names = ["IMG 1.JPG", "b.jpeg", "trip/IMG 1.jpg", "trip/é.jpg", "c.png", "d.jpg"]
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(seed))
    lines = ["image,labels", "IMG 1.JPG,cat", "b,Dog;cat", "trip/IMG 1.jpg,dog", "trip/é,dog ",
             '"c.png",cat', "d,tv/monitor"]  # fmt: skip
    (tmp_path / "tags.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    return tmp_path


def given(photos, **changes):
    own = {"images_dir": str(photos / "photos"), "labels_csv": str(photos / "tags.csv")}
    return config.WriteVoc(**own | changes)


def write(photos, restart=False, run="run", **changes):
    run = RunDir(photos / run, restart)
    write_folder.run(given(photos, **changes), run, 1)
    return run


def tags_of(run, split="train"):
    names = run.classes().all_names()
    rows = records.Family(run.family(split, "images")).read()
    return {row["image/id"]: [names[c] for c in row["image/labels"]] for row in rows}


TAGS = {"IMG 1": ["cat"], "b": ["cat", "Dog"], "trip/IMG 1": ["Dog"], "trip/é": ["Dog"],
        "c": ["cat"], "d": ["tv/monitor"]}  # fmt: skip


def test_tags_from_a_list(photos):
    run = write(photos)
    assert run.classes().names == ("cat", "Dog", "tv/monitor")
    assert tags_of(run) == TAGS
    assert not run.entry("write_voc/val")
    assert write(photos).manifest() == run.manifest()  # and is then finished


def test_a_sub_folder_a_class(tmp_path):
    for seed, name in enumerate(["cat/1.jpg", "dog/1.jpg", "dog/pups/2.jpg"]):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(picture(seed))
    run = write(tmp_path, labels_csv="")
    assert tags_of(run) == {"cat/1": ["cat"], "dog/1": ["dog"], "dog/pups/2": ["dog"]}


def test_the_share_for_validation_moves_no_picture(photos):
    """Those that are added later change nothing for those that were there."""
    before = write(photos, val_share=0.5)
    split = {name: s for s in ("train", "val") for name in tags_of(before, s)}
    assert set(split.values()) == {"train", "val"} and split.keys() == TAGS.keys()
    for seed in range(20, 30):
        (photos / f"photos/more{seed}.jpg").write_bytes(picture(seed))
    with open(photos / "tags.csv", "a") as file:
        file.write("".join(f"\nmore{seed},cat" for seed in range(20, 30)))
    after = write(photos, restart=True, val_share=0.5)
    now = {name: s for s in ("train", "val") for name in tags_of(after, s)}
    assert split.items() < now.items()


def test_masks_beside(photos):
    masks = photos / "masks"
    for id_ in TAGS:
        (masks / id_).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(40, 52, dtype=np.uint8)).save(masks / f"{id_}.png")
    run = write(photos, masks_dir=str(masks))
    assert records.Family(run.ground_truth("train", "evaluate")).images == 6
    assert tags_of(run) == TAGS


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: {"images_dir": str(p / "nowhere")}, "no such folder"),
        (lambda p: {"images_dir": str(p / "run2")}, "holds no picture"),
        (lambda p: {"labels_csv": ""}, "no tag says what the classes are"),
        (lambda p: {"labels_csv": "", "tags_from": "csv"}, "--tags_from=csv needs --labels_csv"),
        (lambda p: {"images_dir": ""}, "--images_dir is empty"),
    ],
)
def test_what_cannot_be_read_is_told(photos, change, told):
    (photos / "run2").mkdir()
    with pytest.raises(InputError, match=told) as caught:
        write(photos, **change(photos))
    assert "\n" not in str(caught.value)
    assert not (photos / "run/data").exists()


@pytest.fixture
def forbid(monkeypatch):
    """`forbid(name)`: folders of that name cannot be listed."""

    def forbid(name):
        listed = os.scandir

        def scandir(path):
            if str(path).endswith(name):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return listed(path)

        monkeypatch.setattr(os, "scandir", scandir)

    return forbid


def test_a_folder_that_cannot_be_listed_loses_no_class(photos, forbid):
    forbid("trip")
    with pytest.raises(InputError, match=r"trip: cannot be read \(Permission denied\)"):
        write(photos)


def _colored_masks(photos, folder):
    for id_ in TAGS:
        pixels = np.zeros([40, 52, 3], np.uint8)
        pixels[:20, :, 0] = pixels[20:, :, 1] = 255
        (folder / id_).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{id_}.png")


def test_what_systems_keep_beside_is_not_looked_at(photos, forbid):
    forbid("lost+found")
    (photos / "photos/lost+found").mkdir()
    assert tags_of(write(photos)) == TAGS


@pytest.mark.parametrize("beside", [False, True])
def test_another_labelmap_is_another_truth(photos, beside):
    masks = photos / "masks"
    _colored_masks(photos, masks)
    labelmap = (photos if beside else masks) / "labelmap.txt"
    by = {"masks_dir": str(masks), "tags_from": "csv"}

    def ids(run):
        row = next(iter(records.Family(run.ground_truth("train", "evaluate")).read()))
        return np.unique(encoding.read_grey_png(row["mask/png"])[:20]).tolist()

    labelmap.write_text("cat:255,0,0::\ndog:0,255,0::\n")
    assert ids(write(photos, **by)) == [1]
    assert ids(write(photos, **by)) == [1]
    older = photos / "older"  # a version that did not look at it recorded the masks alone
    shutil.copytree(photos / "run", older)
    content = sources.of(given(photos, **by)).for_ground_truth()["masks_dir"]._older
    manifest = json.loads((older / "manifest.json").read_text())
    del manifest["seal"]
    manifest["write_voc/train/ground_truth"]["config"]["masks_dir"] = content.to_json()
    (older / "manifest.json").write_text(json.dumps(manifest))
    write(photos, run="older", **by)
    labelmap.write_text("dog:255,0,0::\ncat:0,255,0::\n")
    with pytest.raises(InputError, match="--masks_dir"):
        write(photos, **by)
    assert ids(write(photos, restart=True, **by)) == [2]


def test_masks_below_the_pictures_are_no_pictures_by_whatever_path(photos):
    inside = photos / "photos" / "masks"
    _colored_masks(photos, inside)
    (photos / "masks").symlink_to(inside)
    (photos / "labelmap.txt").write_text("cat:255,0,0::\ndog:0,255,0::\n")
    run = write(photos, masks_dir=str(photos / "masks"), untagged="negative")
    assert tags_of(run) == TAGS
    assert records.Family(run.ground_truth("train", "evaluate")).images == len(TAGS)


def test_a_folder_of_pictures_is_no_run_for_its_names(photos):
    """As others export them."""
    (photos / "photos/data").mkdir()
    (photos / "photos/data/e.jpg").write_bytes(picture(9))
    (photos / "photos/manifest.json").write_text("{}")
    shutil.move(photos / "photos", photos / "export")
    (photos / "photos").mkdir()
    shutil.move(photos / "export", photos / "photos/export")
    (photos / "names.txt").write_text("cat\n")
    run = write(photos, labels_csv="", tags_from="none", classes_file=str(photos / "names.txt"))
    assert "export/data/e" in tags_of(run)


def test_a_run_below_the_pictures_is_none_of_them(photos):
    for _ in range(2):
        run = write(photos, run="photos/run", untagged="negative")
        assert tags_of(run) == TAGS
        inspect.run(config.Inspect(), run, 1)  # writes pictures
    shutil.rmtree(run.root / "data")  # as is advised where classes changed
    assert tags_of(write(photos, run="photos/run", untagged="negative")) == TAGS


def test_the_first_try_s_classes_bind_nobody(photos):
    """Tags are mended after the first look; and after a try that ended before anything was made."""
    text = (photos / "tags.csv").read_text()
    (photos / "tags.csv").write_text(text.replace("Dog;cat", "Dog cat"))
    assert "Dog cat" in write(photos).classes().names
    (photos / "tags.csv").write_text(text)
    assert tags_of(write(photos, restart=True)) == TAGS
    (photos / "photos/d.jpg").write_bytes(b"no picture")
    (photos / "tags.csv").write_text(text.replace("Dog;cat", "Dog cat"))
    with pytest.raises(InputError, match=r"d\.jpg"):
        write(photos, restart=True)
    (photos / "photos/d.jpg").write_bytes(picture(5))
    (photos / "tags.csv").write_text(text)
    run = write(photos, restart=True)  # nothing finished has the classes of the try that failed
    assert tags_of(run) == TAGS and run.classes().names == ("cat", "Dog", "tv/monitor")


def test_classes_of_another_split_are_told(photos):
    write(photos, val_share=0.5)
    text = (photos / "tags.csv").read_text()
    (photos / "tags.csv").write_text(text.replace("Dog;cat", "Dog;owl"))
    with pytest.raises(InputError, match=r"remove \S*/run/data to write all splits again"):
        write(photos, restart=True, val_share=0.5)
    shutil.rmtree(photos / "run/data")
    assert "owl" in write(photos, val_share=0.5).classes().names


def test_two_files_of_one_name(photos):
    (photos / "photos/d.png").write_bytes(picture(9))
    with pytest.raises(InputError, match=r"d\.jpg and d\.png"):
        write(photos)


def test_from_a_folder_to_a_saved_model(photos):
    """Without validation, without truth, with a class whose name is no file's."""
    read = reader(**TINY | {"images_dir": str(photos / "photos"), "max_steps": 1, "merge_steps": 1,
                            "labels_csv": str(photos / "tags.csv")})  # fmt: skip
    run = RunDir(photos / "run")
    Pipeline(read(config.Pipeline, segmenters="psl"), read, run, workers=1).run()
    assert (run.export("psl") / "1/saved_model.pb").exists()
    names = {path.name for path in run.drawn.glob("*.png")}
    assert {"cat.png", "Dog.png"} < names and len(names) == 3
    summary = json.loads((run.root / "summary.json").read_text())
    assert summary["model_miou"] == {} and summary["mask_miou"] == {}


ODD_NAMES = ["..", "🐈 cat", "tv/monitor", "a:b", "x" * 200, "CON", "never"]


def strict(path):
    """A JSON file, which holds null and never NaN."""
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{path}: {name}"))


def whole(run):
    """Every JSON file and picture of a run can be read; no name has left its folder."""
    for path in run.root.rglob("*.json"):
        strict(path)
    pages = [p for folder in ("report/drawn", "inspect") for p in (run.root / folder).glob("*.png")]
    for path in pages:
        with Image.open(path) as page:
            page.load()
    return {p.name for p in pages}


def test_odd_names_negatives_and_a_validation_that_is_all_void(photos, capsys):
    """A class that never occurs, pictures without any, and names that are no file's."""
    (photos / "names.txt").write_text("\n".join(ODD_NAMES))
    for seed in range(20, 32):
        (photos / f"photos/more{seed}.jpg").write_bytes(picture(seed))
    lines = ["image,labels"]
    files = sorted(str(p.relative_to(photos / "photos")) for p in
                   (photos / "photos").rglob("*.*"))  # fmt: skip
    for number, file in enumerate(files):
        lines.append(f'"{file}","{["", *ODD_NAMES[:-1]][number % 6]}"')
    (photos / "tags.csv").write_text("\n".join(lines), encoding="utf-8")
    masks = photos / "masks"
    for file in files:
        path = (masks / file).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full([40, 52], 255, np.uint8)).save(path)
    read = reader(**TINY | {
        "images_dir": str(photos / "photos"), "labels_csv": str(photos / "tags.csv"),
        "classes_file": str(photos / "names.txt"), "masks_dir": str(masks), "val_share": 0.4,
        "untagged": "negative", "max_steps": 1, "merge_steps": 1, "tags_from": "csv",
    })  # fmt: skip
    run = RunDir(photos / "run")
    Pipeline(read(config.Pipeline, segmenters="psl,psl_plus_plus"), read, run, workers=1).run()
    assert "–" in capsys.readouterr().out  # where there is no number
    assert strict(run.evaluation("psl"))["psl"]["miou"] is None
    assert strict(run.root / "summary.json")["model_miou"]["psl"] is None
    untagged = [r for r in records.Family(run.family("train", "images")).read()
                if not r["image/labels"]]  # fmt: skip
    mined = {r["image/id"]: r["regions/pngs"] for r in records.Family(run.regions(1)).read()}
    assert untagged and all(mined[row["image/id"]] == [] for row in untagged)
    inspect.run(read(config.Inspect), run, 1)
    predict.run(read(config.Predict, images=str(photos / "photos"), crf=False,
                     output=str(photos / "out")), run, 1)  # fmt: skip
    assert len(list((photos / "out").iterdir())) > 2
    assert len(whole(run)) >= 3
    assert {p.name for p in photos.iterdir()} == {"photos", "tags.csv", "names.txt", "masks", "run",
                                                  "out"}  # fmt: skip


def test_one_class_and_nothing_labelled(photos):
    (photos / "names.txt").write_text("thing")
    lines = ["image,labels", *(f"{id_},{'thing' if n else ''}" for n, id_ in enumerate(TAGS))]
    (photos / "tags.csv").write_text("\n".join(lines), encoding="utf-8")
    read = reader(**TINY | {
        "images_dir": str(photos / "photos"), "labels_csv": str(photos / "tags.csv"),
        "classes_file": str(photos / "names.txt"), "untagged": "negative", "max_steps": 1,
        "merge_steps": 1, "background_threshold": 0.0, "indoor_background_threshold": 0.0,
        "threshold": 1.0,
    })  # fmt: skip
    run = RunDir(photos / "run")
    Pipeline(read(config.Pipeline, segmenters="no_psl,psl"), read, run, workers=1).run()
    for row in records.Family(run.masks("steps_1_to_1")).read():
        assert set(np.unique(encoding.read_grey_png(row["mask/png"]))) <= {0, 255}
    assert (run.export("psl") / "1/saved_model.pb").exists()
    whole(run)
