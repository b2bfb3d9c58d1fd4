"""What is measured, and how. No part of the pipeline."""
