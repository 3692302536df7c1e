import pytest

from resfu.compare.variants import parse_variant, variant_name


@pytest.mark.parametrize(
    ("upsampler", "options", "name"),
    [
        ("bilinear", {}, "bilinear"),
        ("resfu", {"alignment": "both", "kernel_size": 3}, "resfu"),  # its own defaults
        ("resfu", {"alignment": "semantic", "guided_query": False}, "resfu+alignment=semantic+guided_query=false"),
        ("dysample", {"style": "pl"}, "dysample+style=pl"),
        ("stack-jbu", {"steps": 4}, "stack-jbu+steps=4"),  # the ratio follows from it
        ("resfu", {"iterative": True, "groups": 8}, "resfu+iterative=true+groups=8"),
    ],
)
def test_there_and_back(upsampler, options, name):
    assert variant_name(upsampler, options) == name
    found, parsed = parse_variant(name)
    assert found == upsampler
    assert variant_name(found, parsed) == name
    assert parsed.items() <= options.items()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cubist+a=1", "unknown upsampler 'cubist'; choose from .*resfu"),
        ("resfu+kernel=5", "resfu has no option kernel"),
        ("resfu+kernel_size=4", "kernel_size must be odd, got 4"),
        ("resfu+alignment", "an option must be KEY=VALUE, got 'alignment'"),
    ],
)
def test_what_makes_no_sense_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        parse_variant(name)
