"""Saliency of a split is what its method's model or maps hold, wherever they lie."""

import os
import shutil

import numpy as np
import pytest
from conftest import write_onnx
from PIL import Image

from aepsl_tf import config, files
from aepsl_tf.data import records
from aepsl_tf.errors import InputError
from aepsl_tf.run_dir import RunDir
from data_prep import write_saliency, write_voc
from data_prep.saliency import drfi, methods

IDS = "abcd"


@pytest.fixture
def write(small_devkit, tmp_path):
    """`write(**settings)` → rows of the small devkit's saliency."""
    write_voc.run(config.WriteVoc(voc_root=str(small_devkit)), RunDir(tmp_path / "run"), 1)

    def write(restart=False, **settings):
        run_dir = RunDir(tmp_path / "run", restart)
        write_saliency.run(config.WriteSaliency(**settings), run_dir, 1)
        return list(records.Family(run_dir.family("train", "saliency")).read())

    return write


@pytest.fixture
def not_again(monkeypatch):
    """Arms a guard: no map may be made from then on."""
    return lambda: monkeypatch.setattr(methods, "build", None)


@pytest.fixture
def maps(tmp_path):
    """A folder of maps of the split, and one of another image; all of them written long ago."""
    folder = tmp_path / "maps"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for id_ in [*IDS, "other"]:
        np.save(folder / f"{id_}.npy", rng.random((18, 26), np.float32))
        os.utime(folder / f"{id_}.npy", (1e9, 1e9))
    return folder


def test_the_model_that_ships_counts_by_its_content(write, not_again, tmp_path, monkeypatch):
    rows = write()
    not_again()
    shutil.copy(drfi.MODEL, tmp_path / "mine.npz")
    assert write(drfi_model=str(tmp_path / "mine.npz")) == rows
    other = tmp_path / "other.npz"
    other.write_bytes(drfi.MODEL.read_bytes() + b"another version's")
    monkeypatch.setattr(drfi, "MODEL", other)
    with pytest.raises(InputError, match=r"another --drfi_model \(the content of .*other.npz"):
        write()
    assert write(drfi_model=str(tmp_path / "mine.npz")) == rows


def test_an_onnx_model_counts_by_its_content(write, not_again, tmp_path):
    model = write_onnx(tmp_path / "one.onnx", [1, 3, 16, 16])
    rows = write(method="onnx", onnx_model=model)
    not_again()
    moved = str(shutil.move(model, tmp_path / "two.onnx"))
    assert write(method="onnx", onnx_model=moved) == rows
    write_onnx(tmp_path / "two.onnx", [1, 3, 24, 24])
    with pytest.raises(InputError, match="another --onnx_model"):
        write(method="onnx", onnx_model=moved)
    os.unlink(moved)
    assert write(method="onnx", onnx_model=moved) == rows


def test_maps_count_by_their_content(write, not_again, maps):
    rows = write(method="folder", maps_dir=str(maps))
    not_again()
    maps.rename(maps.with_name("moved"))
    moved = str(maps.with_name("moved"))
    assert write(method="folder", maps_dir=moved) == rows
    (maps.with_name("moved") / "other.npy").unlink()  # of no image of the split
    assert write(method="folder", maps_dir=moved) == rows
    np.save(maps.with_name("moved") / "c.npy", np.eye(18, 26, dtype=np.float32))
    with pytest.raises(InputError, match="another --maps_dir"):
        write(method="folder", maps_dir=moved)


def test_a_map_that_comes_before_the_one_that_was_read_counts(write, maps):
    write(method="folder", maps_dir=str(maps))
    Image.fromarray(np.arange(18 * 26, dtype=np.uint8).reshape(18, 26)).save(maps / "c.png")
    with pytest.raises(InputError, match="another --maps_dir"):
        write(method="folder", maps_dir=str(maps))


def test_maps_are_not_read_again_while_nobody_touches_them(write, maps, monkeypatch):
    rows = write(method="folder", maps_dir=str(maps))
    sha256 = files._sha256

    def of_no_map(path):
        assert maps not in path.parents
        return sha256(path)

    monkeypatch.setattr(files, "_sha256", of_no_map)
    assert write(method="folder", maps_dir=str(maps)) == rows
    shutil.rmtree(maps)
    assert write(method="folder", maps_dir=str(maps)) == rows


def test_a_model_that_is_not_read_does_not_count(write, not_again, tmp_path):
    rows = write(method="fine_grained")
    not_again()
    assert write(method="fine_grained", drfi_model="m.npz", onnx_model="m.onnx") == rows


def test_a_killed_split_does_not_go_on_with_other_maps(write, maps, monkeypatch):
    read = methods.FolderSaliency.map_for

    def die_at_d(self, image_id, *size):
        if image_id == "d":
            raise KeyboardInterrupt
        return read(self, image_id, *size)

    with monkeypatch.context() as patch:
        patch.setattr(methods.FolderSaliency, "map_for", die_at_d)
        with pytest.raises(KeyboardInterrupt):
            write(method="folder", maps_dir=str(maps))
    shutil.copy(maps / "b.npy", maps / "a.npy")
    with pytest.raises(InputError, match="begun with another --maps_dir"):
        write(method="folder", maps_dir=str(maps))
    rows = write(method="folder", maps_dir=str(maps), restart=True)
    assert rows[0]["saliency/png"] == rows[1]["saliency/png"]
