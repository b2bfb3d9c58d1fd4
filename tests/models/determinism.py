"""Trains, mines, relabels and evaluates in a copied run with --deterministic; see test_model_dir.

python determinism.py RUN on|off SETTINGS
"""

import json
import sys


def main(root, deterministic, common):
    import tensorflow as tf

    from aepsl_tf import config
    from aepsl_tf.phases import evaluate, mine_regions, relabel, train_classifier, train_segmenter
    from aepsl_tf.run_dir import RunDir

    run_dir = RunDir(root, restart=True)

    def do(phase, cls, **changes):
        names = cls.__dataclass_fields__
        settings = {k: v for k, v in (json.loads(common) | changes).items() if k in names}
        phase.run(cls(**settings, deterministic=deterministic), run_dir, 1)

    do(train_classifier, config.TrainClassifier, step=2)
    do(mine_regions, config.MineRegions, step=2)
    do(train_segmenter, config.TrainSegmenter, name="psl", merge_steps=1)
    do(relabel, config.Relabel, model="psl")
    do(evaluate, config.Evaluate, model="psl")
    try:
        tf.random.uniform([])  # has no seed
        unseeded = "allowed"
    except RuntimeError:
        unseeded = "refused"
    print(unseeded)


if __name__ == "__main__":
    main(*sys.argv[1:])
