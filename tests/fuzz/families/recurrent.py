"""LSTM, GRU and RNN."""

from __future__ import annotations

from typing import Any

from tests.fuzz import draw as d
from tests.fuzz.case import Case, fuzz
from tests.fuzz.draw import Array, Draw

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@fuzz(*GATES)
def recurrent(draw: Draw, operator: str) -> Case:
    steps, batch, size, hidden = (d.integer(draw, 1, most) for most in (5, 3, 4, 5))
    direction = d.one_of(draw, ["forward", "reverse", "bidirectional"])
    ways, rows = 2 if direction == "bidirectional" else 1, GATES[operator] * hidden

    def numbers(*shape: int) -> Array:
        return d.values(draw, shape, "float32", low=-1, high=1, special=False, ties=False)

    inputs: list[Array | None] = [numbers(steps, batch, size), numbers(ways, rows, size), numbers(ways, rows, hidden)]
    inputs.append(numbers(ways, 2 * rows) if d.flag(draw) else None)
    lengths = d.values(draw, (batch,), "int32", low=1, high=steps, special=False)
    inputs.append(lengths if d.flag(draw) else None)
    inputs.append(numbers(ways, batch, hidden) if d.flag(draw) else None)
    if operator == "LSTM":
        inputs.append(numbers(ways, batch, hidden) if d.flag(draw) else None)
        inputs.append(numbers(ways, 3 * hidden) if d.flag(draw) else None)
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if operator == "GRU":
        attributes["linear_before_reset"] = int(d.flag(draw))
    return Case(operator, inputs, attributes, d.one_of(draw, [[], [1, 2]]), outputs=3 if operator == "LSTM" else 2)
