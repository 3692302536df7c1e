"""The cost of a network or an upsampler: parameters, multiply-accumulates, latency, peak memory. Needs torch alone."""

from resfu.evaluation.cost.counting import count_parameters, multiply_accumulates, multiply_accumulates_by_operation
from resfu.evaluation.cost.memory import peak_memory
from resfu.evaluation.cost.timing import Latency, latency, rounds

__all__ = [
    "Latency",
    "count_parameters",
    "latency",
    "multiply_accumulates",
    "multiply_accumulates_by_operation",
    "peak_memory",
    "rounds",
]
