"""The operations that compute each element by itself."""

from __future__ import annotations

_FUNCTIONS = """
    Abs Acos Acosh Asin Asinh Atan Atan2 Atanh Cos Cosh Digamma Div DivNoNan Elu Erf Erfc Exp Expm1 Inv
    Lgamma Log Log1p Maximum Minimum Pow RealDiv Reciprocal Relu Relu6 Rsqrt Selu Sigmoid Sin Sinh Softplus
    Softsign Sqrt Square SquaredDifference Tan Tanh Xdivy Xlogy
"""
ELEMENTWISE = frozenset(_FUNCTIONS.split())
"""Operations on each element by itself, with a gradient that is registered."""
