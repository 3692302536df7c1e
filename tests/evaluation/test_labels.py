"""Label maps in parts against the arg-max of all logits at once, and how much memory they leave alone."""

import pytest
import torch
from torch import nn

from resfu import create_host
from resfu.evaluation.cost import peak_memory
from resfu.evaluation.inference import predict, resize_logits
from resfu.evaluation.labels import predict_labels

SLIDE = {"mode": "slide", "crop_size": (24, 30), "stride": (13, 20)}


@pytest.fixture(scope="module")
def host():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create_host("segformer-mit-b0", "bilinear", num_classes=21).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 45, 70, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", [{}, SLIDE], ids=["whole", "slide"])
@pytest.mark.parametrize("size", [(45, 70), (90, 133), (20, 31)])
@pytest.mark.parametrize("budget", [1, 200_000, 2**30])
def test_parts_give_the_labels_of_all_logits(options, size, budget, host, images):
    expected = resize_logits(predict(host, images, **options), size).argmax(1)
    labels = predict_labels(host, images, size, **options, budget=budget)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels, expected.byte())
    assert len(labels.unique()) > 5


def test_any_network_will_do(images):
    network = nn.Conv2d(3, 7, 1)
    expected = network(images).argmax(1).byte()
    assert torch.equal(predict_labels(network, images, (45, 70), budget=1), expected)
    assert torch.equal(predict_labels(network, images, (45, 70), **SLIDE), expected)


def test_the_first_of_equal_logits_wins_and_not_a_number_is_the_largest():
    logits = torch.zeros(1, 5, 2, 2)
    logits[0, 3, 0, 0] = logits[0, 4, 0, 0] = 1
    logits[0, 2, 1, 1] = logits[0, 4, 1, 1] = torch.nan
    labels = predict_labels(lambda x: x, logits, (2, 2), budget=1)
    assert labels.tolist() == [[[3, 0], [0, 2]]]
    assert torch.equal(labels, logits.argmax(1).byte())


def test_no_empty_batch_fails(host):
    assert predict_labels(host, torch.zeros(0, 3, 32, 32), (32, 32)).shape == (0, 32, 32)


@pytest.mark.parametrize(
    ("options", "share"), [({"budget": 2**18}, 0.5), ({"mode": "slide", "crop_size": 64, "stride": 64}, 0.4)]
)
def test_the_logits_of_all_pixels_are_never_there(options, share):
    """One class more costs what its coarse logits do, or its share of a row of windows."""

    def peak(classes):
        with torch.random.fork_rng(devices=[]):
            network = create_host("efficientnet-lite0", "bilinear", num_classes=classes).eval()
        return peak_memory(lambda x: predict_labels(network, x, (512, 128), **options), torch.zeros(1, 3, 512, 128))

    more = (peak(240) - peak(40)) / 200
    assert more < share * 512 * 128 * 4


def test_bad_windows_are_refused(host, images):
    with pytest.raises(ValueError, match="needs crop_size and stride"):
        predict_labels(host, images, (45, 70), "slide")


@torch.no_grad()
@pytest.mark.parametrize("kind", ["bilinear", "resfu"])
def test_a_photo_larger_than_its_padding_has_the_labels_of_all_logits(kind):
    """Boxes of `upsample_labels`: padding is cropped after it, and the host's own classes are those of its logits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = create_host("segformer-mit-b0", kind, num_classes=12).eval()
    photo = torch.randn(1, 3, 203, 301, generator=torch.Generator().manual_seed(1))
    assert torch.equal(predict_labels(network, photo, (203, 301)), network(photo).argmax(1).byte())


@pytest.mark.parametrize("options", [{}, {"mode": "slide", "crop_size": 16, "stride": 16}])
def test_more_classes_than_a_byte_holds_are_refused(options):
    with pytest.raises(ValueError, match="label maps are uint8, and the network gives 300 classes"):
        predict_labels(
            lambda images: torch.zeros(1, 300, *images.shape[-2:]), torch.rand(1, 3, 32, 32), (32, 32), **options
        )
