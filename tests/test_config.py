"""Settings are checked where they are made, and only what shapes the output is compared."""

import dataclasses
import inspect

import pytest

from aepsl_tf import config as configs
from aepsl_tf.errors import InputError


def test_paper_s_defaults():
    c = configs.TrainClassifier()
    assert (c.learning_rate, c.last_layer_rate, c.momentum, c.weight_decay) == (1e-3, 10, 0.9, 5e-4)
    assert (c.epochs, c.lr_drop_epochs, c.global_batch, c.input_size) == (15, "6", 30, 321)
    assert configs.MineRegions().threshold == 0.2
    masks = configs.MakeMasks()
    assert (masks.background_threshold, masks.indoor_background_threshold) == (0.12, 0.06)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"input_size": 320}, "8k\\+1"),
        ({"input_size": 1}, "at least 9"),
        ({"epochs": 0}, "at least 1"),
        ({"backbone": "resnet"}, "expected one of vgg16, vgg16_small"),
        ({"cache_features": True, "freeze_through": "pool5a"}, "--input=warp"),
        ({"cache_features": True, "input": "warp"}, "--freeze_through"),
    ],
)
def test_bad_values_are_refused_by_name(values, message):
    with pytest.raises(InputError, match=message) as caught:
        configs.TrainClassifier(**values)
    assert f"--{next(iter(values))}" in str(caught.value) and "\n" not in str(caught.value)


def test_replace_checks_again():
    config = dataclasses.replace(configs.TrainClassifier(), input_size=33)
    assert config.input_size == 33
    with pytest.raises(InputError):
        dataclasses.replace(config, input_size=34)


def test_identity_leaves_out_what_cannot_change_a_byte():
    config = configs.TrainClassifier()
    identity = config.identity()
    assert "keep" not in identity and "checkpoint_seconds" not in identity
    assert identity["seed"] == 0
    assert dataclasses.replace(config, keep=5, checkpoint_seconds=1.0).identity() == identity
    assert dataclasses.replace(config, seed=1).identity() != identity


def test_every_field_tells_what_it_is_and_defaults_are_valid():
    for _, cls in inspect.getmembers(configs, inspect.isclass):
        if issubclass(cls, configs.Config):
            cls()  # the defaults pass their own checks
            for field in dataclasses.fields(cls):
                assert field.metadata["help"], f"{cls.__name__}.{field.name}"


def test_a_field_that_phases_share_has_one_default():
    seen = {}
    for _, cls in inspect.getmembers(configs, inspect.isclass):
        if issubclass(cls, configs.Config):
            for field in dataclasses.fields(cls):
                if field.name == "split":  # what is written, and what is evaluated
                    continue
                default = seen.setdefault(field.name, field.default)
                assert default == field.default, f"{cls.__name__}.{field.name}"
