import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from resfu.hosts import create_host
from resfu.hosts.base import SegmentationHead
from resfu.hosts.mask_rcnn import MaskRCNN
from resfu.upsamplers import ReSFU
from resfu.visualize import Heat, Panel, fit_pca, save_sheet
from resfu.visualize.figures import (
    Frame,
    choose_call,
    compare_neighbours,
    explain_call,
    feature_pictures,
    feature_sheet,
    iterate_call,
    iterative_sheet,
    kernel_sheet,
    map_sheet,
    neighbour_sheet,
    resfu_calls,
    slot_calls,
)
from resfu.visualize.figures.difference import busiest_window, relative_difference
from tests.support.two_slots import SMALL, make_host


@pytest.fixture
def image():
    """20 x 34: padded to 24 x 40 by the network."""
    return torch.randn(3, 20, 34, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def photo(image):
    return (image.clamp(-2, 2) * 60 + 125).byte().permute(1, 2, 0).numpy()


def call_of(host, image, name="s8"):
    return resfu_calls(slot_calls(host, image).values())[name]


def test_slots_are_heard_whatever_the_network_is(image):
    host = make_host()
    calls = slot_calls(host, image)
    assert list(calls) == ["s4", "s8"]
    with torch.no_grad():
        expected = host.upsampled_features(image[None])
    for name, (before, after) in expected.items():
        assert torch.equal(calls[name].features, before)
        assert torch.equal(calls[name].output, after)
    assert calls["s8"].ratio == (4.0, 4.0)
    assert calls["s8"].frame == Frame((20, 34), (24.0, 40.0))
    assert calls["s8"].frame.kept((12, 20)) == (10, 17)
    assert not any(module._forward_hooks for module in host.modules())
    assert choose_call(calls).name == "s8"  # the highest ratio
    assert choose_call(calls, "s4").name == "s4"


@pytest.mark.parametrize("name", ["efficientnet-lite0", "transunet-small"])
def test_slots_are_called_what_the_network_calls_them(name):
    host = create_host(name, "bilinear", num_classes=2).eval()
    image = torch.zeros(3, 32, 64)
    with torch.no_grad():
        expected = {name: before.shape for name, (before, _) in host.upsampled_features(image[None]).items()}
    assert {name: call.features.shape for name, call in slot_calls(host, image).items()} == expected


def test_objects_are_looked_for_in_the_image_as_it_is():
    """Mask R-CNN resizes what it is given, and would show maps of another image than the one below them."""
    host = MaskRCNN("bilinear", num_classes=2, layers=(1, 1, 1, 1), min_size=256).eval()
    calls = slot_calls(host, torch.rand(3, 64, 96))
    assert {name: tuple(call.output.shape[-2:]) for name, call in calls.items()} == {
        "c4": (4, 6),
        "c3": (8, 12),
        "c2": (16, 24),
    }
    assert {call.frame for call in calls.values()} == {Frame((64, 96), (64.0, 96.0))}


def test_the_steps_of_a_chain_have_names():
    host = make_host(iterative=True)
    assert list(resfu_calls(slot_calls(host, torch.zeros(3, 16, 16)).values())) == ["s4", "s8.1", "s8.2"]


def test_what_is_not_there_is_named(image):
    calls = slot_calls(make_host("bilinear"), image)
    with pytest.raises(ValueError, match="no ReSFU in the network"):
        resfu_calls(calls.values())
    with pytest.raises(ValueError, match="unknown slot 'c4'; this network has s4, s8"):
        choose_call(calls, "c4")
    host = make_host("bilinear")
    host.head = Identity()
    with pytest.raises(ValueError, match="no upsampler slot"):
        slot_calls(host, image)
    call = call_of(make_host(), image)
    with pytest.raises(ValueError, match="pixel 20,3 lies outside the image: Y goes from 0 to 19 and X from 0 to 33"):
        call.frame.to_map((20, 3), call.size)
    with pytest.raises(ValueError, match="s4 upsamples by 2, which is one step"):
        iterate_call(call_of(make_host(), image, "s4"))


class Identity(SegmentationHead):
    def upsampled_features(self, features, images):
        return {}

    def forward(self, features, images):
        return features[0][:, :2]


def test_places_of_the_photo_and_of_a_map():
    frame = Frame((20, 34), (24.0, 40.0))
    assert frame.to_map((0, 0), (12, 20)) == (0, 0)
    assert frame.to_map((19, 33), (12, 20)) == (9, 16)
    assert frame.to_photo((9, 16), (12, 20)) == (19, 33)
    resized = Frame((100, 60), (100.0, 60.0))  # the network saw it at 50 x 30; its map has 13 x 8
    for row in range(13):
        for column in range(8):
            assert resized.to_map(resized.to_photo((row, column), (13, 8)), (13, 8)) == (row, column)
    picture = np.arange(20 * 34 * 3).reshape(20, 34, 3)
    assert np.array_equal(frame.under(picture, (slice(2, 4), slice(5, 99)), (12, 20)), picture[4:8, 10:])


def test_the_kernel_of_a_pixel_is_that_of_explain(image, photo):
    host = make_host()
    explanation = explain_call(call_of(host, image))
    with torch.no_grad():
        levels = host.encoder(host._padded(image[None]))
        expected = host.head.slots["s8"].upsampler.explain(levels[2], levels[0])
    place = explanation.call.frame.to_map((11, 25), (12, 20))
    assert place == (5, 12)  # pixels 2 wide
    grids = explanation.at(place)
    assert list(grids) == ["semantic_scores", "detail_scores", "kernel", "inner_product_kernel"]
    for name in ("semantic_scores", "detail_scores", "kernel"):
        assert torch.equal(grids[name].flatten(), expected[name][0, :, 5, 12])
    for name in ("kernel", "inner_product_kernel"):
        assert grids[name].sum().item() == pytest.approx(1, abs=1e-6)
    total = grids["semantic_scores"] + grids["detail_scores"]
    assert torch.allclose(total.flatten().softmax(0), grids["kernel"].flatten())
    with pytest.raises(ValueError, match="19 pixels are too many for one figure: give at most 18"):
        kernel_sheet(photo, explanation, [(0, 0)] * 19)
    (row,) = kernel_sheet(photo, explanation, [(11, 25)])
    assert row[0].title == "i: Y 11, X 25"
    assert [heat.values.tolist() for heat in row[1:]] == [grid.tolist() for grid in grids.values()]


def test_inner_products_are_those_of_the_same_queries_and_keys(image):
    call = call_of(make_host(), image)
    other = ReSFU(8, 8, **SMALL, similarity="inner_product")
    missing, unexpected = other.load_state_dict(call.module.state_dict(), strict=False)
    assert not missing
    assert all("similarity" in name for name in unexpected)
    with torch.no_grad():
        expected = other.explain(call.features, call.guidance)["kernel"][0]
    kernel = explain_call(call).maps["inner_product_kernel"]
    assert torch.equal(kernel, expected)
    assert (kernel - explain_call(call).maps["kernel"]).abs().max() > 0.05


def test_telling_pixels_are_where_bilinear_is_far(image):
    explanation = explain_call(call_of(make_host(), torch.randn(3, 64, 96)))
    x = explanation.departure
    bilinear = F.interpolate(explanation.call.features, size=(32, 48), mode="bilinear")[0]
    far = (explanation.maps["output"] - bilinear).square().sum(0).sqrt()
    assert torch.allclose(x / x.mean(), far / far.mean())
    x.fill_(1)
    x[10, 12], x[11, 13], x[12, 40], x[20, 20], x[0, 0] = 7, 6, 5, 0.5, 9
    # (11, 13) is too near to the first, the kernel at (0, 0) reaches over the border; pixels 2 wide
    assert explanation.telling_pixels() == [(21, 25), (25, 81), (41, 41)]
    assert len(explain_call(call_of(make_host(), image[:, :16, :16])).telling_pixels(9)) < 10


def test_what_an_ablation_leaves_out_is_left_out(image, photo):
    explanation = explain_call(call_of(make_host(alignment="semantic", guided_query=False), image))
    rows = map_sheet(photo, explanation, [(3, 4)])
    assert [[place is not None for place in row] for row in rows] == [
        [True] * 3,
        [True, True, False],
        [True, True, False],
    ]
    assert rows[0][0].marks == [(3, 4, "i")]
    assert rows[1][1].picture.shape == (10, 17, 3)  # the image's own part
    assert len(kernel_sheet(photo, explanation, [(3, 4)])[0]) == 4
    explanation = explain_call(call_of(make_host(alignment="detail", similarity="inner_product"), image))
    rows = map_sheet(photo, explanation, [])
    assert rows[2][1] is rows[2][2] is None
    assert list(explanation.at((0, 0))) == ["detail_scores", "kernel"]


def test_coarse_neighbours_come_from_a_copy_with_the_same_weights(image, photo):
    host = make_host()
    call = call_of(host, image)
    before = {name: value.clone() for name, value in host.state_dict().items()}
    compared = compare_neighbours(call)
    assert call.module.neighbours == "fine"
    assert all(torch.equal(value, before[name]) for name, value in host.state_dict().items())
    copy = call.altered(neighbours="coarse").module
    assert copy.neighbours == "coarse"
    assert all(torch.equal(value, call.module.state_dict()[name]) for name, value in copy.state_dict().items())

    other = ReSFU(8, 8, **SMALL, neighbours="coarse")
    other.load_state_dict(call.module.state_dict())
    with torch.no_grad():
        assert torch.equal(compared["coarse"], other(call.features, call.guidance)[0])
    assert torch.equal(compared["fine"], slot_calls(host, image)["s8"].output[0])
    assert compared["difference"].shape == (12, 20)
    assert compared["difference"].max() > 0.1
    above, below = neighbour_sheet(photo, call, compared)
    assert torch.equal(above[3].values, compared["difference"][:10, :17])
    assert below[3].limits == above[3].limits
    assert above[1].picture.shape == (10, 17, 3)
    assert below[1].picture.shape == (3, 5, 3)


def test_the_chain_is_the_same_module_step_by_step(image, photo):
    host = make_host()
    call = call_of(host, image)
    made = iterate_call(call)
    with torch.no_grad():
        levels = host.encoder(host._padded(image[None]))
        first = call.module(levels[2], levels[1])
        second = call.module(first, levels[0])
    assert made.own_guides
    assert [tuple(stage.shape) for stage in made.stages] == [(8, 6, 10), (8, 12, 20)]
    assert torch.equal(made.stages[0], first[0])
    assert torch.equal(made.stages[1], second[0])
    assert torch.equal(made.direct, slot_calls(host, image)["s8"].output[0])
    assert made.difference.max() > 0.1
    assert not call.module._forward_hooks
    above, below = iterative_sheet(photo, call, made)
    assert [place.title for place in above] == ["features, 3 × 5", "step 1, 6 × 10", "step 2, 12 × 20"]
    assert [place.title for place in below[:3]] == ["image", "bilinear, 12 × 20", "direct, 12 × 20"]


def test_a_chain_without_guides_averages_the_guidance(image):
    call = call_of(make_host(), image)
    call = type(call)(**{**vars(call), "guides": call.guides[-1:]})
    made = iterate_call(call)
    with torch.no_grad():
        first = call.module(call.features, F.avg_pool2d(call.guidance, 2))
    assert not made.own_guides
    assert torch.allclose(made.stages[0], first[0], atol=1e-6)


def test_pictures_of_features(image, photo):
    call = choose_call(slot_calls(make_host("bilinear"), image))
    basis = fit_pca([call.features[0]])
    pictures = feature_pictures(call, basis)
    assert {picture.shape for picture in pictures.values()} == {(10, 17, 3)}
    assert np.array_equal(pictures["upsampled"], pictures["bilinear"])
    assert np.array_equal(pictures["nearest"][::4, ::4], basis.colour(call.features[0]))
    assert np.array_equal(pictures["nearest"][3, 2], pictures["nearest"][0, 0])

    names = lambda rows: [[place and place.title for place in row] for row in rows]  # noqa: E731
    assert names(feature_sheet(photo, {"a": pictures, "b": pictures}, same_features=True, columns=3)) == [
        ["image", "nearest", "bilinear"],
        ["a: upsampled", "b: upsampled"],
    ]
    predicted = {**pictures, "prediction": photo}
    assert names(feature_sheet(photo, {"a": predicted, "b": pictures}, same_features=False)) == [
        ["image", "a: upsampled", "b: upsampled"],
        [None, "a: bilinear", "b: bilinear"],
        [None, "a: nearest", "b: nearest"],
        [None, "a: prediction", None],
    ]


def test_differences_by_hand():
    features = torch.tensor([[[0.0, 2.0]], [[5.0, 5.0]]])  # 1 from their mean
    one, other = torch.zeros(2, 1, 2), torch.tensor([[[3.0, 0.0]], [[4.0, 0.5]]])
    assert relative_difference(one, other, features).tolist() == [[5.0, 0.5]]
    values = torch.zeros(10, 20)
    values[7, 12] = values[8, 13] = 1
    rows, columns = busiest_window(values, 0.2)
    assert rows == slice(7, 9)
    assert columns.start in (10, 11, 12)
    assert columns.stop - columns.start == 4


def test_a_figure_is_written(tmp_path, photo):
    values = torch.tensor([[0.0, 0.25], [0.5, 1.0]])
    rows = [[Panel(photo, "image", [(3, 4, "i")]), Heat(values, "kernel", numbers=True)], [None, Heat(values, "map")]]
    path = save_sheet(rows, "title", tmp_path / "new" / "figure.png", "caption")
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] > pixels.shape[0] > 200
    brightest = np.array([253, 231, 37])  # of viridis
    assert (np.abs(pixels.astype(int) - brightest).sum(-1) < 6).sum() > 1000
    with pytest.raises(ValueError, match="at least one picture"):
        save_sheet([[None]], "title", path, "caption")
