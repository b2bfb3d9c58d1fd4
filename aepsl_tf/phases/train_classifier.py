"""Trains M_t (Algorithm 1, line 2).

python -m aepsl_tf.phases.train_classifier --run_dir=RUN --step=1
"""

from absl import logging

from aepsl_tf import config, config_flags


def choose(name, settings):
    """What auto is for a setting of either network; see `training.precision`."""
    from aepsl_tf.training import precision

    return precision.CHOOSE[name](settings)


def run(settings, run_dir, workers=0):
    """Trains the classifier of one erase step; see `config.TrainClassifier`. Returns its facts."""
    del workers
    step, split = settings.step, settings.train_split
    key = f"train_classifier/step_{step}"
    inputs = [f"write_voc/{split}"] + ([f"write_erased/step_{step}"] if step > 1 else [])
    previous = settings.start_from == "previous" and step > 1
    if previous:
        inputs.append(f"train_classifier/step_{step - 1}")

    def work(partial, settings):
        from aepsl_tf.data import datasets
        from aepsl_tf.models import model_dir
        from aepsl_tf.models.classifier import Classifier
        from aepsl_tf.training import pictures, strategies, train

        model_dir.start_over(settings)  # before the scope, which does not outlive it
        with strategies.get(settings.strategy).scope():
            family, fill = datasets.open_training_split(run_dir, split, step)
            model = Classifier(settings, len(run_dir.classes()))
            if previous:
                model_dir.load_weights(model, run_dir.classifier(step - 1))
                logging.info("layers start: all from %s", run_dir.classifier(step - 1))
            else:
                model.load_pretrained(settings.weights)
            draw = pictures.classifier_heatmaps(model, family, fill, run_dir.classes())
            return train.train(model, [family], fill, run_dir, key, partial, pictures=draw)

    reads = {} if previous else {"weights": settings.weights}
    return run_dir.phase(
        key, settings, inputs, run_dir.classifier(step), work, together=True, reads=reads,
        choose=choose,
    )  # fmt: skip


if __name__ == "__main__":
    config_flags.run_phase(config.TrainClassifier, run)
