"""Trains both networks for five steps on any strategy and saves their weights; see test_strategies.

python five_steps.py STRATEGY FOLDER [PORT TASK]
"""

import json
import os
import pathlib
import sys

import numpy as np

# Steps of 3, 3 and 1 images: no batch can be halved, the second replica's last share is empty.
IMAGES, GLOBAL_BATCH = 7, 3


def main(strategy, folder, ports="", task=0):
    if ports:
        workers = [f"127.0.0.1:{port}" for port in ports.split(",")]
        os.environ["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": workers}, "task": {"type": "worker", "index": int(task)}}
        )
    import tensorflow as tf

    from aepsl_tf import config as configs
    from aepsl_tf.classes import VOID
    from aepsl_tf.data import datasets
    from aepsl_tf.models.classifier import Classifier
    from aepsl_tf.models.segmenter import Segmenter
    from aepsl_tf.training import loop, solver, strategies

    if strategy == "mirrored":
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )

    common = dict(
        backbone="vgg16_small", weights="none", input_size=33, input="warp", dropout=0.0,
        fc6_dilation=1, global_batch=GLOBAL_BATCH, epochs=2, last_layer_rate=2,
        checkpoint_seconds=1e9,
    )  # fmt: skip
    cases = {
        "classifier": (Classifier, configs.TrainClassifier(**common, learning_rate=0.4)),
        "psl": (Segmenter, configs.TrainSegmenter(**common, learning_rate=0.03)),
        "psl_batch_norm": (
            Segmenter,
            configs.TrainSegmenter(**common, learning_rate=0.03, pixel_norm="batch"),
        ),
    }
    rng = np.random.default_rng(0)
    labelled = rng.random((IMAGES, 1, 1)) ** 2  # images with unequal labelled pixels
    mask = np.where(rng.random((IMAGES, 5, 5)) < labelled, rng.integers(0, 4, (IMAGES, 5, 5)), VOID)
    rows = {
        "image": rng.uniform(0, 255, (IMAGES, 33, 33, 3)).astype(np.float32),
        "labels": np.eye(3, dtype=np.float32)[rng.integers(0, 3, IMAGES)],
        "mask": mask.astype(np.uint8),
    }

    def batches(epoch, position, context):
        def load(row):
            batch = {name: tf.gather(values, row["image"]) for name, values in rows.items()}
            return batch | {"mask": tf.where(row["present"], batch["mask"], VOID)}

        return datasets.replica_batches(load, IMAGES, GLOBAL_BATCH, 0, epoch, position, context)

    chosen = strategies.get(strategy)
    for name, (kind, config) in cases.items():
        with chosen.scope():
            model = kind(config, 3)
            model.compile(optimizer=solver.build(model, config, 3))
            if name != "classifier":
                model.psl_active.assign(1.0)
            before = model.tuned.get_weights()
            history = loop.fit(
                model, batches, IMAGES, config, pathlib.Path(folder) / f"checkpoints_{name}"
            )
            assert chosen.num_replicas_in_sync == (1 if strategy == "one_device" else 2)
        if strategies.worker(chosen)[0] == 0:
            weights = {f"w{i}": w for i, w in enumerate(model.tuned.get_weights())}
            start = {f"b{i}": w for i, w in enumerate(before)}
            np.savez(f"{folder}/{name}.npz", loss=history[-1]["loss"], **weights, **start)

    if strategy == "mirrored":
        overflow(chosen, Classifier, configs.TrainClassifier(**common | dict(
            precision="mixed_float16", dropout=0.5)), rows, folder)  # fmt: skip


def overflow(strategy, kind, config, rows, folder):
    """A float16 step whose gradients overflow on the second replica alone."""
    import tensorflow as tf

    from aepsl_tf.training import loop, solver

    with strategy.scope():
        model = kind(config, 3)
        model.compile(optimizer=solver.build(model, config, 3))
    before, scale = model.tuned.get_weights(), float(model.optimizer.dynamic_scale.numpy())
    generators = [v.value for v in model.tuned.variables if "seed" in v.path]
    loop._separate_dropout(strategy, generators)
    seeds = [[c.numpy() for c in strategy.experimental_local_results(g)] for g in generators]
    context = iter(range(2))

    def share(_):
        first = 2 * next(context)
        batch = {k: tf.constant(v[first : first + 2]) for k, v in rows.items() if k != "mask"}
        if first:
            batch["image"] *= np.float32(1e7)  # beyond float16
        return batch

    batch = strategy.experimental_distribute_values_from_function(share)
    tf.function(lambda b: strategy.run(model.train_step, args=(b,)), autograph=False)(batch)
    pairs = list(zip(before, model.tuned.get_weights(), strict=True))
    np.savez(
        f"{folder}/overflow.npz", moved=max(np.abs(a - b).max() for a, b in pairs),
        scale=float(model.optimizer.dynamic_scale.numpy()) / scale,
        steps=model.optimizer.iterations.numpy(), seeds=seeds,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
