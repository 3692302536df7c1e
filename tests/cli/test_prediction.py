"""What the options of `resfu predict` refuse."""

import pytest
from jsonargparse import Namespace

from resfu.cli.prediction import apply_options


@pytest.mark.parametrize("option", ["longest_side", "window", "stride"])
def test_objects_and_scans_have_sizes_of_their_own(option):
    given = {"longest_side": None, "window": None, "stride": None, option: 100}
    words = f"--{option.replace('_', '-')} is for"
    with pytest.raises(ValueError, match=f"{words} label maps; networks that find objects"):
        apply_options(Namespace(**given, data=Namespace()), label_maps=False)
    with pytest.raises(ValueError, match=f"{words} photos; the slices of a scan"):
        apply_options(Namespace(**given, data=Namespace(augmentation="slice")), label_maps=True)
