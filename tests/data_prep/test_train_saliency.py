"""Training DRFI: what it reads, what it must not see, what it learns, and that it repeats."""

import json
import os
import pathlib

import cv2
import numpy as np
import pytest
from conftest import disk

from aepsl_tf import config
from aepsl_tf.errors import InputError
from data_prep import train_saliency
from data_prep.saliency import drfi, forest, methods, training


def _example(objects, counted=None):
    """An `Example` of which only the finest regions' pixels matter."""
    objects = np.float64(objects)
    counted = np.full(len(objects), 10.0) if counted is None else np.float64(counted)
    return training.Example("e", [], [], counted, objects, counted)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """20 pictures of a disk each (mask id 7, void 3) and one without an object."""
    root = tmp_path_factory.mktemp("objects")
    (root / "images").mkdir()
    (root / "masks").mkdir()
    image, inside = (part[::3, ::3] for part in disk())
    for i in range(21):
        rng = np.random.default_rng(i)
        shift = rng.integers(-7, 8, 2)
        ground = rng.integers(40, 120, 3)
        moved = np.roll(inside, shift, (0, 1))
        picture = np.where(moved[..., None], np.roll(image, shift, (0, 1)), np.uint8(ground))
        picture = np.clip(picture + rng.normal(0, 20, picture.shape), 0, 255).astype(np.uint8)
        mask = np.where(moved, 7, 5).astype(np.uint8)  # 5: ground with a name of its own
        mask[:2] = 3
        if i == 20:
            mask[mask == 7] = 5
        cv2.imwrite(str(root / f"images/p{i}.png"), picture[..., ::-1])
        cv2.imwrite(str(root / f"masks/p{i}.png"), mask)
    return root


def _settings(folders, target, **changes):
    values = {
        "object_images": str(folders / "images"), "object_masks": str(folders / "masks"),
        "object_ids": "7", "void_id": 3, "trees": 4, "leaves": 20, "drfi_model": str(target),
        "data_note": "drawn disks",
    }  # fmt: skip
    return config.TrainSaliency(**values | changes)


@pytest.fixture(scope="module")
def trained(folders, tmp_path_factory):
    target = tmp_path_factory.mktemp("model") / "m.npz"
    return target, train_saliency.run(_settings(folders, target), 1)


def test_trained_model_finds_disks_it_has_not_seen(trained):
    target, results = trained
    assert results["drfi"]["mae"] < 0.1
    assert results["drfi"]["images"] > 0
    assert results.keys() == {"drfi", "spectral_residual", "fine_grained"}
    image, inside = disk()
    saliency = methods.build("drfi", drfi_model=str(target))("a", image)
    assert saliency[inside].mean() > saliency[~inside].mean() + 0.5


def test_provenance_tells_where_the_model_comes_from(trained):
    told = json.loads(trained[0].with_suffix(".json").read_text())
    names = [f"p{i}" for i in range(21)]
    held = sum(training.is_held_out(n, 5) for n in names)
    pictures = told["pictures"]
    assert pictures["held_out"] == held > 0
    assert pictures["trained_with"] + pictures["without_object"] == 21 - held
    assert told["held_out"] == trained[1]
    assert told["data"] == "drawn disks"
    assert told["settings"]["seed"] == 0
    assert "scikit-learn" in told["libraries"]


def test_same_seed_same_bytes_and_held_out_pictures_leave_no_trace(trained, folders, tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for file in (folders / kind).iterdir():
            picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            if training.is_held_out(file.stem, 5):
                picture = picture[::-1] if kind == "masks" else 255 - picture
            cv2.imwrite(str(tmp_path / kind / file.name), picture)
    train_saliency.run(_settings(tmp_path, tmp_path / "m.npz"), 1)
    assert (tmp_path / "m.npz").read_bytes() == trained[0].read_bytes()


@pytest.mark.parametrize("change", [{"seed": 1}, {"trees": 5}, {"leaves": 3}, {"held_out": 3}])
def test_settings_change_the_model(change, trained, folders, tmp_path):
    train_saliency.run(_settings(folders, tmp_path / "m.npz", **change), 1)
    assert (tmp_path / "m.npz").read_bytes() != trained[0].read_bytes()


def test_ids_and_void_say_what_is_object(folders):
    pair = (folders / "images/p0.png", folders / "masks/p0.png")
    image, objects, counted = training.read_pair(pair, [7], 3)
    mask = cv2.imread(str(pair[1]), cv2.IMREAD_UNCHANGED)
    assert image.shape == (*mask.shape, 3)
    np.testing.assert_array_equal(objects, mask == 7)
    np.testing.assert_array_equal(counted, mask != 3)
    _, objects, _ = training.read_pair(pair, [], 3)  # all but 0 and void
    np.testing.assert_array_equal(objects, mask != 3)


def test_pictures_without_an_object_are_not_trained_with(folders):
    pair = (folders / "images/p20.png", folders / "masks/p20.png")
    assert training.prepare([7], 3, pair) is None
    example = training.prepare([7], 3, (folders / "images/p0.png", folders / "masks/p0.png"))
    mask = cv2.imread(str(folders / "masks/p0.png"), cv2.IMREAD_UNCHANGED)
    assert example.objects.sum() == (mask == 7).sum()
    assert example.counted.sum() == (mask != 3).sum()
    assert example.pixels.sum() == mask.size


def test_weights_favour_the_level_that_is_right():
    truth = np.array([1.0, 0, 0, 1, 0])
    wrong = np.array([0.2, 0.9, 0.1, 0.3, 0.8])
    weights = training.fit_weights([(_example(10 * truth), np.stack([wrong, truth]))])
    np.testing.assert_allclose(weights, [0, 1], atol=1e-3)
    half = np.stack([truth, wrong]) / 2
    weights = training.fit_weights([(_example(10 * truth), half)])
    np.testing.assert_allclose(weights, [2, 0], atol=1e-3)


def test_void_pixels_do_not_shape_the_weights():
    scores = np.array([[1.0, 0, 0.4], [0.5, 0.5, 0.9]])
    with_void = _example([10, 0, 0], counted=[10, 10, 0])
    without = (_example([10, 0]), scores[:, :2])
    np.testing.assert_allclose(
        training.fit_weights([(with_void, scores)]), training.fit_weights([without]), atol=1e-6
    )


def test_the_middle_is_where_object_and_background_part():
    """Scores are 0..1 and stretched already; σ(4 · (logit s − logit m)) = .12 lies just below m."""
    scores = np.linspace(0, 1, 41)[None]
    for start in (0.36, 0.61):
        example = _example(10 * (scores[0] > start))
        middle = training.fit_middle([(example, scores)], np.ones(1))
        cut = 1 / (1 + (1 / middle - 1) * (1 / 0.12 - 1) ** (1 / training.SLOPE))
        assert abs(cut - start) < 0.05


def test_series_stay_in_one_fold():
    names = [f"{kind}_{i}_s" for kind in range(8) for i in range(3)]
    folds = dict(zip(names, training.folds_of(names), strict=True))
    assert all(folds[f"{k}_0_s"] == folds[f"{k}_{i}_s"] for k in range(8) for i in range(3))
    assert sorted(folds.values()) == sorted([0, 1, 2, 3] * 6)


def test_regions_that_are_neither_are_not_trained_with():
    """Levels of 3 regions: one clear object, one half and half, one mostly void."""
    example = training.Example(
        "e", [np.arange(3)], [np.float32([[1], [2], [3]])],
        counted=np.array([10.0, 10, 4]), objects=np.array([9.0, 5, 0]), pixels=np.full(3, 10.0),
    )  # fmt: skip
    rows, truth = training._samples([example])
    assert rows.tolist() == [[1]] and truth.tolist() == [1]


def test_level_scores_are_seen_by_the_finest_regions():
    constant = forest.Forest(np.int32([0]), np.int32([1, 1, 2]), np.uint8([0, 0, 0]),
                             np.float32([0.5, np.inf, np.inf]), np.float32([0, 0, 1]))  # fmt: skip
    example = training.Example(
        "e", [np.array([0, 1, 2]), np.array([0, 0, 1])],
        [np.float32([[0], [1], [1]]), np.float32([[1], [0]])], None, None, None,
    )  # fmt: skip
    np.testing.assert_array_equal(training.level_scores(constant, example), [[0, 1, 1], [1, 1, 0]])


def test_masks_in_the_folder_of_their_pictures(tmp_path):
    """In one folder a PNG beside a JPEG is its mask, and no picture."""
    for name in ("a.jpg", "a.png", "b.jpg", "b.png"):
        (tmp_path / name).write_bytes(b"")
    pairs = training.find(
        config.TrainSaliency(object_images=str(tmp_path), object_masks=str(tmp_path))
    )
    assert [(one.name, other.name) for one, other in pairs] == [
        ("a.jpg", "a.png"),
        ("b.jpg", "b.png"),
    ]


def test_shipped_model_on_real_pictures_that_were_held_out():
    data = os.environ.get("AEPSL_DATA")
    if not data:
        pytest.skip("AEPSL_DATA is not set: no MSRC pictures")
    told = json.loads(drfi.MODEL.with_suffix(".json").read_text())["settings"]
    root, ids = pathlib.Path(data, "msrc_v2"), train_saliency._ids(told["object_ids"])
    pairs = training.find(
        config.TrainSaliency(object_images=str(root / "images"), object_masks=str(root / "labels"))
    )
    held = [p for p in pairs if training.is_held_out(p[0].stem, told["held_out"])][::8]
    found = training.measure(drfi.MODEL, held, ids, told["void_id"], 1)
    assert found["drfi"]["images"] >= 10
    for other in ("spectral_residual", "fine_grained"):
        assert found["drfi"]["mae"] < 0.8 * found[other]["mae"]
        assert found["drfi"]["max_f"] > found[other]["max_f"]
        for threshold, precision in found["drfi"]["background_precision"].items():
            assert precision > found[other]["background_precision"][threshold]


# --------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drfi_model": ""}, "--drfi_model"),
        ({"drfi_model": "model.pkl"}, "NAME.npz"),
        ({"object_images": "nowhere"}, "--object_images=nowhere: no such folder"),
        ({"object_ids": "7,cow"}, "--object_ids=.7,cow"),
        ({"object_ids": "200"}, "too few"),
    ],
)
def test_bad_settings_are_one_line(changes, message, folders, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        train_saliency.run(_settings(folders, tmp_path / "m.npz", **changes), 1)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "m.npz").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p: (p / "masks/p3.png").unlink(), "p3.png"),
        (lambda p: (p / "images/p3.png").write_bytes(b"junk"), "p3.png"),
        (lambda p: cv2.imwrite(str(p / "masks/p3.png"), np.zeros((9, 9), np.uint8)), r"\[9, 9\]"),
        (
            lambda p: cv2.imwrite(str(p / "masks/p3.png"), np.zeros((40, 54, 3), np.uint8)),
            r"\[40, 54, 3\]",
        ),
    ],
)
def test_bad_pictures_are_named(spoil, message, folders, tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        for file in (folders / kind).iterdir():
            (tmp_path / kind / file.name).write_bytes(file.read_bytes())
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        train_saliency.run(_settings(tmp_path, tmp_path / "m.npz"), 1)


def test_training_reads_nothing_of_a_run():
    """The firewall: neither ground truth nor any record family can be named here."""
    fields = config.TrainSaliency.__dataclass_fields__
    assert not {"run_dir", "split", "train_split", "voc_root"} & set(fields)
    for module in (train_saliency, training, drfi):
        source = pathlib.Path(module.__file__).read_text()
        assert "RunDir" not in source and "records" not in source
