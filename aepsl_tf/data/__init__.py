"""Records, class sets, transforms and the tf.data chains."""
