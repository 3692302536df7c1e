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

from resfu.compare.pictures import ImagePictures
from resfu.compare.summary import best, cells, headings, metrics_of, note, summarise
from resfu.compare.volumes import VolumePictures, organ_scores
from resfu.visualize import Picture, overlay

_PHOTO_QUALITY = 92


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
        "title": escape(f"{_listed(names)} on {settings['data']}"),
        "lead": escape(_lead(results)),
        "style": page.joinpath("report.css").read_text("utf-8"),
        "table": _table(results),
        "table_note": escape(note(results)),
        "classes": _class_table(results) if settings.get("convention") is None else _organ_table(results),
        "classes_note": escape(_classes_note(results)),
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
    encoder = ("pretrained" if settings["pretrained"] else "untrained") + (
        ", frozen" if settings["freeze_encoder"] else ", trained along"
    )
    return (
        f"The same network, {settings['host']} (encoder {encoder}), trained {settings['steps']} steps of batch "
        f"{settings['batch_size']} with each upsampler in its place, from the same initial weights and on the same "
        f"batches; evaluated on {results['images']} validation "
        f"{'images' if settings.get('convention') is None else 'volumes'}."
    )


def _table(results: Mapping[str, Any]) -> str:
    rows, metrics = summarise(results), metrics_of(results)
    head = "".join(f'<th scope="col">{escape(word)}</th>' for word in headings(metrics))
    body = []
    for row in rows:
        words = [escape(word).replace(" ± ", ' <span class="spread">± ') for word in cells(row)]
        out = [f'<th scope="row">{words[0]}</th>']
        for column, word in enumerate(words[1:], 1):
            key = list(metrics)[column - 1] if column <= len(metrics) else None
            gain = ""
            if key and row is not rows[0]:
                gain = f' <span class="gain">({row.metrics[key].mean - rows[0].metrics[key].mean:+.2f})</span>'
            mark = ' class="best"' if key and row.upsampler in best(rows, key) else ""
            out.append(f"<td{mark}>{word}{'</span>' if '<span' in word else ''}{gain}</td>")
        body.append(f"<tr>{''.join(out)}</tr>")
    return f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def _class_table(results: Mapping[str, Any]) -> str:
    names = results["settings"]["upsamplers"]
    head = '<th scope="col">class</th>' + "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = []
    for index, label in enumerate(results["classes"]):
        colour = _hex(results["palette"][index])
        out = [f'<th scope="row"><span class="swatch" style="background:{colour}"></span>{escape(label)}</th>']
        for name in names:
            values = [run["iou"][index] for run in results["runs"] if run["upsampler"] == name]
            known = [value for value in values if value is not None]
            if known:
                mean = math.fsum(known) / len(known)
                bar = f'<span class="bar" aria-hidden="true"><i style="width:{mean:.0f}%"></i></span>'
                out.append(f"<td>{mean:.1f}{bar}</td>")
            else:
                out.append("<td>none</td>")
        body.append(f"<tr>{''.join(out)}</tr>")
    return f'<table class="classes"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def _organ_table(results: Mapping[str, Any]) -> str:
    names = results["settings"]["upsamplers"]
    titles = ["organ", *(f"{name}: {metric}" for name in names for metric in metrics_of(results).values())]
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = []
    for index, (organ, scores) in enumerate(organ_scores(results).items(), 1):
        swatch = f'<span class="swatch" style="background:{_hex(results["palette"][index])}"></span>'
        words = "".join(f"<td>{escape(score)}</td>" for name in names for score in scores[name])
        body.append(f'<tr><th scope="row">{swatch}{escape(organ)}</th>{words}</tr>')
    return f'<table class="classes"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def _classes_note(results: Mapping[str, Any]) -> str:
    if results["settings"].get("convention") is None:
        return (
            "Intersection over union of each class in percent, mean over the seeds. A class that is neither labelled "
            "nor predicted has none."
        )
    return "Dice in percent (the higher the better) and HD95 in voxels (the lower), means over the volumes and seeds."


def _settings(results: Mapping[str, Any]) -> str:
    tables = []
    for title in ("settings", "versions", "machine"):
        lines = []
        for key, value in results[title].items():
            words = ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)
            lines.append(f'<tr><th scope="row">{escape(key)}</th><td>{escape(words)}</td></tr>')
        tables.append(f'<table class="settings"><caption>{title}</caption><tbody>{"".join(lines)}</tbody></table>')
    return "\n".join(tables)


def _data(results: Mapping[str, Any], pictures: Sequence[ImagePictures]) -> dict[str, Any]:
    charts = []
    quality, words = next(iter(metrics_of(results).items()))
    for key, title in (("loss", "Training loss"), (quality, f"Validation {words} (%)")):
        series = [
            {"upsampler": run["upsampler"], "seed": run["seed"], "points": run["curves"][key]}
            for run in results["runs"]
        ]
        charts.append({"title": title, "series": series})
    return {
        "upsamplers": results["settings"]["upsamplers"],
        "classes": [[_hex(colour), name] for colour, name in zip(results["palette"], results["classes"], strict=True)],
        "curves": charts,
        "images": [_image(item) for item in pictures],
    }


def _image(item: ImagePictures) -> dict[str, Any]:
    height, width = item.image.shape[:2]
    return {
        "name": item.name,
        "width": width,
        "height": height,
        "image": _data_uri(item.image, photo=True),
        "label": _data_uri(item.label),
        "overlay": _data_uri(overlay(item.image, item.label), photo=True),
        "results": {
            name: {
                "before": _data_uri(made.before),
                "after": _data_uri(made.after),
                "mask": _data_uri(made.mask),
                "error": _data_uri(made.error),
                "correct": made.correct,
            }
            for name, made in item.results.items()
        },
    }


def _volume(item: VolumePictures) -> dict[str, Any]:
    height, width = item.layers["image"][0].shape[:2]
    layers = {name: [_data_uri(picture, photo=True) for picture in shown] for name, shown in item.layers.items()}
    return {"name": item.name, "width": width, "height": height, "slices": item.slices, "layers": layers}


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
