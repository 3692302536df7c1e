"""Finding an image in the report: by class, by where two methods differ most, with the zoom kept."""

from dataclasses import replace

import numpy as np

from resfu.compare.report import render_report
from resfu.tasks.pictures import View
from tests.support.browser import opened

READER = """
window.addEventListener("load", () => {
  const root = document.documentElement, at = (id) => document.getElementById(id);
  const shown = () => [...document.querySelectorAll("#thumbnails img")].map((image) => image.alt).join(",");
  const pick = (id, value) => { at(id).value = value; at(id).dispatchEvent(new Event("change")); };
  root.dataset.hidden = at("which").hidden;
  root.dataset.classes = [...at("class-choice").options].map((option) => option.text).join(",");
  root.dataset.all = shown();
  at("zoom-in").click();
  pick("order", "difference");
  root.dataset.ordered = shown();
  pick("class-choice", "tree");
  root.dataset.trees = shown();
  root.dataset.count = at("how-many").textContent;
  root.dataset.current = document.querySelector("#panels .column").textContent;
  root.dataset.zoom = at("zoom-level").textContent;
  pick("class-choice", "");
  pick("right-choice", "0|bilinear");
  root.dataset.alike = shown();
});
"""


def test_class_filter_order_and_zoom(results, pictures, tmp_path):
    found = {"a": (("sky",), 1.0), "b": (("sky", "tree"), 5.0), "c": (("tree",), 9.0)}
    items = [
        replace(pictures[0], name=name, classes=classes, differences={("bilinear", "resfu"): share})
        for name, (classes, share) in found.items()
    ]
    page = tmp_path / "report.html"
    html = render_report(results, items)
    page.write_text(html.replace("</body>", f"<script>{READER}</script></body>"), "utf-8")
    seen = {key.removeprefix("data-"): value for key, value in opened(page.as_uri(), tmp_path / "user").items()}
    assert "error" not in seen
    assert seen["hidden"] == "false"
    assert seen["classes"] == "any class,sky,tree"
    assert seen["all"] == "a,b,c"
    assert seen["ordered"] == "c,b,a"
    assert seen["trees"] == "c,b"
    assert seen["count"] == "2 of 3"
    assert seen["current"] == "c"  # the image without trees made way for the first with
    assert seen["zoom"] == "140 %"
    assert seen["alike"] == "a,b,c"  # of one method on both sides nothing differs


def test_without_classes_there_is_nothing_to_choose(results, pictures):
    assert 'id="which" hidden' in render_report(results, pictures)


def test_twelve_images_stay_below_five_megabytes(results, pictures):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (23, 30, 3), np.uint8)
    picture = coarse.repeat(16, 0).repeat(16, 1)[:360]  # 360 x 480, as busy as a label map
    item = replace(
        pictures[0],
        references=tuple(replace(view, picture=picture) for view in pictures[0].references),
        results={
            name: tuple(View(v.words, picture, v.caption) for v in views) for name, views in pictures[0].results.items()
        },
    )
    assert len(render_report(results, [item] * 12).encode()) < 5e6
