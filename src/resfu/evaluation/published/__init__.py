"""The published numbers of arXiv 2407.02283 (ReSFU), row by row, with the options that each row was run with."""

import csv
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_DATASETS = ("ade20k", "synapse", "acdc", "coco")  # a file each; ade20k.csv holds the tables 1 to 9
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
        upsampler_options: its constructor arguments where they differ from the class's own, or are what the row is
            about. DySample is S+ (style "pl") as the paper says, but "lp" in Segmenter, as the parameters say.
        metrics: by name, as printed: "miou", "macc", "biou", "params_m" (millions), "flops_g" (1e9 multiply-adds), ...
        misprints: by the name of the metric, why the printed number cannot be right.
        unexplained: by the name of the metric, what is known of a number that is not ours for an unknown cause.
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
    """Rows of the published tables, in their order; those of two networks side by side are rows of their own.

    Args:
        tables: numbers of tables; None takes all.
        host: only this one's.
        upsampler: only this one's.

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
    """A constructor argument from "KEY=VALUE"; a value that is no JSON is text.

    Raises:
        ValueError: for a word without a key or "=".
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
    assert not reasons, f"discrepancies of rows that are not there: {list(reasons)}"
    return tuple(rows)


def _lines(name: str) -> Iterator[dict[str, str]]:
    yield from csv.DictReader((files(__name__) / f"{name}.csv").read_text(encoding="utf-8").splitlines())
