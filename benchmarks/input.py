"""How much of a train step's rate on one resident batch a training from disk keeps.

python -m benchmarks.input --devkit=VOCdevkit/VOC2012 --backbone=vgg16 --input_size=321

The same train step is fed by turns from memory, always with the same batch, and from records or
the feature cache of a devkit's `train` split, as training reads them. Prints images per second,
medians over the rounds, and the ratio, median (least to most), which should be .95 at least.
"""

import argparse
import pathlib
import statistics
import tempfile
import time

import tensorflow as tf

from aepsl_tf import config
from aepsl_tf.data import datasets, order, records
from aepsl_tf.data.feature_cache import FeatureCache
from aepsl_tf.models import model_dir
from aepsl_tf.models.classifier import Classifier
from aepsl_tf.run_dir import RunDir
from aepsl_tf.training import solver
from benchmarks import heading, median, settled
from data_prep import write_voc

_BEGUN = 4  # batches that are on their way, or lie ready, when a turn begins


def seconds_of(step, batches, count):
    """Seconds of `count` steps."""
    start = time.perf_counter()
    for _ in range(count):
        logs = step(next(batches))
    float(logs["loss"])
    return time.perf_counter() - start


def measure(settings, run_dir, steps, rounds):
    """[(resident, from disk) images per second, a pair a round]."""
    family, fill = datasets.open_training_split(run_dir, "train", 1)
    classes, batch = len(run_dir.classes()), settings.global_batch
    model = Classifier(settings, classes)
    model.compile(optimizer=solver.build(model, settings, order.steps(family.images, batch)))
    cache = FeatureCache(run_dir, model, family, fill) if settings.cache_features else None
    data = datasets.training_batches(
        [family], settings, classes, fill, 0, 0, tf.distribute.InputContext(),
        cache.fill_up() if cache else None,
    )  # fmt: skip
    step, batches = tf.function(model.train_step, [data.element_spec], autograph=False), iter(data)
    resident = iter(tf.data.Dataset.from_tensors(next(batches)).repeat())
    seconds_of(step, resident, 2)
    rates = []
    for _ in range(rounds):
        still = seconds_of(step, resident, steps)
        for _ in range(_BEGUN):
            next(batches)
        rates.append(tuple(steps * batch / s for s in (still, seconds_of(step, batches, steps))))
    return rates


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--devkit", required=True)
    parser.add_argument("--backbone", default="vgg16", choices=["vgg16", "vgg16_small"])
    parser.add_argument("--input_size", type=int, default=321)
    parser.add_argument("--precision", default="auto",
                        choices=["auto", "float32", "mixed_bfloat16"])  # fmt: skip
    parser.add_argument("--images", type=int, help="the first ones of the split; default all")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=8, help="a turn; of the cache 8 times")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", default="", help="words by commas: only rows that hold one")
    arguments = parser.parse_args()
    ways = {
        "records, crop": {"input": "crop"},
        "records, warp": {"input": "warp"},
        "records, warp, frozen": {"input": "warp", "freeze_through": "pool5a"},
    }
    ways["cache"] = ways["records, warp, frozen"] | {"cache_features": True}
    ways["cache, a head of 256 channels"] = ways["cache"] | {"fc_channels": 256}
    print(heading(arguments, *(d.name for d in tf.config.list_physical_devices("GPU"))))
    precision = settled(arguments.precision, arguments.backbone)
    with tempfile.TemporaryDirectory() as folder:
        run_dir, ids = RunDir(pathlib.Path(folder) / "run"), pathlib.Path(folder) / "ids.txt"
        train = pathlib.Path(arguments.devkit) / "ImageSets/Segmentation/train.txt"
        ids.write_text("\n".join(train.read_text().split()[: arguments.images]))
        write_voc.run(config.WriteVoc(voc_root=arguments.devkit, ids_file=str(ids)), run_dir, 1)
        images = records.Family(run_dir.family("train", "images"))
        print(f"{images.images} images\n")
        print("| from | resident, images/s | from disk | ratio |\n|---|---:|---:|---:|")
        for name, changes in ways.items():
            if not any(word in name for word in arguments.rows.split(",")):
                continue
            settings = config.TrainClassifier(
                backbone=arguments.backbone, weights="none", input_size=arguments.input_size,
                global_batch=arguments.batch, learning_rate=1e-5, precision=precision,
                **changes,
            )  # fmt: skip
            steps = arguments.steps * (8 if settings.cache_features else 1)  # which take a tenth
            rates = measure(settings, run_dir, steps, arguments.rounds)
            still, read = (statistics.median(r) for r in zip(*rates, strict=True))
            ratio = median([b / a for a, b in rates], 3)
            print(f"| {name} | {still:.1f} | {read:.1f} | {ratio} |", flush=True)
            model_dir.start_over(settings)


if __name__ == "__main__":
    main()
