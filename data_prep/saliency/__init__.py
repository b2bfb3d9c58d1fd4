"""Per-image saliency maps, the cue for background pixels (paper §4.1). Free of TensorFlow."""
