"""Pictures, records, transforms, and the tf.data chains."""
