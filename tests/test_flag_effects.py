"""Every flag changes what its phase makes; those that may not, change no byte."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
from conftest import TINY

from aepsl_tf import config
from aepsl_tf.data import encoding, records
from aepsl_tf.data.transforms import decode_image, decode_mask
from aepsl_tf.errors import InputError
from aepsl_tf.files import digest
from aepsl_tf.inference import cells, crf
from aepsl_tf.inference.over_split import Reader
from aepsl_tf.inference.predictor import Predictor, views_of
from aepsl_tf.models import model_dir
from aepsl_tf.phases import (
    choose_threshold,
    evaluate,
    export,
    make_masks,
    mine_regions,
    relabel,
    report,
    train_classifier,
    train_segmenter,
)
from aepsl_tf.run_dir import RunDir

TRAINING = TINY | {
    "input": "crop", "optimizer": "sgd", "learning_rate": 0.01, "epochs": 2, "lr_policy": "step",
    "lr_drop_epochs": "1", "last_layer_rate": 10.0, "global_batch": 4,
}  # fmt: skip
BASE = {
    config.TrainClassifier: TRAINING | {"step": 2},
    config.TrainSegmenter: TRAINING
    | {"name": "tried", "merge_steps": 2, "psl_start": "0"},  # Ŝ from the first step on
    config.MineRegions: TINY,
    config.ChooseThreshold: TINY,
    config.MakeMasks: TINY,
    config.Relabel: TINY | {"model": "no_psl"},  # whose random start gives varied masks
    config.Evaluate: TINY | {"model": "no_psl", "split": "train"},
    config.Export: TINY,
    config.Report: TINY,
}
_NETWORK = {
    "fc6_dilation": 2, "input": "warp", "input_size": 41, "freeze_through": "conv3",
    "precision": "mixed_bfloat16", "optimizer": "adam", "learning_rate": 0.02,
    "last_layer_rate": 5.0, "bias_rate": 1.0, "momentum": 0.5, "weight_decay": 0.01,
    "lr_policy": "poly", "lr_drop_epochs": "", "epochs": 1, "global_batch": 6, "dropout": 0.1,
    "seed": 1, "label_loss": "softmax", "accumulate": 2, "fc_channels": 32,
    "fc_scale": 0.5,
}  # fmt: skip
_INFERENCE = {"crf": False, "crf_preset": "sec", "crf_iterations": 1,
              "pixel_limit": 4096}  # fmt: skip
CHANGES = {
    config.TrainClassifier: _NETWORK | {"step": 1, "start_from": "previous"},
    config.TrainSegmenter: _NETWORK
    | {"masks": "relabelled", "merge_steps": 1, "psl": "none", "psl_start": "auto",
       "psl_scores": "tags", "classification_weight": 0.1, "pixel_norm": "batch",
       "start_model": "psl"},
    config.MineRegions: {"step": 2, "threshold": 0.7, "threshold_rule": "top_pixels",
                         "pixel_limit": 4096},
    config.ChooseThreshold: {"step": 2, "threshold": "auto", "threshold_rule": "top_pixels",
                             "background_threshold": 0.5, "pixel_limit": 4096},
    config.MakeMasks: {"merge_steps": 1, "background_threshold": 0.5},
    config.Relabel: {"model": "psl", "relabel_crf": False, "relabel_multi_scale": "0.5,1",
                     "relabel_flip": True, **_INFERENCE},
    config.Evaluate: {"model": "psl", "split": "val", "what": "masks", "multi_scale": "0.5,1",
                      "flip": True, **_INFERENCE},
    config.Export: {"model": "no_psl", "p": 0.9, "test_policy": "none", "pixel_limit": 4096,
                    "format": "tflite", "max_pixels": 4096},
    config.Report: {"panel_images": 1, "pixel_limit": 4096, "background_threshold": 0.9},
}  # fmt: skip
"""Class → field → another value, whose effect `test_flag_changes_the_output` shows."""

ELSEWHERE = {
    "train_split, val_split": "test_pipeline: phases by hand; test_phases: any split",
    "backbone, weights": "test_backbones; test_phases: wrong weights",
    "kernel_gradients": "test_backbones: by taps, the same up to rounding",
    "cache_features": "test_segmenter: the same weights; test_feature_cache",
    "p, test_policy": "test_predictor; here of Export; test_pictures",
    "pixel_limit": "here where it shapes what is made; test_pictures",
    "relabelled": "test_pipeline: a second round",
    "with_tags": "test_tags_are_the_scores, here",
    "strategy": "test_strategies", "checkpoint_seconds, keep": "test_loop",
    "deterministic": "test_model_dir: on and off, each in a process of its own",
    "name": "test_phases: model names", "indoor_background_threshold": "test_mining",
    "masks, merge_steps": "test_pipeline: masks of every number of steps",
    "open": "report/test_page: the finished page is shown",
}  # fmt: skip
"""Fields of these classes whose effect other tests show."""

RUNS = {
    config.TrainClassifier: (train_classifier, lambda r, c: r.classifier(c.step)),
    config.TrainSegmenter: (train_segmenter, lambda r, c: r.model("tried")),
    config.MineRegions: (mine_regions, lambda r, c: r.regions(c.step)),
    config.ChooseThreshold: (choose_threshold, lambda r, c: r.threshold(c.step)),
    config.MakeMasks: (make_masks, lambda r, c: r.masks(make_masks.name_of(c.merge_steps))),
    config.Relabel: (relabel, lambda r, c: r.masks("relabelled")),
    config.Evaluate: (evaluate, lambda r, c: r.root / "eval"),
    config.Export: (
        export,
        lambda r, c: r.export(c.model if c.format == "saved_model" else f"{c.model}.{c.format}"),
    ),
    config.Report: (report, lambda r, c: r.drawn),
}


def build(cls, **changes):
    names = {field.name for field in dataclasses.fields(cls)}
    return cls(**{k: v for k, v in (BASE[cls] | changes).items() if k in names})


def made(cls, settings, finished, folder):
    """The digest of what a phase makes with these settings, in a copy of the finished run."""
    root = folder / "run"
    shutil.copytree(finished.root, root, copy_function=os.link,
                    ignore=shutil.ignore_patterns("tensorboard"))  # fmt: skip
    shutil.copy(finished.root / "manifest.json", root / "copied.json")
    (root / "copied.json").replace(root / "manifest.json")  # not the shared file
    phase, output = RUNS[cls]
    phase.run(settings, RunDir(root, restart=True), 1)
    path = output(RunDir(root), settings)
    if cls in (config.TrainClassifier, config.TrainSegmenter):
        return digest(path / "tuned.weights.h5")
    return digest(path)


@pytest.fixture(scope="module")
def base(finished, tmp_path_factory):
    """`base(cls)`: the digest with the base settings, made once."""
    known = {}

    def of(cls):
        if cls not in known:
            known[cls] = made(cls, build(cls), finished, tmp_path_factory.mktemp("base"))
        return known[cls]

    return of


@pytest.mark.parametrize(
    ("cls", "name"), [(cls, name) for cls in CHANGES for name in CHANGES[cls]],
    ids=lambda x: x if isinstance(x, str) else x.__name__,
)  # fmt: skip
def test_flag_changes_the_output(cls, name, base, finished, tmp_path):
    changed = build(cls, **{name: CHANGES[cls][name]})
    assert getattr(changed, name) != getattr(build(cls), name)
    assert made(cls, changed, finished, tmp_path) != base(cls)


def test_tags_are_the_scores(finished, tmp_path):
    """With tags as v no class that is absent is left, whatever the branch says."""
    made(config.Evaluate, build(config.Evaluate, model="psl", with_tags=True), finished, tmp_path)
    made_now = set((tmp_path / "run/eval").iterdir()) - set((finished.root / "eval").iterdir())
    names = {path.name for path in made_now} - {p.name for p in (finished.root / "eval").iterdir()}
    assert names  # results of their own, beside those without tags
    absent = build(config.Evaluate, model="no_psl", with_tags=True)
    with pytest.raises(InputError, match="no_psl"):
        made(config.Evaluate, absent, finished, tmp_path / "second")


def test_other_classes_of_new_masks(finished, tmp_path):
    """Kept, or no class's, or those of the next; J's sum over O^seg is over the same pixels where
    they are no class's.
    """
    found = {}
    for outside in ("keep", "void", "next"):
        settings = build(config.Relabel, relabel_outside=outside, model="no_psl")
        made(config.Relabel, settings, finished, tmp_path / outside)
        run = RunDir(tmp_path / outside / "run")
        families = [
            records.Family(run.family("train", "images")),
            records.Family(run.masks("relabelled")),
        ]
        found[outside] = [
            (decode_mask(row["mask/png"]).numpy()[..., 0], [0, *row["image/labels"]])
            for row in records.read_zipped(families)
        ]
    others = 0
    for (kept, own), (voided, _), (following, _) in zip(*found.values(), strict=True):
        outside = ~np.isin(kept, own)
        np.testing.assert_array_equal(voided, np.where(outside, 255, kept))
        assert np.isin(following, own).all()
        others += outside.sum()
    assert others


@pytest.mark.parametrize(("model", "clean"), [("no_psl", False), ("psl", True)])
def test_new_masks_over_views_are_those_of_their_mean(finished, tmp_path, model, clean):
    """As `evaluate` and `predict` have them."""
    settings = build(config.Relabel, model=model, relabel_crf=clean, relabel_flip=True,
                     relabel_multi_scale="0.5,1", crf_iterations=1)  # fmt: skip
    made(config.Relabel, settings, finished, tmp_path)
    run, views = RunDir(tmp_path / "run"), views_of("0.5,1", True)
    model = model_dir.load(run.model(model))
    predictor = Predictor(model, settings, views)
    reader = Reader(model, model.cells, settings.pixel_limit, batch=1, views=views)
    masks, images = (records.Family(f) for f in (run.masks("relabelled"),
                                                 run.family("train", "images")))  # fmt: skip
    preset = crf.settings_of(settings)
    seen = reader.read(images.read(), lambda row: decode_image(row["image/encoded"]))
    for (row, picture, outputs), found in zip(seen, masks.read(), strict=True):
        logits = [one["logits"] for one in outputs]
        one = predictor.to_worker(picture, predictor.weights(*outputs), *logits)
        wanted = cells.crf_mask(preset, one) if clean else cells.plain_mask(one)
        wanted = encoding.resize_mask(wanted, row["image/height"], row["image/width"])
        assert (decode_mask(found["mask/png"]).numpy() == wanted).all()


def test_every_field_has_its_effect_shown():
    elsewhere = {name for names in ELSEWHERE for name in names.split(", ")}
    for cls, changes in CHANGES.items():
        fields = {field.name for field in dataclasses.fields(cls)}
        missing = fields - set(changes) - elsewhere - {"relabel_outside"}
        assert not missing, cls.__name__
