import numpy as np
import torch

from resfu.compare.photo import Source, upsample_photo
from resfu.hosts import create_host


def test_a_photo_passes_each_network_once():
    passes = []
    sources = {}
    for name in ("bilinear", "resfu"):
        host = create_host("efficientnet-lite0", name, num_classes=2).eval()
        host.encoder.register_forward_hook(lambda *_, name=name: passes.append(name))
        sources[name] = Source(host, "", trained=False)
    photo = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    with torch.no_grad():
        sheet = upsample_photo(photo, sources, "photo.png", 640)
    assert passes == ["bilinear", "resfu"]
    pixels = np.asarray(sheet)
    assert (pixels[44:364, 1480:1960] == 255).all()  # bilinear has no kernels to show, ReSFU has
    assert (pixels[398:718, 1480:1960] == (255, 140, 0)).all(-1).sum() > 500
