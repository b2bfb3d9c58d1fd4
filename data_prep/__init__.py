"""Data preparation: pictures, tags and saliency maps into TFRecords."""
