"""A first look at a split: what it counts, what it doubts, what it advises."""

import json

import numpy as np
import pytest
from conftest import jpeg

from aepsl_tf import config
from aepsl_tf.errors import InputError
from aepsl_tf.run_dir import RunDir
from data_prep import inspect, write_folder


def scene(seed, size=(80, 100)):
    """A smooth picture with a look of its own."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, [5, 6, 3]).astype(np.uint8)
    rows, columns = (np.arange(n) * m // n for n, m in zip(size, (5, 6), strict=True))
    return coarse[rows][:, columns]


@pytest.fixture
def photos(tmp_path):
    """30 cats, 6 dogs that never come without a cat, an odd picture, and no bird."""
    folder = tmp_path / "photos"
    folder.mkdir()
    lines = ["image,labels"]
    for i in range(30):
        (folder / f"p{i}.jpg").write_bytes(jpeg(scene(i)))
        lines.append(f"p{i},{'cat;dog' if i < 6 else 'cat'}")
    (folder / "long.jpg").write_bytes(jpeg(scene(99, (20, 300))))
    lines.append("long,cat")
    (tmp_path / "tags.csv").write_text("\n".join(lines))
    (tmp_path / "names.txt").write_text("cat\ndog\nbird\n")
    return tmp_path


def written(photos, **changes):
    run = RunDir(photos / "run")
    settings = config.WriteVoc(
        images_dir=str(photos / "photos"), labels_csv=str(photos / "tags.csv"),
        classes_file=str(photos / "names.txt"), **changes,
    )  # fmt: skip
    write_folder.run(settings, run, 1)
    return run


def test_counts_and_advice(photos, capsys):
    run = written(photos)
    capsys.readouterr()
    summary = inspect.run(config.Inspect(), run, 1)
    train = summary["splits"]["train"]
    assert train["images"] == 31 and train["untagged"] == 0
    assert train["tags"] == {"cat": 31, "dog": 6, "bird": 0}
    assert train["alone"] == {"cat": 25, "dog": 0, "bird": 0}
    assert train["together"] == [["cat", "dog", 6]]
    assert train["suspicious"].keys() == {"long"}
    told = "\n".join(summary["advice"])
    for part in ("No picture of bird", "Few pictures of dog (6)", "dog never comes without cat",
                 "Every picture has cat", "1 pictures are odd, such as long"):  # fmt: skip
        assert part in told
    out = capsys.readouterr().out
    assert "| cat" in out and told in out
    assert json.loads((run.root / "inspect/summary.json").read_text()) == summary
    assert {p.name for p in (run.root / "inspect").glob("*.png")} == {"cat.png", "dog.png"}


def test_tags_that_are_several_in_one_are_told(photos):
    """A list that parts tags by spaces, of which nobody said that these part them."""
    text = (photos / "tags.csv").read_text()
    (photos / "tags.csv").write_text(text.replace("cat;dog", "cat dog"))
    (photos / "names.txt").write_text("cat\ndog\ncat dog\nbird of prey\n")
    advice = "\n".join(inspect.run(config.Inspect(), written(photos), 1)["advice"])
    assert "Tags that look like several in one: cat dog: part them by a semicolon." in advice


def test_twins_across_splits_are_told(photos):
    """The same picture, saved again smaller, on the other side."""
    from data_prep import sources

    settings = config.WriteVoc(images_dir=str(photos / "photos"), val_share=0.3)
    split = sources.Folder._split_of
    train = next(f"p{i}" for i in range(30) if split(f"p{i}", settings) == "train")
    again = next(f"again{i}" for i in range(50) if split(f"again{i}", settings) == "val")
    number = int(train[1:])
    (photos / f"photos/{again}.jpg").write_bytes(jpeg(scene(number, (160, 200))))
    with open(photos / "tags.csv", "a") as file:
        file.write(f"\n{again},cat")
    run = written(photos, val_share=0.3)
    summary = inspect.look(config.Inspect(), run, 1)
    assert summary["twins"] == [[train, again]]
    assert f"such as {train} and {again}" in "\n".join(summary["advice"])


def test_a_picture_has_one_twin_however_many_look_like_it():
    alike = [{"id": id_, "hash": 5, "flat": False} for id_ in "abcde"]
    assert inspect._twins(alike[:3], alike[3:]) == [["a", "d"], ["a", "e"]]


def test_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match="run python -m data_prep"):
        inspect.run(config.Inspect(), RunDir(tmp_path), 1)


def test_the_writers_commands_end_with_a_look(photos, capsys):
    settings = config.WriteVoc(
        images_dir=str(photos / "photos"), labels_csv=str(photos / "tags.csv")
    )
    for told in (True, False):  # once: what was written before was looked at before
        write_folder.run_and_look(settings, RunDir(photos / "run"), 1)
        assert ("dog never comes without cat" in capsys.readouterr().out) == told
