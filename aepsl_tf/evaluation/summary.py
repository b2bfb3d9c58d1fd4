"""A run's numbers in one place."""

from aepsl_tf.evaluation import metrics


def of_run(manifest, results, masks, segmenters, chosen, evaluations):
    """What RUN/summary.json holds.

    Args:
      manifest: phase key → its entry; that of each step below and of each segmenter among them.
      results: `results(name)` → {name: `metrics.Confusion.results`} of RUN/eval/NAME.json, {} where
        there is none.
      masks: the names of the masks of step 1, of steps 1 to 2, …
      segmenters: names of trained ones.
      chosen: the numbers of the steps whose δ may have been chosen.
      evaluations: the names of the segmenters' evaluations.
    """
    steps = {f"step_{k}": name for k, name in enumerate(masks, start=1)}
    of_masks = {step: results(f"masks_{name}").get(f"masks_{name}") for step, name in steps.items()}
    of_masks = {step: found for step, found in of_masks.items() if found}
    facts = {f"step_{k}": manifest.get(f"choose_threshold/step_{k}", {}).get("facts")
             for k in chosen}  # fmt: skip
    trained = {step: manifest[f"train_classifier/{step}"]["facts"] for step in steps}
    trained |= {name: manifest[f"train_segmenter/{name}"]["facts"] for name in segmenters}
    return {
        "mask_miou": {k: v["miou"] for k, v in of_masks.items()},
        "mask_miou_void_wrong": {k: v["miou_void_wrong"] for k, v in of_masks.items()},
        "mask_labelled_share": {k: v["labelled_share"] for k, v in of_masks.items()},
        "classifier_loss": {step: trained[step]["last_epoch"]["loss"] for step in steps},
        "lost": {step: names for step in steps if (names := _lost(manifest, step))},
        "agreement": {k: found for k, found in facts.items() if found},
        "merged": _merged(manifest, segmenters),
        "model_miou": {k: v["miou"] for name in evaluations for k, v in results(name).items()},
        "object_share": {
            name: metrics.object_shares(results(name)[name]["confusion"])
            for name in segmenters
            if results(name)
        },
        "split": {
            name: manifest[key]["config"]["split"]
            for name in segmenters
            if (key := f"evaluate/{name}") in manifest
        },
        "psl_start": {
            name: found["psl_start"] for name, found in trained.items() if "psl_start" in found
        },
        "still_falling": {
            name: found.get("still_falling", False) for name, found in trained.items()
        },
        "seconds": {k: v["seconds"] for k, v in manifest.items()},
    }


def _lost(manifest, step):
    """Names of the classes that a step's classifier does not know; older runs do not tell."""
    return manifest.get(f"mine_regions/{step}", {}).get("facts", {}).get("lost", [])


def _merged(manifest, segmenters):
    """How many steps the segmenters' masks S are of; None where none learned from S."""
    given = (manifest[f"train_segmenter/{name}"]["config"] for name in segmenters)
    return next((config.get("merge_steps") for config in given if not config["masks"]), None)
