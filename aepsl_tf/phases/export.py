"""A model for others to run: a SavedModel for TensorFlow Serving, a TFLite or an ONNX file.

python -m aepsl_tf.phases.export --run_dir=RUN --model=psl_plus_plus
"""

from aepsl_tf import config, config_flags
from aepsl_tf.data import runners
from aepsl_tf.evaluation import model_card
from aepsl_tf.files import to_json, write_atomic


def run(settings, run_dir, workers=0):
    """Writes RUN/export/MODEL or RUN/export/MODEL.FORMAT; see `config.Export`.

    RUN/export/MODEL is a servable's base path: the SavedModel in its folder 1, which is all that
    TensorFlow Serving looks at, and beside that README.md, the model's card, and classes.json.
    docs/serving.md says what goes in and comes out.
    """
    del workers
    name, whole = settings.model, settings.format == "saved_model"

    def work(partial):
        # TensorFlow numbers functions as a process makes them, and writes the numbers: only a
        # fresh process gives the same bytes whatever was done before.
        runners.in_fresh_process(_write, run_dir.model(name), partial, settings)
        if whole:
            write_atomic(partial / "classes.json", to_json(run_dir.classes().to_json()))
            write_atomic(partial / "README.md", model_card.text(run_dir, settings))

    output = run_dir.export(name if whole else f"{name}.{settings.format}")
    key = f"export/{output.name}"
    if whole and (output / "saved_model.pb").exists():
        run_dir.forget(key)  # an older version's, without the folder 1
    inputs = [f"train_segmenter/{name}", *(model_card.sources(run_dir, name) if whole else ())]
    run_dir.phase(key, settings, inputs, output, work)


def _write(model_folder, output, settings):
    from aepsl_tf.inference import serving  # in the fresh process alone: it brings TensorFlow

    serving.write(model_folder, output, settings)


if __name__ == "__main__":
    config_flags.run_phase(config.Export, run)
