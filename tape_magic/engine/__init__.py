"""Everything that computes. TensorFlow is imported here only, and only when it is first needed."""
