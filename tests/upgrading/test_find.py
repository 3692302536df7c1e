"""`find_upsampling` against counts made by hand, in networks of five libraries."""

import pytest

from benchmarks.upgrade_networks import NETWORKS
from resfu import find_upsampling


@pytest.fixture(autouse=True)
def _quiet_libraries():
    pytest.importorskip("segmentation_models_pytorch", reason="needs the dev group")
    pytest.importorskip("monai", reason="needs the dev group")


def words(plan):
    return [
        ("T" if place.call.kind == "conv_transpose2d" else "")
        + f"{place.call.ratio[0]:.2g}"
        + "-" * bool(place.left_alone)
        for place in plan
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_the_calls_are_those_counted_by_hand(name):
    network = NETWORKS[name]
    assert words(find_upsampling(network.build(), *network.inputs())) == network.calls.split()
