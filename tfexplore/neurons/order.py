"""Two marks within an equation: what is computed first, and what has no gradient."""

from __future__ import annotations

from typing import Any

import sympy
from sympy import Expr


class first(sympy.Function):
    """`first(a)` is a, computed before what stands around it: SymPy would write v + (x - (v - r)) as v - v + x + r.

    In exact arithmetic it changes nothing. In float32 the last digit depends on the order, and a spike on the last digit; so the
    equations of another library are written in its order.

    Args:
        a: an expression, or a number.

    Example:
        >>> from sympy.abc import r, v, x
        >>> x - first(v - r), x - (v - r)
        (x - first(-r + v), r - v + x)
    """

    @classmethod
    def eval(cls, a: Expr) -> Expr | None:
        return a if a.is_Atom else None  # nothing to compute

    def fdiff(self, argindex: int = 1) -> Expr:
        return sympy.S.One

    def _eval_is_real(self) -> bool | None:
        known: bool | None = self.args[0].is_real
        return known

    def _latex(self, printer: Any) -> str:
        return rf"\left({printer._print(self.args[0])}\right)"


class detached(sympy.Function):
    """`detached(a)` is a, as a number: no gradient flows through it, as of `a.detach()` in torch.

    Args:
        a: an expression, or a number.

    Example:
        >>> from sympy import diff
        >>> from sympy.abc import v, x
        >>> diff(x * detached(2 * v), x), diff(x * detached(2 * v), v)
        (detached(2*v), 0)
    """

    @classmethod
    def eval(cls, a: Expr) -> Expr | None:
        return a if a.is_number else None

    def fdiff(self, argindex: int = 1) -> Expr:
        return sympy.S.Zero

    def _eval_is_real(self) -> bool | None:
        known: bool | None = self.args[0].is_real
        return known

    _latex = first._latex
