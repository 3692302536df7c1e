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

from resfu.compare.kinds import VOLUMES
from resfu.compare.pictures import ImagePictures, Layer
from resfu.compare.summary import best, cells, headings, kind_in, note, summarise
from resfu.compare.volumes import VolumePictures, organ_scores
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
        "title": escape(f"{_listed(names)} on {settings['data']}"),
        "lead": escape(_lead(results)),
        "style": page.joinpath("report.css").read_text("utf-8"),
        "table": _table(results),
        "table_note": escape(note(results)),
        "classes": _organ_table(results) if kind_in(results) is VOLUMES else _class_table(results),
        "classes_note": escape(kind_in(results).class_values),
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
        f"batches; evaluated on {results['images']} validation {kind_in(results).counted}."
    )


def _table(results: Mapping[str, Any]) -> str:
    rows, metrics, titles = summarise(results), kind_in(results).metrics, headings(kind_in(results))
    head = "".join(f'<th scope="col">{escape(word)}</th>' for word in titles)
    body = []
    for row in rows:
        words = [escape(word).replace(" ± ", ' <span class="spread">± ') for word in cells(row)]
        out = [f'<th scope="row">{words[0]}</th>']
        for column, word in enumerate(words[1:], 1):
            key = list(metrics)[column - 1] if column <= len(metrics) else None
            gain = ""
            if key and row is not rows[0]:
                more = row.metrics[key].mean - rows[0].metrics[key].mean
                gain = "" if math.isnan(more) else f' <span class="gain">({more:+.2f})</span>'
            mark = ' class="best"' if key and row.upsampler in best(rows, key) else ""
            label = f'<span class="label" aria-hidden="true">{escape(titles[column])}</span>'  # for narrow screens
            out.append(f"<td{mark}>{word}{'</span>' if '<span' in word else ''}{gain}{label}</td>")
        body.append(f"<tr>{''.join(out)}</tr>")
    return f'<table class="results"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def _class_table(results: Mapping[str, Any]) -> str:
    names, (key, *_) = results["settings"]["upsamplers"], kind_in(results).by_class
    head = '<th scope="col">class</th>' + "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = []
    for index, label in enumerate(results["classes"]):
        out = [f'<th scope="row">{_swatch(results["palette"][index])}{escape(label)}</th>']
        for name in names:
            values = [run[key][index] for run in results["runs"] if run["upsampler"] == name]
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
    titles = ["organ", *(f"{name}: {metric}" for name in names for metric in VOLUMES.by_class.values())]
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = []
    for index, (organ, scores) in enumerate(organ_scores(results).items(), 1):
        swatch = _swatch(results["palette"][index])
        words = "".join(f"<td>{escape(score)}</td>" for name in names for score in scores[name])
        body.append(f'<tr><th scope="row">{swatch}{escape(organ)}</th>{words}</tr>')
    return f'<table class="classes"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'


def _swatch(colour: Sequence[int] | None) -> str:
    """The colour of a class beside its name; nothing for things, which have none."""
    return "" if colour is None else f'<span class="swatch" style="background:{_hex(colour)}"></span>'


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
    kind = kind_in(results)
    quality, words = next(iter(kind.metrics.items()))
    for key, title in (("loss", "Training loss"), (quality, f"Validation {words} (%)")):
        series = [
            {"upsampler": run["upsampler"], "seed": run["seed"], "points": run["curves"][key]}
            for run in results["runs"]
        ]
        charts.append({"title": title, "series": series})
    named = zip(results["palette"], results["classes"], strict=True)
    colours = [[_hex(colour), name] for colour, name in named if colour is not None]
    return {
        "upsamplers": results["settings"]["upsamplers"],
        "key": colours if kind.objects else _ERRORS + colours,
        "curves": charts,
        "images": [_image(item) for item in pictures],
    }


def _image(item: ImagePictures) -> dict[str, Any]:
    height, width = item.references[0].picture.shape[:2]
    return {
        "name": item.name,
        "width": width,
        "height": height,
        "references": [_layer(layer) for layer in item.references],
        "results": {name: [_layer(layer) for layer in layers] for name, layers in item.results.items()},
    }


def _layer(layer: Layer) -> dict[str, str]:
    source = _data_uri(layer.picture, layer.photo)
    return {"words": layer.words, "caption": layer.caption or layer.words, "source": source}


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
