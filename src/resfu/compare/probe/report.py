"""The table of a probe, for the terminal and as a single HTML file."""

from collections.abc import Mapping
from html import escape
from importlib import resources
from typing import Any

from rich.table import Table

from resfu.compare.summary import Spread
from resfu.recipes import flattened

HEADINGS = (
    "upsampler", "mIoU", "bIoU", "pixels right", "cosine", "R²", "pooled: cosine", "pooled: R²", "down: cosine",
    "constant", "CPU s",
)  # fmt: skip


def cells(row: Mapping[str, Any]) -> list[str]:
    """The cells of a row, under `HEADINGS`."""
    found = [row["name"]]
    for key in ("miou", "biou", "aacc"):
        spread = Spread(tuple(run[key] for run in row["runs"]))
        found.append(f"{spread.mean:.2f}" + (f" ± {spread.deviation:.2f}" if spread.deviation is not None else ""))
    of = row["fidelity"]
    found += [f"{of[key]:.2f}" for key in ("cos", "r2", "pooled_cos", "pooled_r2", "down_cos")]
    return [*found, f"{of['constant']:.1e}", f"{row['cpu_seconds']:.0f}"]


def lead(results: Mapping[str, Any]) -> str:
    """A short description of the probe."""
    settings = results["settings"]
    part = "" if settings["pixels"] is None else f"{settings['pixels']} pixels each of "
    return (
        f"Features of {settings['encoder']}, frozen, brought to {settings['size']} x {settings['size']} pixels. mIoU, "
        f"boundary IoU and pixels right, in percent: a linear classifier trained {settings['steps']} steps on "
        f"{part}{settings['images']['train']} images of {settings['dataset']}, measured on "
        f"{settings['images']['val']}, mean and deviation over {len(settings['seeds'])} seeds. Cosine and R², in "
        "percent: agreement with the encoder's features of the image from those of half of it, or (pooled) from their "
        "averages over 2 x 2."
    )


def tables(results: Mapping[str, Any]) -> list[Table]:
    """Two tables for `rich.print`: the classifiers, and the fidelity."""
    shown = []
    for part in ((0, 1, 2, 3, 10), (0, 4, 5, 6, 7, 8, 9)):
        made = Table()
        for n in part:
            made.add_column(HEADINGS[n], justify="left" if n == 0 else "right")
        for row in results["rows"]:
            texts = cells(row)
            made.add_row(*(texts[n] for n in part))
        shown.append(made)
    return shown


def render(results: Mapping[str, Any]) -> str:
    """A self-contained HTML page in the style of `resfu compare`'s report."""
    style = resources.files("resfu.compare").joinpath("page", "report.css").read_text("utf-8")
    head = "".join(f'<th scope="col">{escape(word)}</th>' for word in HEADINGS)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(word)}</td>" for word in rest)}</tr>'
        for first, *rest in map(cells, results["rows"])
    )
    settings = "".join(
        f'<tr><th scope="row">{escape(key)}</th><td>{escape(str(value))}</td></tr>'
        for key, value in flattened({key: results[key] for key in ("settings", "machine", "versions")}).items()
    )
    title = f"Pixel features of {escape(results['settings']['encoder'])} on {escape(results['settings']['dataset'])}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
        f"</head><body><main><h1>{title}</h1><p>{escape(lead(results))}</p>"
        f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        f'<h2>Settings</h2><table class="settings"><tbody>{settings}</tbody></table></main></body></html>\n'
    )
