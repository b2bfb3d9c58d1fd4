"""Runs one of the project's programs and kills it (SIGKILL) at a chosen point; see test_kills.

python dying.py POINT MODULE --flags…
"""

import importlib
import os
import signal
import sys


def die_at_call(owner, name, call, after=False, only=lambda *args: True):
    """Kills the process at the `call`-th matching call of a function, before or after its work."""
    original, seen = getattr(owner, name), 0

    def counting(*args, **kwargs):
        nonlocal seen
        seen += only(*args)
        if seen < call:
            return original(*args, **kwargs)
        if after:
            original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, counting)


def arm(point):
    import tensorflow as tf
    from tensorflow.python.checkpoint import checkpoint_management

    from aepsl_tf.data import records
    from aepsl_tf.run_dir import RunDir
    from aepsl_tf.training import loop

    if point == "mid_epoch":
        die_at_call(loop.keras.callbacks.CallbackList, "on_train_batch_end", 2)
    elif point == "mid_checkpoint":  # the tensors are on disk, the list of checkpoints is not
        die_at_call(checkpoint_management, "update_checkpoint_state_internal", 2)
    elif point == "mid_shard":
        die_at_call(records, "encode", 5, only=lambda family, _: family == "erased")
    elif point == "between_rename_and_manifest":
        die_at_call(
            RunDir, "_record", 1,
            only=lambda run, key, entry: "mine" in key and entry["status"] == "finished",
        )  # fmt: skip
    elif point == "mid_export":
        die_at_call(tf.saved_model, "save", 1, after=True)
    else:
        assert point == "never", point


def main(point, module, *flags):
    sys.argv = [module, *flags]
    from aepsl_tf import config_flags

    arm(point)
    program = importlib.import_module(module)
    if module == "aepsl_tf.pipeline":
        config_flags.run_app(program.main)
    else:
        from aepsl_tf import config

        config_flags.run_phase(config.TrainClassifier, program.run)


if __name__ == "__main__":
    main(*sys.argv[1:])
