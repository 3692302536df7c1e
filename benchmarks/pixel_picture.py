"""The picture of the README: a photo, and the patch and pixel features of three frozen encoders as colours.

    python -m benchmarks.pixel_picture --upsampler naf+dim=64 --weights runs/fit/weights.safetensors

The photo is china.jpg of scikit-learn ("danielbuechele" on Flickr, CC BY 2.0; the picture keeps this licence). Colours
are the first three principal components of each encoder's patch features, turned so that the encoders resemble each
other; both pictures of an encoder have the same. Writes docs/images/pixel_features.png.
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

import resfu
from resfu.compare.variants import parse_variant
from resfu.frozen.images import images_of
from resfu.visualize.pca import align, fit_pca
from resfu.visualize.picture import enlarge
from resfu.visualize.sheets import Panel, save_sheet

ENCODERS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
SIZE = (288, 432)
_KEPT = 0b11111100  # bits of a colour: nobody sees the others, and the file is a third smaller
TARGET = Path(__file__).parents[1] / "docs" / "images" / "pixel_features.png"


def photo() -> Image.Image:
    from sklearn.datasets import load_sample_image

    whole = Image.fromarray(load_sample_image("china.jpg"))
    return whole.resize((SIZE[1], SIZE[0]), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--upsampler", default="bilinear", help="with options, naf+dim=64; it serves all encoders")
    parser.add_argument("--weights", type=Path, help="of the upsampler")
    parser.add_argument("--output", type=Path, default=TARGET)
    options = parser.parse_args()
    name, chosen = parse_variant(options.upsampler)
    torch.set_num_threads(1)
    image = photo()
    images = images_of(image)
    low, high = [], []
    for encoder in ENCODERS:
        pf = resfu.PixelFeatures(encoder, name, weights=options.weights, **chosen)
        low.append(pf.low(images)[0])
        high.append(pf(images)[0])
    bases = [fit_pca([x]) for x in low]
    bases = [bases[0], *(align(basis, [x], bases[0], low[:1]) for basis, x in zip(bases[1:], low[1:], strict=True))]
    picture = images[0].mul(255).byte().permute(1, 2, 0).numpy()
    first, second = [Panel(picture, "photo")], [None]
    for encoder, x, y, basis in zip(ENCODERS, low, high, bases, strict=True):
        size = f"{x.shape[1]} x {x.shape[2]}"
        first.append(Panel(enlarge(basis.colour(x), SIZE), f"{encoder}: patch features, {size}"))
        second.append(Panel(basis.colour(y), f"pixel features, {SIZE[0]} x {SIZE[1]}"))
    title = f"Features of three frozen encoders, as their patches and at every pixel ({options.upsampler})"
    caption = "Photo: danielbuechele, CC BY 2.0, from scikit-learn. Colours: three principal components."
    save_sheet([first, second], title, options.output, caption)
    with Image.open(options.output) as sheet:
        coarser = sheet.convert("RGB").point([v & _KEPT for v in range(256)] * 3)
    coarser.save(options.output, optimize=True)
    print(f"{options.output}: {options.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
