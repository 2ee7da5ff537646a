"""The precision and range of dtypes, as IEEE 754 and the definition of bfloat16 give them."""

from __future__ import annotations

import math

import pytest
import tensorflow as tf

import tape_magic
from tape_magic.engine.values.precision import double_of, epsilon, largest_exponent

FRACTION_BITS = {
    "bfloat16": 7,
    "float16": 10,
    "float32": 23,
    "float64": 52,
    "complex64": 23,
    "complex128": 52,
}


@pytest.mark.parametrize(("dtype", "bits"), FRACTION_BITS.items())
def test_the_next_number_after_one(dtype: str, bits: int) -> None:
    assert epsilon(dtype) == 2.0**-bits


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_the_largest_exponent_is_the_last_whose_exponential_is_finite(dtype: str) -> None:
    last = largest_exponent(dtype)
    below, above = (float(tf.exp(tf.constant(number, dtype))) for number in (last, last + 1))
    assert (math.isfinite(below), math.isfinite(above)) == (True, False)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_a_report_names_the_largest_exponent(dtype: str) -> None:
    x = tf.Variable(1000.0, dtype=dtype)
    (row,) = tape_magic.grad(lambda x: tf.exp(x), x).rows
    assert f"keep its argument below {largest_exponent(dtype)} ({dtype})" in str(row.reason)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_narrow_floats_widen_to_float64(dtype: str) -> None:
    assert double_of(dtype) == "float64"


def test_narrow_complex_numbers_widen_to_complex128() -> None:
    assert double_of("complex64") == "complex128"


@pytest.mark.parametrize("dtype", ["float64", "complex128", "int32", "uint8", "bool", "string", "variant"])
def test_all_else_widens_to_nothing(dtype: str) -> None:
    assert double_of(dtype) is None


@pytest.mark.parametrize("dtype", ["int32", "bool", "string"])
def test_no_precision_without_fractions(dtype: str) -> None:
    with pytest.raises(ValueError):  # whose words differ from version to version
        epsilon(dtype)
