"""The sentences that close a run say what its numbers say."""

import pytest

from aepsl_tf.evaluation import verdict

GOOD = {
    "agreement": {},
    "classifier_loss": {},
    "lost": {},
    "merged": None,
    "mask_miou_void_wrong": {"step_1": 0.355, "step_2": 0.584, "step_3": 0.628, "step_4": 0.618},
    "model_miou": {"no_psl": 0.649, "no_psl_crf": 0.725, "psl": 0.693, "psl_plus_plus": 0.73},
    "object_share": {"psl": (0.2, 0.25), "psl_plus_plus": (0.21, 0.25)},
    "split": {"no_psl": "val", "psl": "val", "psl_plus_plus": "val"},
    "psl_start": {"psl": 18},
    "still_falling": {"step_1": True, "no_psl": False, "psl": True},
}
NOTHING = {key: {} for key in GOOD}


def test_a_run_that_went_well():
    assert verdict.sentences(GOOD) == [
        "Masks: erasing took S from 0.355 (step 1) to 0.628 (steps 1 to 3); after step 3 it mined "
        "more background than object.",
        "PSL: 0.693, 4.4 points above No PSL.",
        "PSL++: 0.730, 3.7 points above PSL.",
        "PSL: Ŝ joined after 18 epochs.",
        "Objects: PSL++ marks 21% of the pixels, the truth 25%.",
        "The loss still fell at the end of step_1, psl: longer training may do better.",
    ]


def test_what_is_of_another_split_is_not_compared():
    said = verdict.sentences(GOOD | {"split": GOOD["split"] | {"psl_plus_plus": "test"}})
    assert [s for s in said if "points" in s] == ["PSL: 0.693, 4.4 points above No PSL."]
    told = verdict.of_phases(GOOD | {"split": {"no_psl": "val", "psl": "train"}})
    assert told["evaluate/psl"] == "mIoU 0.693"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mask_miou_void_wrong": {"step_1": 0.3, "step_2": 0.4}}, "every step found more of the"),
        ({"model_miou": {"no_psl": 0.5, "psl": 0.3}}, "PSL: 0.300, 20.0 points BELOW No PSL."),
        ({"psl_start": {"psl": None}}, "PSL: Ŝ never joined (--psl_start; auto waits for"),
        (
            {
                "agreement": {
                    "step_1": {"agreement": 0.41, "threshold": 0.3},
                    "step_2": {"agreement": 0.38, "threshold": 0.55},
                }
            },
            "Regions and salient area: IoU 0.410 (step 1, δ 0.3), 0.380 (step 2, δ 0.55); the last "
            "one took them further apart.",
        ),
        (
            {"lost": {"step_2": ["horse", "cow"]}},
            "M_2 does not know horse, cow: what is mined of them means little.",
        ),
        ({"lost": {"step_1": ["horse"]}}, "M_1 does not know horse: what is mined of it means"),
        ({"object_share": {"psl": (0.1, 0.25)}}, "the truth 25%; it misses most of them."),
        (
            {"merged": 1, "classifier_loss": {"step_1": 0.2, "step_2": 0.5}},
            "Segmenters learned from S of step 1; 2 were mined.",
        ),
    ],
)
def test_what_went_wrong_is_said(change, sentence):
    assert sentence in "\n".join(verdict.sentences(GOOD | change))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((0.5, 0.4, 0.6), "to 0.600 (steps 1 to 3); not every step before found more"),
        ((0.5, 0.4, 0.3), "erasing did not help S, 0.500 (step 1); after step 1 it mined more"),
        ((0.5, 0.6146, 0.6148), "to 0.615 (steps 1 to 2); after step 2 it found as much"),
        ((None, 0.4, 0.6, 0.5), "from 0.400 (steps 1 to 2) to 0.600 (steps 1 to 3); after step 3"),
    ],
)  # fmt: skip
def test_what_is_said_of_masks_is_what_their_numbers_say(values, sentence):
    masks = {f"step_{step}": value for step, value in enumerate(values, start=1)}
    [said] = verdict.sentences(NOTHING | {"mask_miou_void_wrong": masks})
    assert sentence in said


def test_what_looks_the_same_is_called_the_same():
    masks = {"step_1": 0.68120, "step_2": 0.68124, "step_3": 0.68118, "step_4": 0.677}
    miou = {"no_psl": 0.6, "psl": 0.60004, "psl_flip": 0.62, "psl_flip_crf": 0.63}
    said = verdict.of_phases(NOTHING | {"mask_miou_void_wrong": masks, "model_miou": miou})
    assert said == {
        "make_masks/steps_1_to_1": "masks at 0.681",
        "make_masks/steps_1_to_2": "masks stay at 0.681",
        "make_masks/steps_1_to_3": "masks stay at 0.681",
        "make_masks/steps_1_to_4": "step 4 over-erases: masks fall from 0.681 to 0.677",
        "evaluate/no_psl": "mIoU 0.600",
        "evaluate/psl": "mIoU 0.600; level with No PSL",
        "evaluate/psl_flip": "mIoU 0.620; with CRF 0.630",
    }


def test_the_ceiling_is_not_what_the_run_made():
    shares = {"psl": (0.2, 0.25), "supervised": (0.24, 0.25)}
    assert verdict.sentences(NOTHING | {"object_share": shares}) == [
        "Objects: PSL marks 20% of the pixels, the truth 25%."
    ]


def test_a_run_without_truth_or_segmenters_says_nothing():
    assert verdict.sentences(NOTHING) == []
    assert verdict.sentences(NOTHING | {"mask_miou_void_wrong": {"step_1": 0.3}}) == []
    unmeasured = {"mask_miou_void_wrong": {"step_1": None, "step_2": None},
                  "model_miou": {"no_psl": None, "psl": None}}  # fmt: skip
    assert verdict.sentences(NOTHING | unmeasured) == []
    assert verdict.of_phases(NOTHING) == {}


def test_each_phase_has_its_words():
    summary = GOOD | {
        "classifier_loss": {"step_1": 0.01},
        "lost": {"step_1": ["horse"]},
        "agreement": {"step_1": {"agreement": 0.41, "threshold": 0.3}},
        "mask_miou_void_wrong": {"step_1": 0.355, "step_2": 0.681, "step_3": 0.677},
        "psl_start": {"psl": 18, "psl_plus_plus": None},
        "still_falling": {"step_1": True, "no_psl": False, "psl": True, "psl_plus_plus": False},
    }
    assert verdict.of_phases(summary) == {
        "train_classifier/step_1": "loss 0.010; the loss still falls",
        "mine_regions/step_1": "M_1 does not know horse",
        "choose_threshold/step_1": "δ 0.3: regions meet the salient area with an IoU of 0.410",
        "make_masks/steps_1_to_1": "masks at 0.355",
        "make_masks/steps_1_to_2": "masks rise from 0.355 to 0.681",
        "make_masks/steps_1_to_3": "step 3 over-erases: masks fall from 0.681 to 0.677",
        "train_segmenter/psl": "Ŝ joined after 18 epochs; the loss still falls",
        "train_segmenter/psl_plus_plus": "Ŝ never joined",
        "evaluate/no_psl": "mIoU 0.649; with CRF 0.725",
        "evaluate/psl": "mIoU 0.693; 4.4 points above No PSL",
        "evaluate/psl_plus_plus": "mIoU 0.730; 3.7 points above PSL",
    }
