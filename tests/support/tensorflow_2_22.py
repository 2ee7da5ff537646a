"""What TensorFlow 2.22 computes otherwise than the versions before."""

from __future__ import annotations

import tensorflow as tf

NORM_IS_SMOOTH = tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 22)
"""Whether ``tf.norm`` and ``tf.math.reduce_euclidean_norm`` have the gradient 0 at 0; before, it is NaN.

https://github.com/tensorflow/tensorflow/issues/12071
"""
