"""The words that a request may contain, for the engine and for the magic line.

Imports nothing, since loading the extension brings this module along.
"""

from __future__ import annotations

FREEST = "freest"
"""In place of an index: the GPU with the most free memory."""

ALLOCATORS = ("bfc", "cuda_malloc_async", "cuda_malloc")
"""The values of TF_GPU_ALLOCATOR: TensorFlow's own, the default; CUDA's with a pool; CUDA's plain one.

TensorFlow 2.21 ignores every other value without a message.
"""

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")
"""The names of Keras's precision policies."""

TF_CONFIG = "TF_CONFIG"
"""TensorFlow's environment variable for the workers; in place of addresses, those that it has."""

WAIT = 60.0
"""Seconds to wait for the other workers."""
