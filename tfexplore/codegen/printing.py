"""SymPy expressions -> CUDA C++, Numba and torch (LaTeX is SymPy's own, see `latex.py`).

One printer walks the expression; a `Dialect` holds what differs between the languages. Every language gets the same
operations in the same order (no reciprocals, no fused powers), so that float32 results are the same bits. SymPy's own
printers choose an order and a spelling of powers per language, which is why they are not used here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sympy
from sympy import Expr, Symbol
from sympy.printing.printer import Printer

from tfexplore.neurons.step import choices


@dataclass(frozen=True)
class Dialect:
    """How a language spells a number, a choice, and each function of `FUNCTIONS`."""

    name: str
    number: Callable[[str], str]
    choose: Callable[[str, str, str], str]
    function: Callable[[str], str]
    both: str = " and "
    either: str = " or "
    numerator: str = "{0}"
    detached: str = "({0})"


FUNCTIONS = ("exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "atan", "sqrt", "erf", "Abs", "pow")

_IN_PLACE = "({1} if {0} else {2})"
# LIKE: a tensor in every generated torch function; it lends its dtype and device to constants. A quotient needs a tensor
# above: torch computes 0.1 / x as 0.1 * (1 / x), which rounds twice
TORCH = Dialect(
    "torch",
    str,
    "where({0}, {1}, {2}, LIKE)".format,
    lambda f: {"Abs": "torch.abs"}.get(f, f"torch.{f}"),
    " & ",
    " | ",
    "number({0}, LIKE)",
    "({0}).detach()",
)
NUMBA = Dialect(
    "Numba", "real({})".format, _IN_PLACE.format, lambda f: {"Abs": "abs", "pow": "math.pow"}.get(f, f"math.{f}")
)
CUDA = Dialect(
    "CUDA", "real({})".format, "({0} ? {1} : {2})".format, lambda f: {"Abs": "fabs"}.get(f, f), " && ", " || "
)


class CodePrinter(Printer):
    """Prints one expression in a dialect, as SymPy orders it, which is not always the order in which it was written."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__()
        self.dialect = dialect

    def emptyPrinter(self, expr: object) -> str:
        what = expr.func.__name__ if isinstance(expr, sympy.Basic) else type(expr).__name__
        known = ", ".join(FUNCTIONS)
        raise ValueError(f"{self.dialect.name} kernels cannot compute {what} in {expr}; they know + - * / and {known}.")

    def _print(self, expr: object, **kwargs: object) -> str:
        if isinstance(expr, Expr) and expr.is_number:  # folded here: a float64 product of constants would round twice
            return self._print_Number(expr) if expr.evalf().is_finite and expr.is_real else self.emptyPrinter(expr)
        return str(super()._print(expr, **kwargs))

    def _call(self, name: str, *arguments: Expr) -> str:
        return f"{self.dialect.function(name)}({', '.join(map(self._print, arguments))})"

    def _number(self, value: float) -> str:
        return self.dialect.number(repr(float(value)))

    def _print_Symbol(self, expr: Symbol) -> str:
        return str(expr.name)

    def _print_Number(self, expr: Expr) -> str:
        return self._number(expr) if expr >= 0 else f"(-{self._number(-expr)})"

    def _print_Add(self, expr: Expr) -> str:
        text = ""
        # positive terms first: "v - v/tau" reads better than "-v/tau + v"
        for term in sorted(expr.as_ordered_terms(), key=lambda t: t.could_extract_minus_sign()):
            negative = term.could_extract_minus_sign()
            part = self._factor(-term) if negative and not (-term).is_Mul else self._print(-term if negative else term)
            text += (" - " if negative else " + ") + part if text else ("-" if negative else "") + part
        return text

    def _factor(self, expr: Expr) -> str:
        text = self._print(expr)
        return f"({text})" if expr.is_Add or (expr.is_Mul and len(expr.args) > 1) else text

    def _print_Mul(self, expr: Expr) -> str:
        if expr.could_extract_minus_sign():
            return f"-{self._factor(-expr) if (-expr).is_Add else self._print(-expr)}"
        constant, rest = expr.as_independent(*expr.free_symbols, as_Add=False)
        number = self._print(constant)
        above: list[str] = [] if constant == 1 else [number]
        below: list[Expr] = []
        for factor in rest.as_ordered_factors():
            base, exponent = factor.as_base_exp()
            if exponent.is_Integer and exponent < 0:
                below += [base] * int(-exponent)
            else:
                above.append(self._factor(factor))
        top = "*".join(above) if above not in ([], [number]) else self.dialect.numerator.format(number)
        return self._quotient(top, below) if below else top

    def _quotient(self, top: str, below: list[Expr]) -> str:
        bottom = "*".join(map(self._factor, below))
        return f"{top}/({bottom})" if len(below) > 1 else f"{top}/{bottom}"

    def _print_Pow(self, expr: Expr) -> str:
        base, exponent = expr.as_base_exp() if not expr.base.is_Number else (expr.base, expr.exp)
        if exponent == sympy.Rational(1, 2):
            return self._call("sqrt", base)
        if exponent.is_Integer and 0 < exponent <= 8:
            return f"({'*'.join([self._factor(base)] * int(exponent))})"
        if exponent.is_Integer and exponent < 0:
            return f"({self._quotient(self._number(1), [base**-exponent])})"
        return self._call("pow", base, exponent)

    def _print_Function(self, expr: Expr) -> str:
        name = expr.func.__name__
        return self._call(name, *expr.args) if name in FUNCTIONS else self.emptyPrinter(expr)

    def _print_first(self, expr: Expr) -> str:
        return f"({self._print(expr.args[0])})"

    def _print_detached(self, expr: Expr) -> str:
        return self.dialect.detached.format(self._print(expr.args[0]))

    def _print_sign(self, expr: Expr) -> str:
        u = self._factor(expr.args[0])
        zero, one = self._number(0), self._number(1)
        inner = self.dialect.choose(f"{u} < {zero}", f"(-{one})", zero)
        return self.dialect.choose(f"{u} > {zero}", one, inner)

    def _print_Heaviside(self, expr: Expr) -> str:
        u, at_0 = expr.args
        compared = f"{self._factor(u)} {'>' if at_0 == 0 else '>='} {self._number(0)}"
        return self.dialect.choose(compared, self._number(1), self._number(0))

    def _print_Max(self, expr: Expr) -> str:
        return self._print(choices(expr))

    _print_Min = _print_Max

    def _print_Piecewise(self, expr: Expr) -> str:
        *cases, (otherwise, last) = expr.args
        if last != True:  # noqa: E712  (SymPy's true is not Python's)
            raise ValueError(f"The last case of {expr} must hold otherwise: end it with (value, True).")
        text = self._print(otherwise)
        for value, condition in reversed(cases):
            text = self.dialect.choose(self._print(condition), self._print(value), text)
        return text

    def _print_Relational(self, expr: Expr) -> str:
        return f"{self._factor(expr.lhs)} {expr.rel_op} {self._factor(expr.rhs)}"

    def _print_And(self, expr: Expr) -> str:
        return self.dialect.both.join(f"({self._print(a)})" for a in sorted(expr.args, key=sympy.default_sort_key))

    def _print_Or(self, expr: Expr) -> str:
        return self.dialect.either.join(f"({self._print(a)})" for a in sorted(expr.args, key=sympy.default_sort_key))

    def _print_ITE(self, expr: Expr) -> str:  # what SymPy makes of a choice within a condition
        return self._print(expr.to_nnf())

    _print_Not = _print_Xor = _print_ITE


def code(expression: Expr, dialect: Dialect) -> str:
    """One expression as source text.

    >>> from sympy.abc import v, tau
    >>> code(v - v / tau, CUDA)
    'v - v/tau'
    """
    return str(CodePrinter(dialect).doprint(expression))
