"""The published tables' parameters and FLOPs beside ours."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache

from resfu.evaluation.cost.host import Work, build_on_meta, host_work, inference_parameters
from resfu.evaluation.published import PublishedRow, published_rows

COST_TABLES = (1, 2, 3, 4, 5, 6, 8, 9)  # the tables with parameters or FLOPs
SIZE = (512, 512)  # of the image for FLOPs
_PARAMETERS, _FLOPS = "params_m", "flops_g"


@dataclass(frozen=True)
class Cell:
    """One published number beside ours.

    Args:
        metric: "params_m" (millions) or "flops_g" (1e9 multiply-accumulates, the paper's convention).
        published: as printed.
        computed: ours, not rounded.
        verdict: "equal" to two decimals; "misprint" if it is known why the published number is wrong; "unexplained" if
            the difference is known but not its cause; else "different".
        reason: for a misprint or an unexplained difference; otherwise "".
    """

    metric: str
    published: float
    computed: float
    verdict: str
    reason: str


@dataclass(frozen=True)
class RecountedRow:
    """One row of a published table, recounted.

    Args:
        row: as published.
        parameters: the network's number of parameters, as counted.
        work: multiply-accumulates, for tables with FLOPs.
    """

    row: PublishedRow
    parameters: int
    work: Work | None

    @property
    def cells(self) -> list[Cell]:
        """The row's published parameters and FLOPs."""
        computed = {_PARAMETERS: self.parameters / 1e6}
        if self.work is not None:
            computed[_FLOPS] = self.work.paper / 1e9
        return [self._cell(metric, value) for metric, value in computed.items() if metric in self.row.metrics]

    def _cell(self, metric: str, computed: float) -> Cell:
        published = self.row.metrics[metric]
        if f"{computed:.2f}" == f"{published:.2f}":
            return Cell(metric, published, computed, "equal", "")
        for verdict, reasons in (("misprint", self.row.misprints), ("unexplained", self.row.unexplained)):
            if metric in reasons:
                return Cell(metric, published, computed, verdict, reasons[metric])
        return Cell(metric, published, computed, "different", "")


def compare_tables(tables: Collection[int] | None = None) -> Iterator[RecountedRow]:
    """Build every network of the tables on the meta device, and count it.

    Args:
        tables: numbers of `COST_TABLES`; None for all.

    Yields:
        The rows in the tables' order.

    Raises:
        ValueError: for a table with neither parameters nor FLOPs.
    """
    others = [number for number in tables or () if number not in COST_TABLES]
    if others:
        known = ", ".join(map(str, COST_TABLES))
        raise ValueError(f"table {others[0]} has neither parameters nor FLOPs; choose from {known}.")
    for row in published_rows(COST_TABLES if tables is None else tables):
        network = (row.host, row.upsampler, json.dumps(row.upsampler_options))
        yield RecountedRow(row, _parameters(*network), _work(*network) if _FLOPS in row.metrics else None)


@cache  # the ablations repeat rows of the main tables
def _parameters(host: str, upsampler: str, options: str) -> int:
    return inference_parameters(build_on_meta(host, upsampler, json.loads(options)))


@cache
def _work(host: str, upsampler: str, options: str) -> Work:
    return host_work(build_on_meta(host, upsampler, json.loads(options)), SIZE)
