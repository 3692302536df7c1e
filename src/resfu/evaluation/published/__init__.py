"""The published numbers of arXiv 2407.02283 (ReSFU), row by row, with the options of each row."""

import csv
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_DATASETS = ("ade20k", "synapse", "acdc", "coco")  # one file each; ade20k.csv holds tables 1 to 9
_KEYS = ("table", "label", "host", "upsampler", "options")


@dataclass(frozen=True)
class PublishedRow:
    """One network in one table.

    Args:
        table: its number, 1 to 12.
        label: of the row: the upsampler, or in the ablations 5 to 8 the variant ("c", "coarse", "K=5").
        host: a key of `resfu.HOSTS`.
        dataset: "ade20k", "synapse", "acdc" or "coco".
        upsampler: a key of `resfu.UPSAMPLERS`.
        upsampler_options: its constructor arguments that differ from the defaults, or that the row varies. DySample is
            S+ (style "pl") according to the paper, but "lp" in Segmenter according to its parameters.
        metrics: by name, as printed: "miou", "macc", "biou", "params_m" (millions), "flops_g" (1e9 multiply-adds), ...
        misprints: by metric, why the printed number cannot be right.
        unexplained: by metric, what is known about a number that differs from ours for an unknown reason.
    """

    table: int
    label: str
    host: str
    dataset: str
    upsampler: str
    upsampler_options: Mapping[str, object]
    metrics: Mapping[str, float]
    misprints: Mapping[str, str]
    unexplained: Mapping[str, str]


def published_rows(
    tables: Collection[int] | None = None, host: str | None = None, upsampler: str | None = None
) -> list[PublishedRow]:
    """Rows of the published tables, in their order; two networks side by side in a table are two rows.

    Args:
        tables: numbers of tables; None for all.
        host: only rows of this host.
        upsampler: only rows of this upsampler.

    Raises:
        ValueError: for a table that does not exist.
    """
    rows = _rows()
    known = sorted({row.table for row in rows})
    unknown = [number for number in tables or () if number not in known]
    if unknown:
        raise ValueError(f"there is no published table {unknown[0]}; choose from {', '.join(map(str, known))}.")
    return [
        row
        for row in rows
        if (tables is None or row.table in tables) and host in (None, row.host) and upsampler in (None, row.upsampler)
    ]


def option_from(word: str) -> tuple[str, object]:
    """Read a constructor argument from "KEY=VALUE"; a value that is not JSON is text.

    Raises:
        ValueError: without a key or "=".
    """
    key, equals, value = word.partition("=")
    if not (key and equals):
        raise ValueError(f"an option must be KEY=VALUE, got {word!r}.")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


@cache
def _rows() -> tuple[PublishedRow, ...]:
    reasons: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for line in _lines("discrepancies"):
        row = (line["table"], line["label"], line["host"], line["cause"])
        reasons.setdefault(row, {})[line["metric"]] = line["reason"]
    rows = [
        PublishedRow(
            table=int(line["table"]),
            label=line["label"],
            host=line["host"],
            dataset=dataset,
            upsampler=line["upsampler"],
            upsampler_options=dict(option_from(word) for word in line["options"].split()),
            metrics={name: float(text) for name, text in line.items() if text and name not in _KEYS},
            misprints=reasons.pop((line["table"], line["label"], line["host"], "known"), {}),
            unexplained=reasons.pop((line["table"], line["label"], line["host"], "unknown"), {}),
        )
        for dataset in _DATASETS
        for line in _lines(dataset)
    ]
    assert not reasons, f"discrepancies of missing rows: {list(reasons)}"
    return tuple(rows)


def _lines(name: str) -> Iterator[dict[str, str]]:
    yield from csv.DictReader((files(__name__) / f"{name}.csv").read_text(encoding="utf-8").splitlines())
