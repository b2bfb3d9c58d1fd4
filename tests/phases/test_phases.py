"""Export and prediction agree, and bad input is told in one line."""

import collections
import io
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import running
import tensorflow as tf
from conftest import jpeg, opened, reader, write_mask
from PIL import Image, ImageOps

from aepsl_tf import config
from aepsl_tf.data import encoding, records
from aepsl_tf.errors import InputError
from aepsl_tf.evaluation import metrics, model_card
from aepsl_tf.files import digest
from aepsl_tf.models import model_dir
from aepsl_tf.phases import (
    evaluate,
    export,
    make_masks,
    mine_regions,
    predict,
    report,
    train_classifier,
    train_segmenter,
)
from aepsl_tf.run_dir import RunDir
from data_prep import write_saliency, write_voc
from data_prep.saliency import methods

REPOSITORY = pathlib.Path(export.__file__).parents[2]

# ------------------------------------------------------------------------------------------ export

_SERVE = """
import sys
import numpy as np
import tensorflow as tf

run, result, *files = sys.argv[1:]
results = {}
for name in ("psl", "no_psl"):
    model = tf.saved_model.load(f"{run}/export/{name}/1")
    outputs = model.serve_bytes(tf.stack([tf.io.read_file(path) for path in files]))
    for index, path in enumerate(files):
        height, width = outputs["size"][index]
        mask = outputs["mask"][index, :height, :width]
        assert tf.reduce_all(outputs["mask"][index, height:] == 255)
        assert tf.reduce_all(outputs["mask"][index, :, width:] == 255)
        stem = path.rsplit("/", 1)[1].split(".")[0]
        results |= {f"{name}/{stem}/{k}": v[index : index + 1].numpy()
                    for k, v in outputs.items()} | {f"{name}/{stem}/mask": mask[None].numpy()}
        if stem.startswith("odd_"):  # in pixels they are something else
            continue
        pixels = tf.io.decode_jpeg(tf.io.read_file(path), 3, dct_method="INTEGER_ACCURATE")[None]
        alone = model.serve(pixels)
        assert tf.reduce_all(alone["mask"][0] == mask)
        batch = model.serve(tf.concat([255 - pixels, pixels], 0))
        assert tf.reduce_mean(tf.cast(batch["mask"][1] == mask, tf.float32)) > 0.99
        results[f"{name}/{stem}/probabilities"] = alone["probabilities"].numpy()
        if "scores" in outputs:
            assert tf.reduce_all(alone["scores"][0] == outputs["scores"][index])
    nothing = model.serve_bytes(tf.constant([], tf.string))
    assert all(value.shape[0] == 0 for value in nothing.values())
assert "aepsl_tf" not in sys.modules
np.savez(result, **results)
"""


def _draw_pictures(folder):
    """Five picture files: four PNGs, of one pixel too, and a grey JPEG."""
    rng = np.random.default_rng(3)
    folder.mkdir()
    for name, (height, width) in {
        "tiny": (7, 5), "pixel": (1, 1), "upright": (64, 48), "wide": (33, 120),
    }.items():  # fmt: skip
        coarse = rng.integers(0, 256, [4, 4, 3], dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height)).save(folder / f"{name}.png")
    coarse = Image.fromarray(rng.integers(0, 256, [5, 5], dtype=np.uint8)).resize((50, 40))
    (folder / "grey.jpg").write_bytes(jpeg(np.array(coarse)))
    return folder


def _draw_odd_pictures(folder):
    """Six that are not upright RGB JPEGs or PNGs, each of another size."""
    rng = np.random.default_rng(4)
    turned = Image.Exif()
    turned[0x0112] = 6
    for index, (name, mode, options) in enumerate((
        ("turned.jpg", "RGB", {"exif": turned}), ("alpha.png", "RGBA", {}), ("a.webp", "RGBA", {}),
        ("palette.png", "P", {}), ("deep.png", "I;16", {}), ("plain.bmp", "RGB", {}),
    )):  # fmt: skip
        coarse = rng.integers(0, 256, [4, 4, 4], dtype=np.uint8)
        picture = Image.fromarray(coarse).resize((40 + 9 * index, 70 - 6 * index))
        if mode == "I;16":
            picture = Image.fromarray(np.array(picture.convert("L")).astype(np.uint16) * 251)
        elif mode != "RGBA":
            picture = picture.convert("RGB").convert(mode)
        picture.save(folder / f"odd_{name}", **options)


@pytest.fixture
def pictures(tmp_path):
    return _draw_pictures(tmp_path / "pictures")


def _enliven(run_dir, name, picture):
    """Changes a model's last layers so that its masks hold several classes."""
    model = model_dir.load(run_dir.model(name))
    image = np.array(opened(picture).resize((33, 33)), np.float32)
    logits = model(image[None])["logits"].numpy()
    scale = 5 / logits.std((0, 1, 2))
    kernel, bias = model.fc8_seg.get_weights()
    model.fc8_seg.set_weights([kernel * scale, (bias - logits.mean((0, 1, 2))) * scale])
    if model.has_scores:
        kernel, bias = model.fc8_cls.get_weights()
        model.fc8_cls.set_weights([kernel * 0, np.where(np.arange(bias.size) % 3, 4.0, -4.0)])
    folder, key = run_dir.model(name), f"train_segmenter/{name}"
    model.tuned.save_weights(folder / "tuned.weights.h5")
    run_dir._record(key, run_dir.entry(key) | {"digest": digest(folder)})


@pytest.fixture(scope="module")
def exported(finished, read, tmp_path_factory):
    """(RunDir, picture folder, outputs by name, of a process that knows TensorFlow alone)."""
    folder = tmp_path_factory.mktemp("exported")
    shutil.copytree(finished.root, folder / "run")
    run_dir, pictures = RunDir(folder / "run"), _draw_pictures(folder / "pictures")
    _draw_odd_pictures(pictures)
    for name in ("psl", "no_psl"):
        _enliven(run_dir, name, pictures / "upright.png")
        export.run(read(config.Export, model=name), run_dir)
    files = [str(file) for file in sorted(pictures.iterdir())]
    done = subprocess.run(
        [sys.executable, "-c", _SERVE, str(run_dir.root), str(folder / "served.npz"), *files],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return run_dir, pictures, dict(np.load(folder / "served.npz"))


@pytest.mark.parametrize("model", ["psl", "no_psl"])
def test_export_and_prediction_give_the_same_masks(exported, read, model, tmp_path):
    run_dir, pictures, served = exported
    settings = read(config.Predict, model=model, images=str(pictures), output=str(tmp_path),
                    crf=False)  # fmt: skip
    predict.run(settings, run_dir)
    files = sorted(pictures.iterdir())
    assert len(list(tmp_path.glob("*.png"))) == 2 * len(files)
    classes, seen = len(run_dir.classes()), set()
    for file in files:
        picture = opened(tmp_path / f"{file.stem}.png")
        assert picture.mode == "P"
        assert picture.size == ImageOps.exif_transpose(opened(file)).size
        assert picture.size == opened(tmp_path / f"{file.stem}_overlay.png").size
        mask = np.array(picture)
        key = f"{model}/{file.stem}"
        np.testing.assert_array_equal(served[f"{key}/mask"][0], mask, err_msg=file.name)
        seen |= set(np.unique(mask))
        if not file.name.startswith("odd_"):
            probabilities = served[f"{key}/probabilities"]
            assert probabilities.shape == (1, *mask.shape, classes + 1)
            np.testing.assert_allclose(probabilities.sum(-1), 1, atol=1e-4)
    assert len(seen) > 2, "masks of one class would compare nothing"


def test_what_is_not_served_is_refused_by_its_number(exported):
    run_dir, pictures, _ = exported
    served = tf.saved_model.load(str(run_dir.export("psl") / "1"))
    good, file = (pictures / "upright.png").read_bytes(), io.BytesIO()
    opened(pictures / "upright.png").save(file, "GIF")
    with pytest.raises(tf.errors.InvalidArgumentError) as found:
        served.serve_bytes(tf.constant([good, file.getvalue(), good]))
    assert "picture 1 of the batch, from 0: a GIF, which is not served" in found.value.message


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_other_formats_give_the_masks_of_prediction(exported, read, kind, tmp_path):
    """Eleven pictures of different sizes and modes, by `predict --nocrf`; and the bytes again."""
    run_dir, pictures, _ = exported
    run_mask = running.of(kind)
    predict.run(read(config.Predict, model="psl", images=str(pictures), output=str(tmp_path),
                     crf=False), run_dir)  # fmt: skip
    export.run(read(config.Export, model="psl", format=kind), run_dir)
    content = run_dir.export(f"psl.{kind}").read_bytes()
    model = run_mask(content)
    files = sorted(pictures.iterdir())
    assert len(files) >= 10
    for file in files:
        standard = encoding.standard_image(file.read_bytes(), file.name)
        mask = model(encoding.rgb_pixels(standard.encoded)[None])["mask"][0]
        expected = np.array(opened(tmp_path / f"{file.stem}.png"))
        assert (mask == expected).mean() >= running.EQUAL, file.name
    run_dir.forget(f"export/psl.{kind}")
    export.run(read(config.Export, model="psl", format=kind), run_dir)
    assert run_dir.export(f"psl.{kind}").read_bytes() == content


def test_an_export_made_again_has_the_same_bytes(exported, read):
    run_dir, _, _ = exported
    output = run_dir.export("no_psl")
    before = digest(output)
    run_dir.forget("export/no_psl")
    assert not output.exists()
    export.run(read(config.Export, model="no_psl"), run_dir)
    assert digest(output) == before


def test_an_older_version_s_export_is_made_again(run_copy, read, monkeypatch):
    """It lay in RUN/export/MODEL itself, where TensorFlow Serving finds no version."""

    def write(function, model_folder, partial, settings):
        (partial / "1").mkdir()
        (partial / "1/saved_model.pb").write_bytes(b"new")

    monkeypatch.setattr(export.runners, "in_fresh_process", write)
    folder = run_copy.export("psl_plus_plus")
    for path in (folder / "1").iterdir():
        path.rename(folder / path.name)
    (folder / "1").rmdir()
    export.run(read(config.Export, model="psl_plus_plus"), run_copy)
    assert (folder / "1/saved_model.pb").read_bytes() == b"new"
    assert not (folder / "saved_model.pb").exists()


def test_the_card_tells_of_this_run(finished, read, run_copy):
    card = (finished.run_dir.export("psl_plus_plus") / "README.md").read_text()
    evaluation = metrics.load(finished.run_dir.evaluation("psl_plus_plus"))
    for name, column in (("psl_plus_plus", 1), ("psl_plus_plus_crf", 2)):
        cells = next(line for line in card.splitlines() if line.startswith("| mIoU")).split("|")
        assert cells[column + 1].strip() == f"{evaluation[name]['miou']:.3f}"
    counts = collections.Counter()
    for row in records.Family(finished.run_dir.family("train", "images")).read():
        counts.update(row["image/labels"])
    for id_, name in enumerate(finished.run_dir.classes().names, start=1):
        assert f"| {name} | {counts[id_]} |" in card
    assert "12 images of the split `train`. Supervision: image tags" in card
    assert "| `--epochs` | 1 |" in card and "| `--p` | 0.1 |" in card
    assert str(finished.root) not in card
    run_copy.forget("evaluate/psl")
    assert model_card.sources(run_copy, "psl") == ["write_voc/train"]
    card = model_card.text(run_copy, read(config.Export, model="psl", p=0.2))
    assert "Not measured." in card and "mIoU" not in card
    card = model_card.text(run_copy, read(config.Export, model="no_psl", p=0.2))
    assert "Measured with `--p=0.1`, which is not what was exported." in card


def test_the_card_of_an_older_run_has_the_defaults_of_what_it_did_not_record(run_copy, read):
    for key, names in (("train_segmenter/psl", ["psl_start", "accumulate", "label_loss"]),
                       ("evaluate/psl", ["test_policy"])):  # fmt: skip
        entry = run_copy.entry(key)
        kept = {k: v for k, v in entry["config"].items() if k not in names}
        assert len(kept) == len(entry["config"]) - len(names)
        run_copy._record(key, entry | {"config": kept})
    card = model_card.text(run_copy, read(config.Export, model="psl"))
    assert "| mIoU" in card and "Measured with" not in card
    assert f"| `--label_loss` | {config.TrainSegmenter.defaults()['label_loss']} |" in card


def test_only_a_classification_branch_exports_scores(exported):
    run_dir, _, served = exported
    with_scores = {key.split("/")[0] for key in served if key.endswith("/scores")}
    assert with_scores == {"psl"}
    assert served["psl/tiny/scores"].shape == (1, len(run_dir.classes()))


def test_prohibited_classes_are_not_in_masks(exported):
    _, pictures, served = exported
    for file in pictures.iterdir():
        scores = served[f"psl/{file.stem}/scores"][0]
        prohibited = 1 + np.flatnonzero(scores < 0.1)
        assert len(prohibited) > 0
        assert not set(np.unique(served[f"psl/{file.stem}/mask"])) & set(prohibited)


@pytest.mark.parametrize("model", ["psl", "no_psl"])
def test_export_and_evaluation_count_the_same_pixels(exported, read, model):
    run_dir, _, _ = exported
    evaluate.run(read(config.Evaluate, model=model, crf=False), RunDir(run_dir.root, restart=True))
    served = tf.saved_model.load(str(run_dir.export(model) / "1"))
    names = run_dir.classes().all_names()
    expected = metrics.Confusion(len(names))
    families = [records.Family(run_dir.family("val", "images")),
                records.Family(run_dir.ground_truth("val", "evaluate"))]  # fmt: skip
    for row in records.read_zipped(families):
        mask = served.serve_bytes(tf.constant([row["image/encoded"]]))["mask"][0].numpy()
        expected.add(encoding.read_grey_png(row["mask/png"]), mask, row["image/id"])
    found = json.loads(run_dir.evaluation(model).read_text())[model]
    assert found == expected.results(names)
    assert (np.array(found["confusion"]).sum(0) > 0).sum() > 2


def test_the_pipelines_export_is_complete(finished):
    folder = finished.run_dir.export("psl_plus_plus")
    assert (folder / "1/saved_model.pb").exists()
    assert {path.name for path in folder.iterdir()} == {"1", "README.md", "classes.json"}
    rows = json.loads((folder / "classes.json").read_text())
    assert rows == finished.run_dir.classes().to_json()


def test_tags_that_a_split_does_not_have(run_copy, read, devkit):
    """Without this error every class would be prohibited: all background."""
    run = RunDir(run_copy.root, restart=True)
    write_voc.run(read(config.WriteVoc, split="val", tags_from="none"), run)
    settings = read(config.Evaluate, model="psl", with_tags=True, crf=False)
    assert "--with_tags: split val has no tags" in _refused(evaluate, settings, run)
    assert run.entry("evaluate/psl_gt") is None


def test_the_report_goes_through_no_family_again(run_copy, read, monkeypatch):
    reads, read_shard = collections.Counter(), records.read_shard

    def counted(directory, family, index, count):
        reads[str(directory), index] += 1
        return read_shard(directory, family, index, count)

    monkeypatch.setattr(records, "read_shard", counted)
    shutil.rmtree(run_copy.drawn)
    report.run(read(config.Report), RunDir(run_copy.root, restart=True))
    assert len(reads) >= 8  # images, saliency, regions of two steps: two shards each
    # Images twice: to choose some, and beside saliency and regions; of the others single records.
    images = str(run_copy.family("train", "images"))
    assert {folder for (folder, _), times in reads.items() if times == 2} == {images}
    assert set(reads.values()) == {1, 2}


# ---------------------------------------------------------------------------------------- saliency


def _read_maps(run_dir, split):
    rows = records.Family(run_dir.family(split, "saliency")).read()
    return {row["image/id"]: encoding.read_grey_png(row["saliency/png"]) for row in rows}


def test_saliency_is_written_and_evaluated_on_any_split(run_copy, read):
    write_saliency.run(read(config.WriteSaliency, train_split="val"), run_copy, 1)
    evaluate.run(read(config.Evaluate, what="saliency", split="val"), run_copy, 1)
    found = json.loads(run_copy.evaluation("saliency_val").read_text())["saliency_val"]
    expected = metrics.Saliency()
    maps = _read_maps(run_copy, "val")
    truth = records.Family(run_copy.ground_truth("val", "evaluate"))
    for row in truth.read():
        mask = encoding.read_grey_png(row["mask/png"])
        expected.add(maps[row["image/id"]], (mask > 0) & (mask < 255), mask != 255)
    assert found == expected.results()
    assert found["images"] == truth.images
    assert 0 < found["mae"] < 0.5


def test_drfi_is_the_default_method(run_copy):
    settings = config.WriteSaliency(train_split="val")
    write_saliency.run(settings, run_copy, 1)
    compute = methods.build("drfi")
    images = records.Family(run_copy.family("val", "images"))
    maps = _read_maps(run_copy, "val")
    assert len(maps) == images.images
    row = next(images.read())
    image = np.asarray(Image.open(io.BytesIO(row["image/encoded"])))
    np.testing.assert_array_equal(
        maps[row["image/id"]], np.round(compute("", image) * 255).astype(np.uint8)
    )


def test_a_broken_drfi_model_writes_nothing(run_copy, read, tmp_path):
    (tmp_path / "m.npz").write_text("no model")
    settings = read(
        config.WriteSaliency, train_split="val", method="drfi", drfi_model=str(tmp_path / "m.npz")
    )
    assert "m.npz: no DRFI model" in _refused(write_saliency, settings, run_copy)
    assert not run_copy.family("val", "saliency").exists()


# --------------------------------------------------------------------------------------- bad input


def _refused(phase, settings, run_dir):
    """The one line that refuses."""
    with pytest.raises(InputError) as error:
        phase.run(settings, run_dir, 1)
    message = str(error.value)
    assert message and "\n" not in message
    return message


def _bad_missing_id(root, tmp_path):
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nb\nnowhere\n")
    return {}, "nowhere"


def _bad_truncated_jpeg(root, tmp_path):
    path = root / "JPEGImages/b.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    return {}, "b.jpg: not a readable picture"


def _bad_class_id(root, tmp_path):
    write_mask(root, "c", np.full([18, 26], 37, np.uint8))
    return {"tags_from": "none"}, "c.png: holds class id 37; expected 0..2 or 255"


def _bad_class_id_as_tag(root, tmp_path):
    return {}, _bad_class_id(root, tmp_path)[1]


def _bad_rgb_mask(root, tmp_path):
    Image.new("RGB", (26, 18), (9, 9, 9)).save(root / "SegmentationClass/c.png")
    return {}, "c.png: colour (9, 9, 9) is none of"


def _bad_tag(root, tmp_path):
    (tmp_path / "labels.csv").write_text("image,labels\na,cat\nb,zebra\nc,dog\nd,dog\n")
    return {"labels_csv": str(tmp_path / "labels.csv")}, "image b: unknown tag 'zebra'"


def _bad_untagged(root, tmp_path):
    (tmp_path / "labels.csv").write_text("image,labels\na,cat\n")
    return {"labels_csv": str(tmp_path / "labels.csv")}, "missing: b, c, d"


def _bad_columns(root, tmp_path):
    (tmp_path / "labels.csv").write_text("a,cat\nb,dog\n")
    return {"labels_csv": str(tmp_path / "labels.csv")}, "expected a first line `image,labels`"


def _bad_empty_split(root, tmp_path):
    (root / "ImageSets/Segmentation/train.txt").write_text("\n")
    return {}, "the split is empty"


def _bad_split(root, tmp_path):
    return {"split": "trian"}, "trian.txt is not there"


def _bad_twice(root, tmp_path):
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nb\na\n")
    return {}, "a is listed twice"


def _bad_root(root, tmp_path):
    return {"voc_root": str(tmp_path)}, "expected a folder that holds JPEGImages"


def _bad_xml(root, tmp_path):
    (root / "Annotations").mkdir()
    for id_ in "abcd":
        (root / f"Annotations/{id_}.xml").write_text("<annotation>")
    return {"tags_from": "xml"}, "a.xml: not readable as XML"


_BAD_DEVKITS = [value for name, value in list(globals().items()) if name.startswith("_bad_")]


@pytest.mark.parametrize("spoil", _BAD_DEVKITS, ids=lambda f: f.__name__[5:])
def test_bad_devkit_is_refused_in_one_line(spoil, small_devkit, tmp_path):
    changes, expected = spoil(small_devkit, tmp_path)
    run_dir = RunDir(tmp_path / "run")
    settings = reader(voc_root=str(small_devkit))(config.WriteVoc, **changes)
    assert expected in _refused(write_voc, settings, run_dir)
    assert run_dir.entry("write_voc/train/ground_truth") is None
    assert not (tmp_path / "run/data/train/ground_truth").exists()
    assert run_dir.entry("write_voc/train") is None
    assert not run_dir.family("train", "images").exists()


@pytest.fixture
def written(small_devkit, tmp_path):
    """A run directory that holds the small devkit's training split."""
    run_dir = RunDir(tmp_path / "run")
    write_voc.run(config.WriteVoc(voc_root=str(small_devkit)), run_dir, 1)
    return run_dir


def test_wrong_weights_files(written, common, tmp_path):
    (tmp_path / "text.h5").write_text("no weights")
    for path, expected in {  # one after the other: a refused try stands in nobody's way
        "text.h5": "expected weights of keras.applications.VGG16",
        "nowhere.h5": "no such file",
    }.items():
        read = reader(**common | {"backbone": "vgg16", "weights": str(tmp_path / path)})
        message = _refused(train_classifier, read(config.TrainClassifier), written)
        assert expected in message and path in message
    assert not written.classifier(1).exists()
    assert written.entry("train_classifier/step_1") is None


def test_small_backbone_has_no_imagenet_weights(written, common):
    settings = reader(**common | {"weights": "imagenet"})(config.TrainClassifier)
    assert "give --weights=none" in _refused(train_classifier, settings, written)
    assert not written.classifier(1).exists()


def test_training_without_tags_is_refused(small_devkit, common, tmp_path):
    run_dir = RunDir(tmp_path / "run")
    settings = config.WriteVoc(voc_root=str(small_devkit), tags_from="none")
    write_voc.run(settings, run_dir, 1)
    message = _refused(train_classifier, reader(**common)(config.TrainClassifier), run_dir)
    assert "4 images have no tag, the first is a" in message
    assert not run_dir.classifier(1).exists()


def test_phases_before_their_input(written, read):
    message = _refused(make_masks, read(config.MakeMasks), written)
    assert "run python -m data_prep.write_saliency first" in message
    assert not written.masks("steps_1_to_2").exists()
    message = _refused(mine_regions, read(config.MineRegions, step=1), written)
    assert "run python -m aepsl_tf.phases.train_classifier first" in message
    assert not written.regions(1).exists()
    message = _refused(train_classifier, read(config.TrainClassifier, step=2), written)
    assert "run python -m data_prep.write_erased first" in message
    assert not written.classifier(2).exists()


def _command_line(module, *flags):
    """(exit status, stderr's last line) of a real command line that must fail cleanly."""
    done = subprocess.run([sys.executable, "-m", module, *flags], cwd=REPOSITORY, timeout=120,
                          capture_output=True, text=True)  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("spoil", [_bad_missing_id, _bad_tag])
def test_command_line_refuses_a_bad_devkit(spoil, small_devkit, tmp_path):
    changes, expected = spoil(small_devkit, tmp_path)
    flags = [f"--{k}={v}" for k, v in changes.items()]
    status, line = _command_line("data_prep.write_voc", f"--run_dir={tmp_path / 'run'}",
                                 f"--voc_root={small_devkit}", *flags)  # fmt: skip
    assert status == 1
    assert line.startswith("error: ") and expected in line
    assert not (tmp_path / "run/data/train/images").exists()


def test_command_line_refuses_masks_before_mining(written):
    status, line = _command_line(
        "aepsl_tf.phases.make_masks", f"--run_dir={written.root}", "--merge_steps=1"
    )
    assert status == 1
    assert line.startswith("error: make_masks/steps_1_to_1 needs the output of ")
    assert not written.masks("steps_1_to_1").exists()


@pytest.mark.parametrize("name", ["data", "psl.v2", "step_1", "a/b"])
def test_a_model_name_that_is_no_free_folder_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="--name"):
        train_segmenter.run(config.TrainSegmenter(name=name), RunDir(tmp_path))
