import numpy as np
import pytest
import torch
from PIL import Image

import resfu
from resfu.data import SegmentationDataset
from resfu.tasks.label_pictures import label_map_pictures
from resfu.tasks.pictures import choose, save_sheets
from resfu.visualize import fit_pca
from resfu.visualize.figures import Frame, SlotCall, choose_call, feature_pictures, shared_colours, slot_calls
from resfu.visualize.masks import CORRECT, IGNORED, WRONG


class Two(SegmentationDataset):
    """Two images of a size that the network has to pad; class 0 on the left, ignored on the right."""

    classes = ("left", "other")
    palette = torch.tensor([[0, 0, 255], [255, 255, 0]], dtype=torch.uint8)

    def __len__(self):
        return 2

    def load(self, index):
        image = torch.rand(3, 40, 56, generator=torch.Generator().manual_seed(index))
        label = torch.zeros(40, 56, dtype=torch.int64)
        label[:, 28:] = 255
        return {"image": image, "label": label, "name": f"image-{index}"}


@pytest.fixture(scope="module")
def hosts():
    torch.manual_seed(0)
    made = {name: resfu.create_host("efficientnet-lite0", name, num_classes=2).eval() for name in ("bilinear", "resfu")}
    with torch.no_grad():
        for name, sign in (("bilinear", 1.0), ("resfu", -1.0)):  # one always says class 0, the other class 1
            classifier = made[name].head.classifier
            classifier.weight.zero_()
            classifier.bias.copy_(torch.tensor([sign, -sign]))
    return made


def test_pictures_show_what_the_networks_say(hosts):
    first, second = label_map_pictures(hosts, Two(), [0, 1])
    assert (first.name, second.name) == ("image-0", "image-1")
    assert [view.words for view in first.references] == ["image", "ground truth over the image", "ground truth"]
    assert all(view.picture.shape == (40, 56, 3) for view in first.references)
    assert first.classes == ("left",)
    assert first.differences == {("bilinear", "resfu"): 100.0}
    right, wrong = ({view.words: view for view in first.results[name]} for name in ("bilinear", "resfu"))
    assert right["errors"].caption == "errors: 0.0 % of the pixels"
    assert wrong["errors"].caption == "errors: 100.0 % of the pixels"
    assert (right["prediction"].picture == (0, 0, 255)).all()
    assert (wrong["prediction"].picture == (255, 255, 0)).all()
    assert (right["errors"].picture[:, :28] == CORRECT).all()
    assert (wrong["errors"].picture[:, :28] == WRONG).all()
    assert (wrong["errors"].picture[:, 28:] == IGNORED).all()
    # 40 x 56 at stride 2, without the padding to 48 x 64
    assert right["features before"].picture.shape == right["features after"].picture.shape == (20, 28, 3)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (hosts["bilinear"].mean, hosts["bilinear"].std))
    rgb = (Two()[0]["image"] * std + mean).clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy()
    assert np.abs(first.references[0].picture - rgb).max() <= 1


class Enlarged(Two):
    """Images that the evaluation transform has enlarged, and labels as they were."""

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return sample | {"image": torch.nn.functional.interpolate(sample["image"][None], scale_factor=2.0)[0]}


def test_pictures_have_the_size_of_the_label(hosts):
    (first,) = label_map_pictures(hosts, Enlarged(), [0], "slide", (48, 64), (32, 48))
    assert all(view.picture.shape == (40, 56, 3) for view in first.references)
    views = {view.words: view for view in first.results["bilinear"]}
    assert views["errors"].picture.shape == views["prediction"].picture.shape == (40, 56, 3)
    assert views["errors"].caption == "errors: 0.0 % of the pixels"


def test_the_pair_is_that_of_the_host(hosts):
    image = Two()[0]["image"]
    call = choose_call(slot_calls(hosts["bilinear"], image))
    with torch.no_grad():
        before, after = hosts["bilinear"].upsampled_features(image[None])["features"]
    assert torch.equal(call.features, before)
    assert torch.equal(call.output, after)
    assert call.frame.share == (40 / 48, 56 / 64)


def test_of_several_slots_the_one_with_most_to_do_is_shown():
    host = resfu.create_host("segformer-mit-b0", "bilinear", num_classes=2).eval()
    call = choose_call(slot_calls(host, torch.rand(3, 64, 64)))
    assert call.features.shape[2:] == (2, 2)
    assert call.output.shape[2:] == (16, 16)


def call_with(before, after, covered=(1.0, 1.0)):
    """A call whose maps cover so many times the photo."""
    size = tuple(after.shape[-2:])
    frame = Frame((100, 100), (100 * covered[0], 100 * covered[1]))
    return SlotCall("features", before[None], size, frame, after[None], ())


def test_low_resolution_keeps_its_pixels():
    before, after = torch.rand(5, 2, 3), torch.rand(5, 8, 12)
    pictures = feature_pictures(call_with(before, after, (1.0, 2.0)), fit_pca([before]))
    low, high = pictures["nearest"], pictures["upsampled"]
    assert low.shape == high.shape == (8, 6, 3)
    assert (low[:4, :4] == low[0, 0]).all()
    assert not (low[0, 0] == low[4, 0]).all()


def test_networks_that_see_the_same_share_colours():
    features = torch.rand(6, 9, 9)
    rotation, _ = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))
    turned = torch.einsum("dc,chw->dhw", rotation, features)
    one, other = (call_with(f, f) for f in (features, turned))
    bases = shared_colours([[one], [other]])
    colours = [feature_pictures(*each)["nearest"] for each in ((one, bases[0]), (other, bases[1]))]
    difference = colours[0].astype(int) - colours[1]
    assert np.abs(difference).max() <= 1
    smaller = call_with(turned[:, :4], turned[:, :4])
    assert len(shared_colours([[one], [smaller]])) == 2  # other sizes: nothing to turn by, each in its own colours


def test_chosen_images_are_spread_evenly():
    assert choose(100, 4) == [12, 37, 62, 87]
    assert choose(3, 6) == [0, 1, 2]
    assert choose(5, 1) == [2]


def test_a_sheet_holds_a_row_for_every_upsampler(pictures, tmp_path):
    files = save_sheets(pictures[:1], tmp_path / "sheets")
    assert [file.name for file in files] == ["first.png"]
    with Image.open(files[0]) as sheet:
        # panels of 360 x 240 from 8 x 12 pictures: four a row, three rows, a title
        assert sheet.size == (12 + 4 * 372, 12 + 24 + 3 * 274)
