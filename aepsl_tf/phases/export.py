"""A SavedModel to serve: `serve` takes a batch of pictures, `serve_bytes` one encoded picture.

python -m aepsl_tf.phases.export --run_dir=RUN --model=psl_plus_plus
"""

from aepsl_tf import config, config_flags
from aepsl_tf.data import runners
from aepsl_tf.files import to_json, write_atomic


def run(settings, run_dir, workers=0):
    """Writes RUN/export/MODEL; see `config.Export`.

    Outputs of both signatures: `mask` uint8, `probabilities` before prohibition, and `scores`
    unless the model has no classification branch. Loading needs TensorFlow alone.
    """
    del workers

    def work(partial):
        # TensorFlow numbers functions as a process makes them, and writes the numbers: only a
        # fresh process gives the same bytes whatever was done before.
        runners.in_fresh_process(write, run_dir.model(settings.model), partial, settings)
        write_atomic(partial / "classes.json", to_json(run_dir.classes().to_json()))

    key = f"export/{settings.model}"
    inputs = [f"train_segmenter/{settings.model}"]
    run_dir.phase(key, settings, inputs, run_dir.export(settings.model), work)


def write(model, folder, settings):
    """Writes the SavedModel of a model folder into `folder`."""
    import tensorflow as tf

    from aepsl_tf.data import transforms
    from aepsl_tf.inference.predictor import Predictor
    from aepsl_tf.models import model_dir

    predictor = Predictor(model_dir.load(model), settings)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def serve_bytes(encoded):
        return predictor.segment(transforms.decode_image(encoded)[None])

    # Loaded, the model has both as methods; as signatures they take and give names.
    served = tf.Module()
    served.serve, served.serve_bytes = predictor.segment, serve_bytes
    serve = predictor.segment.get_concrete_function()
    # Not by keras.export.ExportArchive: it lists variables in the order of their addresses.
    tf.saved_model.save(
        served, str(folder),
        {"serve": serve, "serve_bytes": serve_bytes, "serving_default": serve},
    )  # fmt: skip
    (folder / "fingerprint.pb").unlink()  # optional, and holds a random number


if __name__ == "__main__":
    config_flags.run_phase(config.Export, run)
