"""What identifies a file or a folder: what it holds; and what need not be read again to see it."""

import os

import pytest

from aepsl_tf import files
from aepsl_tf.errors import InputError
from aepsl_tf.files import Content


@pytest.fixture
def folder(tmp_path):
    """Three files, of which two are read; all of them written long ago."""
    root = tmp_path / "folder"
    for name, text in {"a/1": "one", "b/2": "two", "b/3": "three"}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        os.utime(root / name, (1e9, 1e9))
    return root


NAMES = ["b/2", "a/1"]


def of(folder, names=NAMES, given=None):
    return Content(given or str(folder), folder, names)


def test_a_file_s_name_and_place_do_not_count(tmp_path):
    (tmp_path / "one").write_text("text")
    known = Content("one", tmp_path / "one").to_json()
    assert known["path"] == "one" and known.keys() == {"path", "sha256"}
    (tmp_path / "one").rename(tmp_path / "other")
    assert Content("other", tmp_path / "other").is_same(known)
    (tmp_path / "other").write_text("tex2")
    assert not Content("other", tmp_path / "other").is_same(known)


def test_what_is_not_read_of_a_folder_does_not_count(folder):
    known = of(folder).to_json()
    (folder / "b/3").write_text("new")
    (folder / "b/4").write_text("new")
    assert of(folder).is_same(known)
    assert not of(folder, [*NAMES, "b/3"]).is_same(known)


@pytest.mark.parametrize("change", ["content", "name", "gone"])
def test_a_changed_folder_is_another(folder, change):
    known, names = of(folder).to_json(), list(NAMES)
    if change == "content":
        (folder / "a/1").write_text("ONE")  # of the same size
    elif change == "name":
        (folder / "a/1").rename(folder / "a/0")
        names = ["b/2", "a/0"]
    else:
        (folder / "a/1").unlink()
    assert not of(folder, names).is_same(known)


def test_untouched_folders_are_not_read(folder, monkeypatch):
    known = of(folder).to_json()
    os.rename(folder, folder.with_name("moved"))  # which leaves the times of files
    monkeypatch.setattr(files, "_sha256", None)
    assert of(folder.with_name("moved")).is_same(known)


def test_a_copied_folder_is_read_once(folder, monkeypatch):
    known = of(folder).to_json()
    os.utime(folder / "a/1", (2e9, 2e9))
    again = of(folder, given="elsewhere")
    assert again.is_same(known)
    renewed = again.renewed(known)
    assert renewed["sha256"] == known["sha256"] and renewed["path"] == "elsewhere"
    monkeypatch.setattr(files, "_sha256", None)
    assert of(folder).is_same(renewed)


def test_names_that_take_time_are_asked_for_only_to_read(folder, monkeypatch):
    asked = []
    names = lambda: asked.append(1) or NAMES  # noqa: E731
    known = of(folder, names).to_json()
    assert asked == [1] and known["sha256"] == of(folder).sha256
    assert of(folder, names).is_same(known) and asked == [1]
    (folder / "b/4").write_text("not read, but another stamp")
    assert of(folder, names).is_same(known) and asked == [1, 1]


def test_names_made_anew_at_every_pass_are_as_a_list_of_them(folder):
    class Names:
        def __iter__(self):
            yield from sorted(NAMES)

    one, other = of(folder).to_json(), of(folder, Names()).to_json()
    assert one == other and one["sha256"] and one["stamp"]


def test_what_is_gone_is_known_by_its_path(tmp_path):
    (tmp_path / "file").write_text("text")
    known = Content("some/file", tmp_path / "file").to_json()
    (tmp_path / "file").unlink()
    assert Content("some//file", tmp_path / "file").is_same(known)
    assert not Content("file", tmp_path / "file").is_same(known)
    assert Content("some/file", tmp_path / "file").renewed(known) == known


@pytest.mark.parametrize("names", [["a/1", "b/2"], lambda: ["a/1"]])
def test_a_folder_is_gone_when_one_of_its_parts_is(folder, names):
    known = of(folder, names).to_json()
    os.rename(folder / ("b" if isinstance(names, list) else "."), folder.with_name("away"))
    assert of(folder, names).is_same(known)
    assert not of(folder, names, given="elsewhere").is_same(known)


def test_older_records_are_paths(tmp_path):
    (tmp_path / "voc").mkdir()
    assert Content("voc/", tmp_path / "voc", ["x"]).is_same("voc")
    assert not Content("voc", tmp_path / "voc", ["x"]).is_same("voc2")
    assert not Content("voc", tmp_path / "voc", ["x"]).is_same(None)


def test_any_name_that_a_file_can_have_counts(folder):
    before = Content("voc", folder, [b"\xff.jpg".decode("utf-8", "surrogateescape")]).sha256
    assert before != Content("voc", folder, ["x.jpg"]).sha256


def test_a_drive_that_knows_no_locks_is_told(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", refuse)
    with (
        pytest.raises(InputError, match=r"cannot be locked \(Function not implemented\)"),
        files.alone(tmp_path / "lock", "another"),
    ):
        pass


def test_a_file_that_cannot_be_read_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("text")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "open", refuse, raising=False)
    with pytest.raises(InputError, match=r"file: cannot be read \(Permission denied\)"):
        Content("file", tmp_path / "file").to_json()
