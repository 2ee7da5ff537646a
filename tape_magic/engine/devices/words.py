"""The words that a request may have, for the engine and for the magic line; imports nothing."""

from __future__ import annotations

FREEST = "freest"
"""In place of an index: the GPU with the most free memory."""

ALLOCATORS = ("bfc", "cuda_malloc_async", "cuda_malloc")
"""TensorFlow's own, the default; CUDA's with a pool; CUDA's plain one. Others are ignored without a word."""

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")
"""Keras's policies."""
