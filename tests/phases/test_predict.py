"""Prediction on picture files: what each flag changes, and that no picture costs another."""

import csv
import io
import json
import os
import tarfile

import numpy as np
import pytest
from conftest import jpeg, opened
from PIL import Image

from aepsl_tf import config
from aepsl_tf.data import encoding, records, runners
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation import metrics
from aepsl_tf.files import digest
from aepsl_tf.inference import over_split, voc_submission
from aepsl_tf.phases import evaluate, predict
from aepsl_tf.run_dir import RunDir

SIZES = {
    "tiny": (7, 5), "pixel": (1, 1), "upright": (64, 48), "trip/wide": (33, 120),
    "trip/far/other": (64, 48),
}  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of four PNGs and, beside one of them, a grey JPEG; two lie in sub-folders."""
    folder, rng = tmp_path_factory.mktemp("given") / "pictures", np.random.default_rng(3)
    for id_, (height, width) in SIZES.items():
        (folder / id_).parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, [4, 4, 3], dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height)).save(folder / f"{id_}.png")
    coarse = Image.fromarray(rng.integers(0, 256, [5, 5], dtype=np.uint8)).resize((50, 40))
    (folder / "grey.jpg").write_bytes(jpeg(np.array(coarse)))
    return folder


@pytest.fixture
def predicted(finished, read, pictures, tmp_path):
    """`predicted(**changes)`: the output folder, by the model whose masks are varied."""

    def run(name="out", workers=1, **changes):
        output = tmp_path / name
        given = {"model": "no_psl", "crf": False, "images": str(pictures), "output": str(output)}
        predict.run(read(config.Predict, **given | changes), finished.run_dir, workers)
        return output

    return run


def masks_of(output):
    """ID → mask of every picture that was predicted."""
    overlays = sorted(output.rglob("*_overlay.png"))
    ids = [str(path.relative_to(output)).removesuffix("_overlay.png") for path in overlays]
    return {id_: np.array(opened(output / f"{id_}.png")) for id_ in ids}


def refused(message, run, *arguments, **named):
    with pytest.raises(InputError, match=message) as error:
        run(*arguments, **named)
    assert "\n" not in str(error.value)


def names_in(output):
    return {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------ pictures in


def test_files_patterns_and_sub_folders(predicted, pictures):
    assert masks_of(predicted("flat")).keys() == {"grey", "pixel", "tiny", "upright"}
    whole = masks_of(predicted("whole", recursive=True))
    assert whole.keys() == {*SIZES, "grey"}
    for id_, size in SIZES.items():
        assert whole[id_].shape == size
    pattern = masks_of(predicted("pattern", images=f"{pictures}/trip/**/*.png,{pictures}/grey.jpg"))
    assert pattern.keys() == {"wide", "far/other", "grey"}
    np.testing.assert_array_equal(pattern["far/other"], whole["trip/far/other"])


def test_a_list_of_some(predicted, tmp_path):
    (tmp_path / "list.txt").write_text("trip/wide\nupright\n")
    output = predicted(recursive=True, ids_file=str(tmp_path / "list.txt"))
    assert masks_of(output).keys() == {"trip/wide", "upright"}


def test_broken_pictures_are_named_and_the_others_done(predicted, pictures, tmp_path, capsys):
    (tmp_path / "in/sub").mkdir(parents=True)
    whole = (pictures / "grey.jpg").read_bytes()
    (tmp_path / "in/good.jpg").write_bytes(whole)
    (tmp_path / "in/sub/broken.jpg").write_bytes(whole[: len(whole) // 2])
    changes = {"images": str(tmp_path / "in"), "recursive": True, "coco": True, "flip": True,
               "contact_sheet": True, "crf": True}  # fmt: skip
    refused("1 of 2 pictures could not be read: sub/broken.jpg", predicted, **changes)
    assert capsys.readouterr().err.splitlines()[-1].startswith("predict: 1 of 1 images")
    assert names_in(tmp_path / "out") == {
        "good.png", "good_overlay.png", "areas.csv", "coco.json", "contact_sheet_001.png",
        "predictions.json",
    }  # fmt: skip


def test_a_model_that_is_not_there(predicted, tmp_path):
    refused("train_segmenter/best", predicted, model="best")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------------------- how it is seen


def test_large_pictures_are_segmented_at_the_limit(predicted, tmp_path):
    """Their masks have their own size, their overlays the limit's."""
    pixels = np.random.default_rng(0).integers(0, 256, [7, 9, 3], dtype=np.uint8)
    Image.fromarray(pixels).resize((90, 70)).save(tmp_path / "large.png")
    for name, changes, seen in (
        ("limit", {"pixel_limit": 4096}, (72, 56)),
        ("side", {"max_side": 45}, (45, 35)),
        ("both", {"max_side": 80, "pixel_limit": 4096}, (72, 56)),
        ("crf", {"max_side": 45, "crf": True}, (45, 35)),
        ("views", {"max_side": 45, "multi_scale": "0.5,2"}, (45, 35)),
    ):
        output = predicted(name, images=str(tmp_path / "large.png"), **changes)
        assert opened(output / "large.png").size == (90, 70)
        assert opened(output / "large_overlay.png").size == seen


def test_max_side_is_the_prediction_of_the_smaller_picture(predicted, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, [8, 8, 3], dtype=np.uint8)
    large = Image.fromarray(pixels).resize((128, 128))
    large.save(tmp_path / "a.png")
    (tmp_path / "small").mkdir()
    large.resize((64, 64), Image.Resampling.BOX).save(tmp_path / "small/a.png")
    found = masks_of(predicted("seen", images=str(tmp_path / "a.png"), max_side=64))["a"]
    small = masks_of(predicted("small_out", images=str(tmp_path / "small")))["a"]
    assert len(np.unique(found)) > 1
    np.testing.assert_array_equal(found[::2, ::2], found[1::2, 1::2])
    assert (found[::2, ::2] == small).mean() > 0.95  # another filter made it small


@pytest.mark.parametrize("changes", [{"flip": True}, {"multi_scale": "0.5,1,1.5"}, {"crf": True}])
def test_views_and_the_crf_change_masks(predicted, changes):
    before, after = masks_of(predicted("before")), masks_of(predicted("after", **changes))
    assert before.keys() == after.keys()
    assert any((before[id_] != after[id_]).any() for id_ in before)


def test_views_compose_with_the_crf(predicted):
    views = {"flip": True, "multi_scale": "0.75,1.25"}
    masks = [masks_of(predicted(name, **changes)) for name, changes in
             (("none", {}), ("crf", {"crf": True}), ("views", views),
              ("both", views | {"crf": True}))]  # fmt: skip
    whole = [np.concatenate([mask.ravel() for mask in found.values()]) for found in masks]
    assert all((whole[3] != other).any() for other in whole[:3])


def test_p_prohibits(predicted):
    found = masks_of(predicted(model="psl", p=1.0))
    assert not any(mask.any() for mask in found.values())


def test_a_batch_holds_pictures_of_one_size(predicted, monkeypatch):
    seen, network = [], over_split.Reader._network

    def noted(self, function, channels):
        of = network(self, function, channels)
        return lambda inputs: seen.append(inputs.shape[0]) or of(inputs)

    monkeypatch.setattr(over_split.Reader, "_network", noted)
    alone = masks_of(predicted("alone"))
    assert seen == [1, 1, 1, 1]
    together = masks_of(predicted("together", batch=3))
    assert seen[4:] == [3, 1]  # warped, all are of one size
    for id_, mask in alone.items():
        assert (mask != together[id_]).mean() < 0.01


@pytest.mark.parametrize("changes", [{"crf": True}, {"flip": True}, {}])
def test_workers_change_no_predicted_byte(predicted, changes, monkeypatch):
    monkeypatch.setattr(runners, "PATIENCE", 0.0)
    more = {"scores": True, "coco": True, "contact_sheet": True, "recursive": True}
    one, two = (predicted(str(n), workers=n, **changes, **more) for n in (1, 2))
    assert digest(one) == digest(two)
    assert len(masks_of(one)) == 6


# ------------------------------------------------------------------------------------ what is made


def test_areas_are_those_of_the_masks(predicted, finished):
    output, names = predicted(model="psl"), finished.run_dir.classes().all_names()
    rows = list(csv.DictReader(io.StringIO((output / "areas.csv").read_text())))
    for id_, mask in masks_of(output).items():
        own = {row["class"]: row for row in rows if row["image"] == id_}
        assert own.keys() == {names[i] for i in np.unique(mask)}
        for name, row in own.items():
            pixels = int((mask == names.index(name)).sum())
            assert int(row["pixels"]) == pixels
            assert float(row["share"]) == pytest.approx(pixels / mask.size, abs=1e-6)
            assert (row["score"] == "") == (name == "background")


def test_scores_are_written_on_request(predicted, finished):
    assert not list(predicted("without").glob("*.npz"))
    output, names = predicted(scores=True, model="psl"), finished.run_dir.classes().all_names()
    for id_, mask in masks_of(output).items():
        with np.load(output / f"{id_}_scores.npz", allow_pickle=False) as arrays:
            assert arrays["probabilities"].shape == (*mask.shape, len(names))
            assert arrays["probabilities"].dtype == np.float16
            assert (arrays["probabilities"].argmax(-1) == mask).mean() > 0.97
            assert arrays["scores"].shape == (len(names) - 1,)
            assert tuple(arrays["names"]) == names


def test_coco_and_contact_sheet_are_written_on_request(predicted):
    assert not {"coco.json", "contact_sheet_001.png"} & names_in(predicted("without"))
    output = predicted(coco=True, contact_sheet=True, recursive=True)
    found = json.loads((output / "coco.json").read_text())
    names = {one["id"]: one["file_name"] for one in found["images"]}
    assert sorted(names.values()) == sorted(["grey.jpg", *(f"{id_}.png" for id_ in SIZES)])
    areas = {(names[one["image_id"]].rpartition(".")[0], one["category_id"]): one["area"]
             for one in found["annotations"]}  # fmt: skip
    expected = {(id_, int(class_id)): int((mask == class_id).sum())
                for id_, mask in masks_of(output).items()
                for class_id in np.unique(mask) if class_id}  # fmt: skip
    assert areas == expected and len(areas) > 3
    assert opened(output / "contact_sheet_001.png").width > 6 * 180


def test_a_killed_prediction_is_whole_after_another(predicted, monkeypatch):
    """Cut off at any file, and begun again, it ends with the bytes of one that nobody killed."""
    wanted = {"scores": True, "coco": True, "contact_sheet": True}
    whole = digest(predicted("whole", **wanted))
    replace = os.replace
    for cut in (0, 1, 2, 5, 9, 14):
        left = [cut]

        def dying(source, target, left=left):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            replace(source, target)

        monkeypatch.setattr("os.replace", dying)
        with pytest.raises(KeyboardInterrupt):
            predicted(f"cut {cut}", **wanted)
        monkeypatch.setattr("os.replace", replace)
        assert digest(predicted(f"cut {cut}", **wanted)) == whole


# ----------------------------------------------------------------------------------- VOC's server


def test_a_submission_of_other_classes_is_refused(predicted, tmp_path):
    refused("VOC's 20 classes alone", predicted, voc_submission=True)
    assert not (tmp_path / "out").exists()


def test_a_submission(predicted, finished, monkeypatch, tmp_path, caplog):
    """Of a run that has, here, VOC's classes."""
    monkeypatch.setattr(voc_submission, "VOC", finished.run_dir.classes())
    caplog.set_level("INFO", "absl")
    (tmp_path / "test.txt").write_text("upright\ntiny\n")
    asked = {"voc_submission": True, "ids_file": str(tmp_path / "test.txt")}
    output = predicted(**asked)
    archive = output / "results.tar.gz"
    with tarfile.open(archive, "r:gz") as packed:
        for id_ in ("tiny", "upright"):
            name = f"results/VOC2012/Segmentation/comp6_test_cls/{id_}.png"
            mask = np.array(Image.open(io.BytesIO(packed.extractfile(name).read())))
            np.testing.assert_array_equal(mask, np.array(opened(output / f"{id_}.png")))
        assert len(packed.getnames()) == 2
    (told,) = (one for one in caplog.messages if "host.robots.ox.ac.uk:8080" in one)
    assert "2 masks" in told and "comp6" in told
    before = archive.read_bytes()
    archive.unlink()
    assert predicted(**asked) == output and archive.read_bytes() == before
    assert masks_of(predicted(**asked)).keys() == {"tiny", "upright"}
    (tmp_path / "test.txt").write_text("upright\n")  # another list, in the same folder
    refused(r"tiny\.png is not of the list", predicted, **asked)
    assert not archive.exists()


# ------------------------------------------------------------------------------------- evaluation


def test_evaluation_over_views_counts_what_prediction_gives(
    predicted, run_copy, read, tmp_path, finished
):
    """Beside the plain numbers, of which nothing is lost."""
    views = {"multi_scale": "0.75,1.25", "flip": True}
    before = run_copy.evaluation("no_psl").read_bytes()
    settings = read(config.Evaluate, model="no_psl", crf=False, **views)
    evaluate.run(settings, RunDir(run_copy.root), 1)
    assert run_copy.evaluation("no_psl").read_bytes() == before
    name = "no_psl_flip_multi_scale"
    found = metrics.load(run_copy.evaluation(name))[name]
    (tmp_path / "val").mkdir()
    families = [records.Family(run_copy.family("val", "images")),
                records.Family(run_copy.ground_truth("val", "evaluate"))]  # fmt: skip
    truths = {}
    for row in records.read_zipped(families):
        (tmp_path / f"val/{row['image/id']}.jpg").write_bytes(row["image/encoded"])
        truths[row["image/id"]] = encoding.read_grey_png(row["mask/png"])
    masks = masks_of(predicted(images=str(tmp_path / "val"), **views))
    names = run_copy.classes().all_names()
    expected = metrics.Confusion(len(names))
    for id_, truth in truths.items():
        expected.add(truth, masks[id_], id_)
    assert found["confusion"] == expected.results(names)["confusion"]
    plain = json.loads(before)["no_psl"]["confusion"]
    assert plain != found["confusion"]
