"""What constructors and `create_upsampler` refuse."""

import inspect
import typing

import jaxtyping
import pytest

import resfu


def test_arguments_have_names_and_defaults():
    class Own(resfu.Upsampler):
        def upsample(self, features, guidance, size):
            return features

    class More(Own):
        def __init__(self, channels, width=3):
            super().__init__(channels)

    assert Own(8, scale_factor=3).arguments == {"channels": 8, "guidance_channels": None, "scale_factor": 3}
    assert More(8).arguments == {"channels": 8, "width": 3}


def test_unknown_names_list_the_choices():
    choices = "nearest bilinear bicubic deconv pixelshuffle stack-jbu carafe indexnet fade sapa dysample a2u resfu"
    choices += " resfu-image naf anyup"
    assert [name for name in resfu.UPSAMPLERS if name in choices.split()] == choices.split()
    with pytest.raises(ValueError, match=f"choose one of {', '.join(resfu.UPSAMPLERS)}"):
        resfu.create_upsampler("bicubic-ish")
    with pytest.raises(ValueError, match="resfu has no option radius; it takes channels"):
        resfu.create_upsampler("resfu", channels=8, guidance_channels=8, radius=3)
    with pytest.raises(ValueError, match="needs guidance_channels"):
        resfu.create_upsampler("resfu", channels=8)


@pytest.fixture
def unchecked_types():
    """As users have it: without the type checks that pytest's hook adds to the package."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


WRONG = {int: ("a", 0.5, True, -1, float("inf")), float: ("a", True, -1, float("nan")), bool: ("False", 0, None)}


def arguments():
    """Every constructor argument that is a number or a flag, and what it must not be."""
    for name, method in [*resfu.UPSAMPLERS.items(), ("jbu", resfu.JBU)]:
        for key, parameter in inspect.signature(method).parameters.items():
            kinds = {parameter.annotation, *typing.get_args(parameter.annotation)} & {int, float, bool}
            if kinds:
                wrong = WRONG[int if int in kinds else kinds.pop()]
                yield pytest.param(method, key, wrong, id=f"{name}-{key}")


@pytest.mark.parametrize(("method", "key", "wrong"), list(arguments()))
def test_arguments_of_a_wrong_type_are_refused_by_name(method, key, wrong, unchecked_types):
    known = {"channels": 32, "guidance_channels": 32} | ({} if key == "steps" else {"scale_factor": 2})
    takes = inspect.signature(method).parameters
    for value in wrong:
        with pytest.raises(ValueError, match=rf"{key} .*(must be|must divide)"):
            method(**{name: given for name, given in known.items() if name in takes} | {key: value})


@pytest.mark.parametrize("name", resfu.UPSAMPLERS)
def test_a_width_that_is_none_is_missing(name, unchecked_types):
    for key, parameter in inspect.signature(resfu.UPSAMPLERS[name]).parameters.items():
        if parameter.default is inspect.Parameter.empty:
            with pytest.raises(ValueError, match=f"{name} needs {key}"):
                resfu.create_upsampler(name, **{"channels": 32, "guidance_channels": 32, key: None})
