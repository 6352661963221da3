"""The equations in LaTeX, as a notebook shows them: a neuron's step and its adjoint, with time as an index."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

import sympy
from sympy import Expr, Symbol

from tfexplore.neurons.adjoint import adjoint_of
from tfexplore.neurons.neuron import Neuron
from tfexplore.neurons.step import Step, real, step_of
from tfexplore.neurons.surrogates import Surrogate

GREEK = {"alpha", "beta", "gamma", "delta", "sigma", "tau", "rho", "theta", "eta", "kappa", "mu", "omega"}


def latex_name(name: str) -> str:
    """`v_threshold` -> v_{\\mathrm{threshold}}, `tau_syn` -> \\tau_{\\mathrm{syn}}, `surrogate_alpha` -> \\alpha."""
    head, _, tail = name.removeprefix("surrogate_").partition("_")
    head = f"\\{head}" if head in GREEK else head if len(head) == 1 else rf"\mathrm{{{head}}}"
    return head + (rf"_{{\mathrm{{{tail.replace('_', ' ')}}}}}" if tail else "")


def latex(expression: Expr, names: dict[Symbol, str]) -> str:
    """LaTeX of an expression; symbols not in `names` get their usual spelling."""
    spelled = {symbol: latex_name(symbol.name) for symbol in expression.free_symbols} | names
    return str(sympy.latex(expression, symbol_names=spelled))


def aligned(lines: Iterable[tuple[str, str, str]]) -> str:
    body = r" \\ ".join(rf"\text{{{what}}} && {left} &= {right}" for what, left, right in lines)
    return rf"$\displaystyle \begin{{aligned}} {body} \end{{aligned}}$"


def latex_of(neuron: Neuron) -> str:
    r"""The equations of one time step, as a notebook shows them: time as an index, h for a charged state.

    Args:
        neuron: a value such as `neurons.LIF(tau=2.0)`.

    Returns:
        LaTeX within dollar signs: `IPython.display.Latex` shows it, and a neuron in the last line of a cell shows itself so.

    Example:
        >>> from tfexplore import codegen, neurons
        >>> r"h[t] &= v[t-1] + x[t]" in codegen.latex_of(neurons.IF())
        True
    """
    step = step_of(neuron)
    names = names_in_time(step)
    lines = [("charge", names[h], latex(e, names)) for h, e in zip(step.charged, step.charge, strict=True)]
    if step.fire is not None:
        lines.append(("fire", "s[t]", rf"\Theta({latex(step.fire, names)})"))
    lines += [("reset", names[n], latex(e, names)) for n, e in zip(step.after, step.reset, strict=True)]
    return aligned(lines)


def latex_of_adjoint(neuron: Neuron) -> str:
    r"""The backward pass of one time step; g_y stands for the derivative of the loss with respect to y.

    It is derived from the equations (`neurons.adjoint_of`): the chain rule through reset, fire and charge, top to bottom.

    Args:
        neuron: a value such as `neurons.LIF(tau=2.0)`.

    Returns:
        LaTeX within dollar signs, one line for each assignment.

    Example:
        >>> from tfexplore import codegen, neurons
        >>> r"g_{v}[t-1] &= g_{h}[t]" in codegen.latex_of_adjoint(neurons.IF())
        True
    """
    step = step_of(neuron)
    adjoint, names = adjoint_of(step), names_in_time(step)
    arrived = zip((*adjoint.g_after, *adjoint.g_before), (*step.after, *step.before), strict=True)
    g_charged = {real(f"g_{h.name}"): h for h in step.charged}
    names |= {g: gradient_of(names[z]) for g, z in (*arrived, *g_charged.items())}
    names |= {real(f"g_{y}"): gradient_of(f"{y}[t]") for y in ("s", "u", "x")}
    names |= {adjoint.g_out: r"g_{\mathrm{out}}[t]", real("slope"): r"\Theta'(u[t])"}
    names |= {g: gradient_of(latex_name(p.name)) for g, p in zip(adjoint.g_learned, step.learned, strict=True)}
    what = {"g_s": "spike", "slope": "surrogate", "g_u": "fire", **{g.name: "reset" for g in g_charged}}
    again = [] if step.fire is None else [(step.u, "u[t]", latex(step.fire, names)), (step.s, "s[t]", r"\Theta(u[t])")]
    lines = [("recompute", left, right) for symbol, left, right in again if symbol in adjoint.recomputed]
    lines += [(what.get(symbol.name, "charge"), names[symbol], latex(value, names)) for symbol, value in adjoint.body]
    return aligned(lines)


def names_in_time(step: Step) -> dict[Symbol, str]:
    """Spellings with a time index: v[t-1] before the step, h[t] charged, v[t] after it."""
    names: dict[Symbol, str] = {step.x: "x[t]", step.s: "s[t]", step.u: "u[t]"}
    for z, h, n in zip(step.before, step.charged, step.after, strict=True):
        own = latex_name(z.name)
        names |= {z: f"{own}[t-1]", h: f"h_{{{own}}}[t]" if len(step.before) > 1 else "h[t]", n: f"{own}[t]"}
    return names


def gradient_of(name: str) -> str:
    """v[t-1] -> g_{v}[t-1]."""
    own, index, time = name.partition("[")
    return f"g_{{{own}}}{index}{time}"


def latex_of_surrogate(surrogate: Surrogate) -> str:
    r"""The derivative that stands in for that of the spike, with its scales as symbols.

    Args:
        surrogate: a value such as `surrogates.ATan(alpha=2.0)`.

    Returns:
        LaTeX within dollar signs.

    Example:
        >>> from tfexplore import codegen, surrogates
        >>> print(codegen.latex_of_surrogate(surrogates.SuperSpike()))
        $\displaystyle \Theta'(u) \approx \frac{1}{\left(\alpha \left|{u}\right| + 1\right)^{2}}$
    """
    u = real("u")
    symbolic = type(surrogate)(**{field.name: sympy.Symbol(field.name, positive=True) for field in fields(surrogate)})
    return rf"$\displaystyle \Theta'(u) \approx {sympy.latex(symbolic.derivative(u))}$"


# How a notebook shows them. They do not import this file: neurons know nothing of text.
Neuron._repr_latex_ = latex_of  # type: ignore[attr-defined]
Surrogate._repr_latex_ = latex_of_surrogate  # type: ignore[attr-defined]
