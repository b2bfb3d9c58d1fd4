"""What a command loads before it is needed, which is nothing heavy, and what TensorFlow says when
it is loaded, which is nothing, unless something is wrong.
"""

import logging
import os
import pathlib
import re
import subprocess
import sys

import pytest
from conftest import TINY

from aepsl_tf import __main__ as console
from aepsl_tf import quiet
from aepsl_tf.data import runners
from aepsl_tf.phases import relabel

ROOT = pathlib.Path(__file__).parents[1]
HEAVY = {"tensorflow", "keras", "tensorboard", "scipy", "sklearn", "cv2", "onnxruntime", "h5py",
         "pydensecrf", "rich"}  # fmt: skip


def start(*arguments, **environment):
    env = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True,
        timeout=300, env=env | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip


def loaded(*arguments):
    """(what a program loads of what is heavy, the finished process)."""
    done = start("-X", "importtime", *arguments)
    found = re.findall(r"^import time: .*\| +([\w.]+)$", done.stderr, re.M)
    assert "absl.flags" in found
    done.stderr = re.sub(r"^import time: .*\n", "", done.stderr, flags=re.M)
    return {name.partition(".")[0] for name in found} & HEAVY, done


# ----------------------------------------------------------------- nothing before its time


def test_no_command_s_module_loads_anything_heavy():
    modules = [f"{package}.{name}" for name, package in console.COMMANDS.items()]
    heavy, done = loaded("-c", f"import {', '.join(modules)}")
    assert done.returncode == 0 and heavy == set()


@pytest.mark.parametrize("command", ["pipeline", "predict", "write_saliency"])
def test_help_loads_nothing_heavy(command):
    heavy, done = loaded("-m", "aepsl_tf", command, "--help")
    assert "--run_dir" in done.stdout and heavy == set()


@pytest.mark.parametrize("arguments", [["mine_regions", "--help"], ["help"]])
def test_help_speaks_where_there_is_no_utf_8(arguments):
    ascii_ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = start("-m", "aepsl_tf", *arguments, **ascii_)
    assert "Traceback" not in done.stderr and "\\u" in done.stdout


def test_the_plan_and_missing_input_load_no_tensorflow(devkit, tmp_path):
    tiny = [f"--{name}={value}" for name, value in TINY.items()]
    run = f"--run_dir={tmp_path / 'run'}"
    heavy, done = loaded(
        "-m", "aepsl_tf.pipeline", *tiny, run, f"--voc_root={devkit}", "--dry_run"
    )  # fmt: skip
    assert "to do     train_segmenter/psl_plus_plus" in done.stdout
    assert not heavy & {"tensorflow", "keras"}
    for command, said in (
        (["aepsl_tf.pipeline", run, *tiny, "--voc_root=nowhere"], "nowhere"),
        (["aepsl_tf.phases.train_classifier", run], "write_voc/train"),
        (["aepsl_tf.phases.predict", run, "--images=nowhere"], "nowhere"),
    ):
        heavy, done = loaded("-m", *command)
        assert done.returncode == 1
        assert lines(done.stderr)[-1].startswith("error: ") and said in done.stderr
        assert not heavy & {"tensorflow", "keras"}


def test_a_finished_phase_loads_nothing_heavy(run_copy, common):
    flags = [f"--{name}={value}" for name, value in common.items()]
    heavy, done = loaded("-m", relabel.__name__, f"--run_dir={run_copy.root}", *flags)
    assert "relabel/relabelled: finished before, skipped" in done.stderr and heavy == set()


def test_the_look_would_notice():
    heavy, _ = loaded("-c", "import absl.flags, aepsl_tf.inference.drawing")
    assert heavy == {"cv2"}


# ------------------------------------------------------------------------------- TensorFlow's words


def lines(stderr):
    return [line for line in re.split(r"[\r\n]+", stderr) if line.strip()]


def test_a_command_that_needs_tensorflow_shows_none_of_its_lines(run_copy, devkit, tmp_path):
    """`predict` loads it in the process itself, `export` in a spawned one."""
    picture = next((devkit / "JPEGImages").glob("*.jpg"))
    done = start("-m", "aepsl_tf.phases.predict", f"--run_dir={run_copy.root}", "--nocrf",
                 "--workers=1", f"--images={picture}", f"--output={tmp_path / 'out'}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all("predict" in line for line in lines(done.stderr)), done.stderr
    done = start("-m", "aepsl_tf.phases.export", f"--run_dir={run_copy.root}", "--model=no_psl")
    assert done.returncode == 0, done.stderr
    said = lines(done.stderr)
    assert said[0] == "export/no_psl: starts"
    assert said[1].startswith("export/no_psl: finished") and len(said) == 2


def test_nor_does_trying_what_this_machine_may_not_have():
    """bfloat16, where a processor has no AVX-512."""
    tried = "from aepsl_tf.training import precision; print(precision.measure('vgg16_small'))"
    done = start("-c", tried)
    assert done.returncode == 0 and "float32" in done.stdout
    assert not lines(done.stderr), done.stderr


IDLE = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795700485.532434    9708 port.cc:153] oneDNN custom operations are on.
2026-11-26 13:40:00.157831: I external/local_xla/xla/tsl/cuda/cudart_stub.cc:32] Could not find
E0000 00:00:1758131045.203198 3722035 cuda_dnn.cc:8579] Unable to register cuDNN factory: Attempt
W0000 00:00:1758131045.203198 372 computation_placer.cc:177] computation placer already registered.
"""
WRONG = """\
W0000 00:00:1795700485.532434    9708 gpu_device.cc:2341] Cannot dlopen some GPU libraries.
F0000 00:00:1795700485.532434    9708 cpu_feature_guard.cc:99] compiled to use AVX, which is not
no line of a log
"""
FAKE = "import os\nos.write(2, {text!r}.encode())\n{then}\n"
IMPORT = "import os, aepsl_tf, tensorflow\nos.write(2, b'after\\n')\nprint('there')"


@pytest.fixture
def fake(tmp_path):
    """`fake(then)`: a package `tensorflow` that writes to standard error while it loads."""

    def write(then):
        (tmp_path / "tensorflow.py").write_text(FAKE.format(text=IDLE + WRONG + IDLE, then=then))
        return os.pathsep.join([str(tmp_path), str(ROOT)])

    return write


def test_what_is_wrong_is_still_said(fake):
    done = start("-c", IMPORT, PYTHONPATH=fake(""))
    assert done.stdout == "there\n" and done.stderr == WRONG + "after\n"
    done = start("-c", IMPORT, PYTHONPATH=fake("raise ImportError('libfoo.so is missing')"))
    assert done.returncode == 1 and done.stderr.startswith(WRONG)
    assert done.stderr.endswith("ImportError: libfoo.so is missing\n")


def test_last_words_are_said(fake):
    """As when TensorFlow finds that the processor lacks what it was built for."""
    done = start("-c", IMPORT, PYTHONPATH=fake("os.abort()"))
    assert done.returncode < 0 and done.stderr == WRONG


def test_all_is_said_where_it_is_asked_for(fake):
    done = start("-c", IMPORT, PYTHONPATH=fake(""), TF_CPP_MIN_LOG_LEVEL="0")
    assert done.stderr == IDLE + WRONG + IDLE + "after\n"


def loads_tensorflow():
    """What a worker may do; returns the log level that it found."""
    import tensorflow as tf

    return os.environ["TF_CPP_MIN_LOG_LEVEL"], float(tf.constant(1.0) + 1.0)


def test_spawned_processes_are_quiet_too(capfd, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    assert runners.in_fresh_process(loads_tensorflow) == ("1", 2.0)
    assert capfd.readouterr().err == ""


def test_what_tensorflow_tells_by_our_logger_is_not_ours():
    def record(level, path):
        return logging.LogRecord("absl", level, path, 1, "Sharding callback duration", (), None)

    theirs = "/site-packages/tensorflow/python/checkpoint/functional_saver.py"
    assert not quiet.tells(record(logging.INFO, theirs))
    assert quiet.tells(record(logging.WARNING, theirs))
    assert quiet.tells(record(logging.INFO, str(ROOT / "aepsl_tf/run_dir.py")))
