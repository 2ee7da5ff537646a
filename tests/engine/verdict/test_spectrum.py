"""Curvatures by products with a Hessian, on matrices whose eigenvalues are known."""

from __future__ import annotations

import numpy as np
import pytest

from tape_magic.engine.verdict.spectrum import PRODUCTS, Unclear, lanczos, whole
from tape_magic.engine.verdict.words import number, rounded_down

ROTATION = np.linalg.qr(np.random.default_rng(0).standard_normal((60, 60)))[0]


def test_all_curvatures_of_few_numbers() -> None:
    hessian = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, -5.0]])
    gradient = np.array([3.0, 3.0, 0.0])
    found = whole(hessian.dot, gradient, np.array([True, True, True]), 1e-9)
    np.testing.assert_allclose(found.values, [-5, 1, 3], atol=1e-12)
    np.testing.assert_allclose(found.newton, [-1, -1, 0], atol=1e-12)  # along (1, 1), of curvature 3
    assert found.gains.sum() == pytest.approx(3)
    held = whole(hessian.dot, gradient, np.array([True, False, False]), 1e-9)
    assert held.values.tolist() == [2]


def test_what_has_no_hessian_is_unclear() -> None:
    free = np.array([True, True])
    with pytest.raises(Unclear):
        whole(np.array([[0.0, 1.0], [-1.0, 0.0]]).dot, np.zeros(2), free, 1e-9)
    with pytest.raises(Unclear):
        whole(np.eye(2).dot, np.zeros(2), ~free, 1e-9)


def test_the_extremes_of_many() -> None:
    hessian = ROTATION * np.concatenate([[-2.0], np.linspace(0.5, 1, 58), [9.0]]) @ ROTATION.T
    anywhere = np.random.default_rng(1).standard_normal(60)
    found = lanczos(hessian.dot, np.zeros(60), anywhere, PRODUCTS, 1e-9)
    assert found.values[[0, -1]] == pytest.approx([-2, 9], rel=0.01)
    assert found.values.size <= PRODUCTS


def test_the_way_down_from_a_gradient() -> None:
    curvatures = np.repeat([1.0, 10.0, 1e4], 20)
    hessian, to_minimum = ROTATION * curvatures @ ROTATION.T, ROTATION @ np.ones(60)
    found = lanczos(hessian.dot, -hessian @ to_minimum, hessian @ to_minimum, PRODUCTS, 1e-9)
    np.testing.assert_allclose(found.newton, to_minimum, rtol=1e-6)
    np.testing.assert_allclose(found.values, [1, 10, 1e4])


def test_numbers_in_sentences() -> None:
    shown = {
        12.4: "12.4",
        -2.0: "−2",
        0.0: "0",
        40_000.0: "40,000",
        1.7e-6: "1.7·10⁻⁶",
        1e-4: "10⁻⁴",
        -1e-9: "−10⁻⁹",
    }
    assert {value: number(value) for value in shown} == shown
    assert [rounded_down(0.0478), rounded_down(0.1613, 2), rounded_down(0.49999)] == [0.04, 0.16, 0.5]
