"""CAM, erasing and mask fusion: Algorithm 1 and §3.1."""
