"""The HTML report of a comparison: one file, without anything from outside."""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

import numpy as np
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
    """Write the page.

    Args:
        results: the content of `results.json`.
        pictures: the images to show; a handful (each embeds about 0.1 MB an upsampler).
        volumes: the volumes to leaf through, where the data are some.

    Returns:
        HTML that refers to nothing outside itself.
    """
    settings = results["settings"]
    page = resources.files("resfu.compare").joinpath("page")
    names = settings["upsamplers"]
    fields = {
        "title": escape(f"{_listed(names)} on {settings['data']['dataset']}"),
        "lead": escape(_lead(results)),
        "style": page.joinpath("report.css").read_text("utf-8"),
        "table": _table(results),
        "table_note": escape(note(results)),
        "classes": _class_table(results),
        "classes_note": escape(task_in(results).class_note),
        "settings": _settings(results),
        "data": _embedded(_data(results, pictures) | {"volumes": [_volume(item) for item in volumes]}),
        "script": "\n".join(
            page.joinpath(f"{part}.js").read_text("utf-8") for part in ("viewer", "curves", "volumes", "page")
        ),
    }
    html = page.joinpath("report.html").read_text("utf-8")
    # One pass over the template's own marks, so that a mark inside a value stays what it is.
    parts = html.split("{{")
    return parts[0] + "".join(fields[name] + rest for name, rest in (part.split("}}", 1) for part in parts[1:]))


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


def _table(results: Mapping[str, Any]) -> str:
    rows, scores, titles = summarise(results), task_in(results).scores, headings(task_in(results))
    head = "".join(f'<th scope="col">{escape(word)}</th>' for word in titles)
    body = []
    for row in rows:
        words = [escape(word).replace(" ± ", ' <span class="spread">± ') for word in cells(row)]
        out = [f'<th scope="row">{words[0]}</th>']
        for column, word in enumerate(words[1:], 1):
            score = scores[column - 1] if column <= len(scores) else None
            gain = ""
            if score and row is not rows[0]:
                more = row.metrics[score.key].mean - rows[0].metrics[score.key].mean
                gain = "" if math.isnan(more) else f' <span class="gain">({more:+.2f})</span>'
            mark = ' class="best"' if score and row.upsampler in best(rows, score) else ""
            label = f'<span class="label" aria-hidden="true">{escape(titles[column])}</span>'  # for narrow screens
            out.append(f"<td{mark}>{word}{'</span>' if '<span' in word else ''}{gain}{label}</td>")
        body.append(f"<tr>{''.join(out)}</tr>")
    return f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def _class_table(results: Mapping[str, Any]) -> str:
    names, scores, row = results["settings"]["upsamplers"], scores_by_class(results), task_in(results).row
    several = len(scores) > 1
    titles = [f"{name}: {score.class_title or score.title}" if several else name for name in names for score in scores]
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in [row, *titles])
    body = []
    for index, (label, by_name) in enumerate(class_scores(results).items()):
        out = [f'<th scope="row">{_swatch(results["palette"][index])}{escape(label)}</th>']
        for name in names:
            out += [f"<td>{escape(str(word))}{'' if several else _bar(word.mean)}</td>" for word in by_name[name]]
        body.append(f"<tr>{''.join(out)}</tr>")
    return f'<table class="classes"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def _bar(percent: float) -> str:
    if math.isnan(percent):
        return ""
    return f'<span class="bar" aria-hidden="true"><i style="width:{percent:.0f}%"></i></span>'


def _swatch(colour: Sequence[int] | None) -> str:
    """The colour of a class beside its name; nothing for things, which have none."""
    return "" if colour is None else f'<span class="swatch" style="background:{_hex(colour)}"></span>'


def _settings(results: Mapping[str, Any]) -> str:
    tables = []
    for title in ("settings", "versions", "machine"):
        lines = []
        for key, value in flattened(results[title]).items():
            words = ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)
            lines.append(f'<tr><th scope="row">{escape(key)}</th><td>{escape(words)}</td></tr>')
        tables.append(f'<table class="settings"><caption>{title}</caption><tbody>{"".join(lines)}</tbody></table>')
    return "\n".join(tables)


def _data(results: Mapping[str, Any], pictures: Sequence[ImagePictures]) -> dict[str, Any]:
    charts = []
    first = task_in(results).scores[0]
    for key, title in (("loss", "Training loss"), (first.key, f"Validation {first.title} ({first.unit})")):
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


def _embedded(data: Any) -> str:
    """JSON that cannot end the script element which holds it."""
    text = json.dumps(data, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _hex(colour: Sequence[int]) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in colour)
