import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from resfu.compare.report import render_report
from resfu.compare.summary import markdown
from resfu.tasks.pictures import VolumePictures

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Elements(HTMLParser):
    """Every start tag with its attributes, and the text of the data element."""

    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.data = ""
        self._in_data = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in_data = ("id", "data") in attrs

    def handle_endtag(self, tag):
        self._in_data = False

    def handle_data(self, data):
        if self._in_data:
            self.data += data

    def first(self, tag):
        return next(attributes for name, attributes in self.tags if name == tag)


@pytest.fixture
def html(results, pictures):
    return render_report(results, pictures)


def decode(uri):
    head, _, body = uri.partition(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB"))


def test_nothing_comes_from_outside(html):
    page = Elements(html)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "base")
        assert not {"src", "href", "action", "data"} & attributes.keys(), (tag, attributes)
    assert "url(" not in html
    assert "@import" not in html
    addresses = set(re.findall(r"https?://[^\s\"'<]+", html))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name space, never fetched
    policy = next(
        a["content"] for t, a in page.tags if t == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy


def test_user_text_stays_text(html):
    page = Elements(html)
    assert "<b>not bold" not in html
    assert "<i>class" not in html
    assert "a &lt;i&gt;class&lt;/i&gt; &amp; more" in html
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert json.loads(page.data)["images"][1]["name"] == 'second "<img src=x onerror=1>"'


def test_the_table_holds_the_numbers(html):
    text = re.sub(r"<[^>]+>", "", html)
    assert "51.00 ± 1.41" in text
    assert "60.50 ± 0.71 (+9.50)" in text
    assert re.search(r'<td class="best">60\.50', html)
    assert "1.235" in text


def test_the_table_of_classes_averages_seeds(html):
    rows = re.findall(r"<tr><th scope=\"row\"><span class=\"swatch\".*?</tr>", html)
    assert len(rows) == 3
    assert re.findall(r"<td>([\d.]+|-)", rows[0]) == ["46.00", "55.50"]  # means of 45, 47 and of 55, 56
    assert re.findall(r"<td>([\d.]+|-)", rows[2]) == ["-", "-"]
    assert "background:#108000" in rows[1]


def test_pictures_are_embedded_as_they_are(html, pictures):
    data = json.loads(Elements(html).data)
    assert data["upsamplers"] == ["bilinear", "resfu"]
    for shown, meant in zip(data["images"], pictures, strict=True):
        assert (shown["height"], shown["width"]) == (8, 12)
        pairs = list(zip(shown["references"], meant.references, strict=True))
        for name, views in meant.results.items():
            pairs += zip(shown["results"][name], views, strict=True)
        assert len(pairs) == 3 + 2 * 4
        for given, view in pairs:
            assert (given["words"], given["caption"]) == (view.words, view.caption or view.words)
            assert given["source"].startswith("data:image/jpeg" if view.photo else "data:image/png")
            picture = decode(given["source"])
            assert picture.shape == view.picture.shape
            assert view.photo or (picture == view.picture).all()
    assert data["key"][:4] == [
        ["var(--good)", "correct"],
        ["var(--wrong)", "wrong"],
        ["var(--ignored)", "not counted"],
        ["#0000ff", "sky"],
    ]


def test_curves_are_embedded(html, results):
    loss, miou = json.loads(Elements(html).data)["curves"]
    assert [(s["upsampler"], s["seed"]) for s in loss["series"]] == [
        ("bilinear", 0),
        ("resfu", 0),
        ("bilinear", 1),
        ("resfu", 1),
    ]
    assert miou["series"][1]["points"] == results["runs"][1]["curves"]["miou"]


# Does what a reader does, once the page has loaded, and notes what came of it.
READER = """
window.addEventListener("load", () => {
  const root = document.documentElement, all = (s) => [...document.querySelectorAll(s)];
  root.dataset.broken = all("img").filter((i) => !i.naturalWidth).length;
  const transforms = () => [...new Set(all("img.zoomed").map((i) => i.style.transform))].join(";");
  document.getElementById("zoom-in").click();
  root.dataset.zoomed = transforms();
  const panel = document.querySelector("#panels .view");
  panel.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowLeft" }));
  root.dataset.moved = transforms();
  panel.dispatchEvent(new KeyboardEvent("keydown", { key: "0" }));
  root.dataset.reset = transforms();
  panel.focus();
  const box = panel.getBoundingClientRect();
  const place = { clientX: box.left, clientY: box.top, cancelable: true };
  panel.dispatchEvent(new WheelEvent("wheel", { deltaY: -1000, ...place }));
  root.dataset.wheeled = transforms();
  const range = document.getElementById("divide");
  range.value = "25";
  range.dispatchEvent(new Event("input"));
  root.dataset.clip = document.querySelector(".slider .half:last-child").style.clipPath;
  const left = document.getElementById("left-choice");
  left.value = "2|bilinear";
  left.dispatchEvent(new Event("change"));
  root.dataset.left = document.querySelector(".slider .name.left").textContent;
  all("#thumbnails button")[1].click();
  root.dataset.chosen = all("#panels .column")[0].textContent;
});
"""


@pytest.fixture
def opened(tmp_path):
    """Opens a page in a headless browser and returns the elements after its script has run."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")

    def open_page(html):
        page = tmp_path / "report.html"
        page.write_text(html, "utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"]
        quiet = [
            "--no-first-run",
            "--disable-sync",
            "--disable-background-networking",
            "--disable-component-update",
            f"--user-data-dir={tmp_path / 'user'}",
        ]
        command = [CHROMIUM, *flags, *quiet, "--virtual-time-budget=5000", "--dump-dom", page.as_uri()]
        return Elements(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)

    return open_page


def test_a_browser_draws_the_page_and_answers_a_reader(html, opened):
    page = opened(html.replace("</body>", f"<script>{READER}</script></body>"))
    root = page.first("html")
    assert "data-error" not in root
    assert root["data-ready"] == "true"
    assert root["data-broken"] == "0"
    tags = [tag for tag, _ in page.tags]
    assert tags.count("svg") == 2
    views = [a for _, a in page.tags if a.get("class") == "view"]
    assert len(views) == 1 + 3 + 2 * 4  # slider, references, four views for each upsampler
    assert all(a.get("tabindex") == "0" for a in views)
    assert all(a.get("role") == "group" and a.get("aria-label") for a in views)
    assert not any("hidden" in a for tag, a in page.tags if tag == "section")
    assert all(a.get("alt") for tag, a in page.tags if tag == "img")
    lines = [a["d"] for tag, a in page.tags if tag == "path" and a["class"] == "line"]
    assert len(lines) == 8
    assert lines[0].count("L") == 79
    # All pictures move as one: about the middle, along, back, and from the corner under the pointer.
    assert root["data-zoomed"] == "translate(-20%, -20%) scale(1.4)"
    assert root["data-moved"] == "translate(-8%, -20%) scale(1.4)"
    assert root["data-reset"] == "translate(0%, 0%) scale(1)"
    assert re.fullmatch(r"translate\(0%, 0%\) scale\(4\.48\d*\)", root["data-wheeled"])
    assert root["data-clip"] == "inset(0px 75% 0px 0px)"
    assert root["data-left"] == "bilinear: prediction"
    assert root["data-chosen"] == 'second "<img src=x onerror=1>"'


# What lies beside the screen, and what the picture panes are called, on a phone.
PHONE = """
window.addEventListener("load", () => {
  const root = document.documentElement, all = (s) => [...document.querySelectorAll(s)];
  root.dataset.width = innerWidth;
  root.dataset.scrolls = root.scrollWidth > innerWidth;
  root.dataset.beside = all(".results td, .results th, .view, #panels figcaption, .classes td")
    .filter((e) => e.getBoundingClientRect().right > innerWidth).length;
  root.dataset.line = all(".results td")[2].innerText.replaceAll("\\n", " ");
  root.dataset.captions = all("#panels figcaption").map((e) => e.innerText).join("; ");
  root.dataset.slices = all("#slices figcaption").map((e) => e.innerText).join("; ");
  parent.postMessage({ ...root.dataset }, "*");
});
"""
# A browser's own window is at least 500 pixels wide.
FRAME = """<!doctype html><html><body><iframe src="phone.html" width="390" height="2000" style="border: 0"></iframe>
<script>addEventListener("message", (event) => Object.assign(document.documentElement.dataset, event.data));</script>
</body></html>"""


def test_a_phone_shows_every_number_and_picture_with_its_name(results, pictures, opened, tmp_path):
    slices = np.zeros((3, 6, 4, 3), np.uint8)
    volume = VolumePictures("case", [2, 7, 12], {name: list(slices) for name in ("image", "bilinear", "resfu")})
    html = render_report(results, pictures, [volume])
    (tmp_path / "phone.html").write_text(html.replace("</body>", f"<script>{PHONE}</script></body>"), "utf-8")
    root = opened(FRAME).first("html")
    assert "data-error" not in root
    assert root["data-width"] == "390"
    assert root["data-scrolls"] == "false"
    assert root["data-beside"] == "0"
    assert "bIoU" in root["data-line"]
    assert "31.00 ± 1.41" in root["data-line"]
    captions = root["data-captions"].split("; ")
    assert {"image", "bilinear: features after", "resfu: features after", "resfu: prediction"} <= set(captions)
    assert root["data-slices"] == "image; bilinear; resfu"


def test_without_scripts_no_heading_stands_over_nothing(html):
    page = Elements(html)
    drawn = {a["id"]: "hidden" in a for tag, a in page.tags if tag == "section" and "id" in a}
    assert drawn == {"pictures": True, "volumes": True, "training": True}
    assert any(tag == "noscript" for tag, _ in page.tags)


def test_every_number_of_the_table_has_its_heading_for_narrow_screens(html):
    row = re.search(r'<tr><th scope="row">resfu</th>(.*?)</tr>', html)
    labels = re.findall(r'<span class="label" aria-hidden="true">([^<]+)</span></td>', row.group(1))
    assert labels == ["mIoU", "mAcc", "bIoU", "parameters (M)", "MACs (G)", "host (ms)", "upsampler (ms)", "peak (MB)"]


def test_a_browser_draws_a_page_of_one_upsampler_without_pictures(results, opened):
    results["settings"]["upsamplers"] = ["resfu"]
    results["runs"] = [run for run in results["runs"] if run["upsampler"] == "resfu"]
    page = opened(render_report(results, []))
    root = page.first("html")
    assert "data-error" not in root
    assert root["data-ready"] == "true"
    assert not any(attributes.get("id") == "pictures" for _, attributes in page.tags)


def test_one_class_has_its_row(results, pictures):
    results["classes"], results["palette"] = ["only"], [[1, 2, 3]]
    for run in results["runs"]:
        run["iou"] = run["iou"][:1]
    html = render_report(results, pictures)
    assert html.count("only</th>") == 1
    assert "| bilinear | 51.00 ± 1.41 |" in markdown(results)
