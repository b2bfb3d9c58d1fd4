"""Own pictures: a folder with a list of tags, or a sub-folder a class, to the end of a run."""

import json

import numpy as np
import pytest
from conftest import TINY, jpeg, reader
from PIL import Image

from aepsl_tf import config
from aepsl_tf.data import records
from aepsl_tf.errors import InputError
from aepsl_tf.pipeline import Pipeline
from aepsl_tf.run_dir import RunDir
from data_prep import write_folder


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


def write(photos, restart=False, **changes):
    given = {"images_dir": str(photos / "photos"), "labels_csv": str(photos / "tags.csv")}
    run = RunDir(photos / "run", restart)
    write_folder.run(config.WriteVoc(**given | changes), run, 1)
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
        (lambda p: {"images_dir": ""}, "--images_dir is empty"),
    ],
)
def test_what_cannot_be_read_is_told(photos, change, told):
    (photos / "run2").mkdir()
    with pytest.raises(InputError, match=told) as caught:
        write(photos, **change(photos))
    assert "\n" not in str(caught.value)
    assert not (photos / "run/data").exists()


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
    assert (run.export("psl") / "saved_model.pb").exists()
    names = {path.name for path in run.report.iterdir()}
    assert {"cat.png", "Dog.png"} < names and len(names) == 3
    summary = json.loads((run.root / "summary.json").read_text())
    assert summary["model_miou"] == {} and summary["mask_miou"] == {}
