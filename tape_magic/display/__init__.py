"""How results look. Reads results only: no TensorFlow, and nothing is computed here."""
