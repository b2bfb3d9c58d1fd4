"""What is measured, how, and against whom."""

import aepsl_tf as _settles_tensorflow  # noqa: F401  before any of these imports TensorFlow
