"""Band forms: for each upsampler, the code that computes its output in bands of rows."""

from resfu.deploy.forms.attention import AnyUpForm, NAFForm
from resfu.deploy.forms.base import Form, Guide
from resfu.deploy.forms.crops import CARAFEForm, DeconvForm, FADEForm, IndexNetForm, PixelShuffleForm, StackJBUForm
from resfu.deploy.forms.resfu import ReSFUForm
from resfu.deploy.forms.resfu_image import ReSFUImageForm
from resfu.deploy.forms.sampled import BicubicForm, BilinearForm, DySampleForm, NearestForm
from resfu.deploy.forms.similar import A2UForm, SAPAForm
from resfu.upsamplers import UPSAMPLERS
from resfu.upsamplers.base import Upsampler
from resfu.upsamplers.plain import not_plain

FORMS: dict[str, type[Form]] = {
    "nearest": NearestForm,
    "bilinear": BilinearForm,
    "bicubic": BicubicForm,
    "deconv": DeconvForm,
    "pixelshuffle": PixelShuffleForm,
    "stack-jbu": StackJBUForm,
    "carafe": CARAFEForm,
    "indexnet": IndexNetForm,
    "fade": FADEForm,
    "sapa": SAPAForm,
    "dysample": DySampleForm,
    "a2u": A2UForm,
    "resfu": ReSFUForm,
    "resfu-image": ReSFUImageForm,
    "naf": NAFForm,
    "anyup": AnyUpForm,
}


def form_of(up: Upsampler, low: tuple[int, int], size: tuple[int, int]) -> Form:
    """The band form of an upsampler.

    Args:
        up: of one of the classes in `UPSAMPLERS`.
        low: (h, w) of the features.
        size: (H', W') at which it runs.

    Raises:
        ValueError: for another class, hooks on a part that bands do not call, or in training mode if bands could then
            not equal the whole output.
    """
    names = [name for name, method in UPSAMPLERS.items() if type(up) is method]
    if not names or names[0] not in FORMS:
        raise ValueError(f"{type(up).__name__} has no band form; these have: {', '.join(FORMS)}.")
    if getattr(up, "dims", 2) == 3:
        raise ValueError(f"bands of rows are for maps, and this {type(up).__name__} is for volumes (dims=3).")
    if up.training and names[0] in ("indexnet", "stack-jbu"):
        why = "batch normalisation counts" if names[0] == "indexnet" else "dropout draws"
        raise ValueError(f"in training mode, {why} over the whole image: call .eval() on {type(up).__name__} first.")
    form, called = FORMS[names[0]], FORMS[names[0]].called
    for part in not_plain(up):
        if not f"{part}.".startswith(called):
            raise ValueError(
                f"bands of {type(up).__name__} are computed from the parameters of {part!r} without a call, and it has "
                "hooks, a wrapper (LoRA) or a parametrization (weight_norm): merge or remove these first."
            )
    return form(up, low, size)


__all__ = ["FORMS", "Form", "Guide", "form_of"]
