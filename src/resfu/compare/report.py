"""The HTML report of a comparison: one self-contained file."""

import base64
import io
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from resfu.compare.classes import class_scores, scores_by_class
from resfu.compare.summary import best, cells, headings, note, summarise, task_in
from resfu.recipes import flattened
from resfu.tasks.pictures import ImagePictures, View, VolumePictures
from resfu.visualize import Picture

_PHOTO_QUALITY = 92
# Colours of the picture of errors, by the style sheet's names for them.
_ERRORS = [["var(--good)", "correct"], ["var(--wrong)", "wrong"], ["var(--ignored)", "not counted"]]


def render_report(
    results: Mapping[str, Any], pictures: Sequence[ImagePictures], volumes: Sequence[VolumePictures] = ()
) -> str:
    """Render the page.

    Args:
        results: the content of `results.json`.
        pictures: the images to show; each embeds about 0.1 MB per upsampler, so choose a few.
        volumes: the volumes to browse, for volume data.

    Returns:
        Self-contained HTML.
    """
    settings, task = results["settings"], task_in(results)
    # StrictUndefined: a value that the page misses is an error.
    pages = Environment(loader=PackageLoader("resfu.compare", "page"), autoescape=True, undefined=StrictUndefined)
    pages.policies["json.dumps_kwargs"] = {"allow_nan": False}  # and not sorted: pictures have an order
    return pages.get_template("report.html").render(
        title=f"{_listed(settings['upsamplers'])} on {settings['data']['dataset']}",
        lead=_lead(results),
        titles=headings(task),
        rows=_rows(results),
        table_note=note(results),
        class_titles=[task.row, *_class_titles(results)],
        class_rows=_class_rows(results),
        classes_note=task.class_note,
        settings={title: _settings(results[title]) for title in ("settings", "versions", "machine")},
        data=_data(results, pictures) | {"volumes": [_volume(item) for item in volumes]},
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _lead(results: Mapping[str, Any]) -> str:
    settings = results["settings"]
    model, trainer = settings["model"], settings["trainer"]
    encoder = ("pretrained" if model["pretrained"] else "untrained") + (
        ", frozen" if model["freeze_encoder"] else ", trained along"
    )
    length = f"{trainer['max_steps']} steps" if trainer["max_steps"] > 0 else f"{trainer['max_epochs']} epochs"
    return (
        f"The same network, {model['host']} (encoder {encoder}), trained {length} of batch "
        f"{settings['data']['batch_size']} with each upsampler in its place, from the same initial weights and on the "
        f"same batches; evaluated on {results['count']} validation {task_in(results).counted}."
    )


def _rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the table: the upsampler, and its cells with their gain over the first row."""
    rows, scores = summarise(results), task_in(results).scores
    shown = []
    for row in rows:
        name, *texts = cells(row)
        entries = []
        for score, text in itertools.zip_longest(scores, texts):
            value, _, spread = text.partition(" ± ")
            gain = math.nan
            if score and row is not rows[0]:
                gain = row.metrics[score.key].mean - rows[0].metrics[score.key].mean
            entries.append(
                {
                    "value": value,
                    "spread": spread,
                    "gain": None if score is None or math.isnan(gain) else f"{gain:+.{score.decimals}f}",
                    "best": bool(score) and row.upsampler in best(rows, score),
                }
            )
        shown.append({"name": name, "cells": entries})
    return shown


def _class_titles(results: Mapping[str, Any]) -> list[str]:
    names, scores = results["settings"]["upsamplers"], scores_by_class(results)
    if len(scores) == 1:
        return list(names)
    return [f"{name}: {score.class_title or score.title}" for name in names for score in scores]


def _class_rows(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the table of classes; with one score in percent per class, the cells have bars."""
    bars = [score.unit for score in scores_by_class(results)] == ["%"]
    shown = []
    for colour, (label, by_name) in zip(results["palette"], class_scores(results).items(), strict=True):
        spreads = [spread for name in results["settings"]["upsamplers"] for spread in by_name[name]]
        entries = [(str(s), f"{s.mean:.0f}" if bars and not math.isnan(s.mean) else None) for s in spreads]
        shown.append({"name": label, "colour": colour and _hex(colour), "cells": entries})
    return shown


def _settings(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, value in flattened(values).items()
    }


def _data(results: Mapping[str, Any], pictures: Sequence[ImagePictures]) -> dict[str, Any]:
    charts = []
    first = task_in(results).scores[0]
    unit = f" ({first.unit})" if first.unit else ""
    for key, title in (("loss", "Training loss"), (first.key, f"Validation {first.title}{unit}")):
        series = [
            {"upsampler": run["upsampler"], "seed": run["seed"], "points": run["curves"][key]}
            for run in results["runs"]
        ]
        charts.append({"title": title, "series": series})
    named = zip(results["palette"], results["classes"], strict=True)
    colours = [[_hex(colour), name] for colour, name in named if colour is not None]
    return {
        "upsamplers": results["settings"]["upsamplers"],
        "key": _ERRORS + colours if task_in(results).shows_errors else colours,
        "curves": charts,
        "images": [_image(item) for item in pictures],
    }


def _image(item: ImagePictures) -> dict[str, Any]:
    height, width = item.references[0].picture.shape[:2]
    return {
        "name": item.name,
        "width": width,
        "height": height,
        "references": [_view(view) for view in item.references],
        "results": {name: [_view(view) for view in views] for name, views in item.results.items()},
        "classes": list(item.classes),
        "differences": {"|".join(sorted(pair)): round(share, 2) for pair, share in item.differences.items()},
    }


def _view(view: View) -> dict[str, str]:
    source = _data_uri(view.picture, view.photo)
    return {"words": view.words, "caption": view.caption or view.words, "source": source}


def _volume(item: VolumePictures) -> dict[str, Any]:
    height, width = item.views["image"][0].shape[:2]
    views = {name: [_data_uri(picture, photo=True) for picture in shown] for name, shown in item.views.items()}
    return {"name": item.name, "width": width, "height": height, "slices": item.slices, "layers": views}


def _data_uri(picture: Picture, photo: bool = False) -> str:
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(picture))
    if photo:
        image.save(buffer, "JPEG", quality=_PHOTO_QUALITY, subsampling=0)
    else:
        image.save(buffer, "PNG", optimize=True)
    kind = "jpeg" if photo else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _hex(colour: Sequence[int]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in colour)
