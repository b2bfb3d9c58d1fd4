"""Which pictures are found under what is given, and by which IDs."""

import os
import pathlib

import pytest

from aepsl_tf.errors import InputError
from aepsl_tf.inference import inputs

TREE = ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "trip/a.jpg", "trip/far/c.webp",
        ".cache/x.jpg", "__MACOSX/y.jpg")  # fmt: skip


@pytest.fixture
def photos(tmp_path):
    for name in TREE:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"")
    return tmp_path / "photos"


def ids(*arguments, **named):
    return [picture.id for picture in inputs.find(*arguments, **named)]


def test_a_file_a_folder_and_what_is_below_it(photos):
    [picture] = inputs.find(str(photos / "a.PNG"))
    assert (picture.id, picture.file, picture.name) == ("a", str(photos / "a.PNG"), "a.PNG")
    assert ids(str(photos)) == ["a", "b"]
    assert ids(str(photos), recursive=True) == ["a", "b", "trip/a", "trip/far/c"]
    last = inputs.find(str(photos), True)[-1]
    assert last.name == "trip/far/c.webp" and last.file == str(photos / last.name)


def test_of_two_folders_the_one_above_comes_first_whatever_follows_its_name(photos):
    for name in ("trip-2/a.jpg", "trip.jpg", "trip/b c.jpg", "trip/b/c.jpg"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"")
    found = [picture.file for picture in inputs.find(str(photos), recursive=True)]
    assert found == [str(path) for path in sorted(map(pathlib.Path, found))]
    assert ids(f"{photos}/t*/*") == ["trip/a", "trip/b c", "trip-2/a"]


def test_names_that_hold_dots(photos, monkeypatch):
    monkeypatch.chdir(photos)
    for name in ("noted", "a.b.", ".x.png", "..jpg", "trip/..jpg"):
        pathlib.Path(name).write_bytes(b"")
    for name, id_ in {"noted": "noted", "./a.b.": "a.b.", "trip/../.x.png": ".x"}.items():
        [picture] = inputs.find(name)
        assert (picture.id, picture.file) == (id_, str(pathlib.Path(name)))
    assert [tuple(picture) for picture in inputs.find("./trip//./.*")] == [(".", "trip", ".jpg")]
    assert [picture.file for picture in inputs.find(".")] == ["a.PNG", "b.jpg"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.jpg", ["b"]), ("*", ["a", "b"]), ("**/*.jpg", ["b", "trip/a"]), ("t*/a.jpg", ["trip/a"]),
     ("trip/**/*", ["a", "far/c"]), ("[ab].*", ["a", "b"])],
)  # fmt: skip
def test_patterns_and_ids_below_their_first_sign(photos, pattern, expected):
    assert ids(str(photos / pattern)) == expected


def test_several_by_commas_each_once(photos):
    assert ids(f"{photos / 'b.jpg'}, {photos},{photos}/trip/*.jpg") == ["b", "a", "a"]


def test_what_is_there_under_the_whole_text_is_that(photos):
    for name in ("x,y.jpg", "[1].jpg", "c*.jpg"):
        (photos / name).write_bytes(b"")
        [picture] = inputs.find(str(photos / name))
        assert (picture.id, picture.file) == (name[:-4], str(photos / name))
    assert ids(f"{photos}/[1].jpg,{photos}/b.jpg") == ["[1]", "b"]


def test_links_that_lead_back(photos):
    (photos / "trip/back").symlink_to(photos)
    (photos / "linked.jpg").symlink_to(photos / "b.jpg")
    (photos / "nowhere.jpg").symlink_to(photos / "gone.jpg")
    found = ids(str(photos), recursive=True)
    assert found == ["a", "b", "linked", "nowhere", "trip/a", "trip/far/c"]


def test_an_output_folder_below_holds_no_input(photos):
    (photos / "masks").mkdir()
    (photos / "masks/b.png").write_bytes(b"")
    for images, recursive in ((str(photos), True), (f"{photos}/**/*", False)):
        assert "masks/b" in ids(images, recursive)
        assert ids(images, recursive, output=str(photos / "masks")) == [
            "a", "b", "trip/a", "trip/far/c"
        ]  # fmt: skip
    assert "b" in ids(str(photos), output=str(photos))  # above, or the folder itself: its own
    assert "b" in ids(str(photos), output=str(photos.parent))
    assert ids(str(photos / "masks"), output=str(photos / "masks")) == ["b"]


def test_what_was_predicted_beside_the_pictures_is_no_input(photos):
    (photos / "trip/b.png").write_bytes(b"")
    (photos / inputs.MADE).write_text('{"trip/b.png": "b.jpg", "b_overlay.png": "b.jpg"}')
    (photos / "b_overlay.png").write_bytes(b"")
    output = str(photos)
    assert ids(str(photos), True, output=output) == ["a", "b", "trip/a", "trip/far/c"]
    assert ids(f"{photos}/trip/*", output=output) == ["a"]
    assert ids(f"{photos}/b*", output=str(photos.parent)) == ["b", "b_overlay"]


def test_brackets_and_spaces_in_the_names_of_folders(photos):
    (photos / "trip").rename(photos / " trip [2020]")
    assert ids(f"{photos}/ trip [2020]/*.jpg") == ["a"]
    assert ids(f"{photos}/ trip [2020]/**/*") == ["a", "far/c"]
    (photos / " trip [2020]").rename(photos / "trip ")
    assert ids(f"{photos}/trip , {photos}/b.jpg") == ["a", "b"]
    assert ids(f"{photos}/trip ") == ["a"]


def test_a_pipe_is_no_picture(photos):
    os.mkfifo(photos / "pipe.jpg")
    assert ids(str(photos)) == ["a", "b"]


def test_a_list_chooses_and_orders(photos, tmp_path):
    (tmp_path / "list.txt").write_text("trip/a\nb.jpg\n")
    assert ids(str(photos), True, str(tmp_path / "list.txt")) == ["trip/a", "b"]
    (tmp_path / "list.txt").write_text("b\nc\nd\n")
    with pytest.raises(InputError, match=r"list.txt: 2 of 3 are not among the pictures: c, d$"):
        inputs.find(str(photos), True, str(tmp_path / "list.txt"))


@pytest.mark.parametrize(
    ("images", "message"),
    [("", "expected a picture, a folder"), ("photos/gone", "expected a picture, a folder"),
     ("photos/b.jpg,photos/gone", "'photos/gone' is not there"), ("photos,", "'' is not there"),
     ("photos/*.bmp", r"photos/\*.bmp: holds no picture"), ("x" * 5000, "expected a picture"),
     ("empty", "holds no picture.*--recursive"), ("empty/**", r"holds no picture \([^;]*\)$")],
)  # fmt: skip
def test_nothing_there(photos, images, message, monkeypatch):
    monkeypatch.chdir(photos.parent)
    os.mkdir("empty")
    with pytest.raises(InputError, match=message) as error:
        inputs.find(images)
    assert "\n" not in str(error.value)
