"""AE-PSL: from image tags to a pixel-accurate segmenter (Wei et al., CVPR 2017).

Importing the package sets three environment defaults before TensorFlow starts; a value that is
already set wins. oneDNN is asked for by name because TensorFlow turns it on by itself only on
some processors, and without it dilated convolutions cannot be trained natively on a CPU. Of
TensorFlow's own words warnings and errors are shown (`quiet`); TF_CPP_MIN_LOG_LEVEL=0 shows all.
"""

import os

from aepsl_tf import quiet

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
if os.environ["TF_CPP_MIN_LOG_LEVEL"] != "0":
    quiet.install()

__version__ = "0.1.0"
