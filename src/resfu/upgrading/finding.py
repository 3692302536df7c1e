"""Find the upsampling of a network, and the guides available for each place."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from resfu.upgrading import places as reasons
from resfu.upgrading.flow import IMAGE, tensors_in
from resfu.upgrading.places import Guide, Place, Plan
from resfu.upgrading.recording import Recorder
from resfu.upgrading.running import evaluating, milliseconds, run


def find_upsampling(model: nn.Module, *inputs: Any, named_inputs: Mapping[str, Any] | None = None) -> Plan:
    """Find every call in a forward pass of a network that changes the resolution of a map.

    The network runs three times in evaluation mode without gradients (to warm up, to measure the time, and to record
    its calls) and is not changed. Recorded are `F.interpolate`, `F.upsample` and `nn.Upsample`, transposed convolutions
    with a stride and pixel shuffles, wherever they are called.

    Args:
        model: any network.
        *inputs: its arguments.
        named_inputs: its keyword arguments.

    Returns:
        The places in the order in which they run: a list that prints as a table.

    Raises:
        ValueError: without inputs, or for inputs that the network does not take.

    >>> layers = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Upsample(scale_factor=2), torch.nn.Conv2d(8, 4, 1)
    >>> net = torch.nn.Sequential(*layers)
    >>> plan = resfu.find_upsampling(net, torch.zeros(1, 3, 32, 32))
    >>> plan[0].name, plan[0].call.ratio, [guide.name for guide in plan[0].guides]
    ('1#0', (2.0, 2.0), ['image'])
    """
    kwargs = dict(named_inputs or {})
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    if not inputs and not kwargs:
        raise ValueError("find_upsampling runs the network once: give it the inputs that its forward takes.")
    recorder = Recorder(model)
    with evaluating(model):
        passing = milliseconds(model, inputs, kwargs)
        with recorder:
            output = run(model, inputs, kwargs)
    _judge(recorder, output, (inputs, kwargs))
    for number, place in enumerate(recorder.places):
        place.guides = _guides(recorder, number)
        place.share = place.milliseconds / passing
    image = [recorder.image] if recorder.image is not None else []
    return Plan(recorder.places, passing, [*recorder.sources, *image])


def _judge(recorder: Recorder, output: Any, inputs: Any) -> None:
    """Set for every place why it is left alone, if it does not upsample features."""
    flow = recorder.flow
    returned = flow.shown_by(tensor for _, tensor in tensors_in(output))
    sizes = {tuple(tensor.shape[-2:]) for _, tensor in tensors_in(inputs) if tensor.dim() > 2}
    if recorder.image is not None:
        sizes.add(recorder.image.size)
    for number, place in enumerate(recorder.places):
        to_image = number in returned and place.call.size in sizes
        place.left_alone = _reason(recorder, place, recorder.inputs[number], number in flow.masks, to_image)
        if not place.left_alone and number not in flow.used | flow.masks | returned:
            place.left_alone = reasons.UNUSED


def _reason(recorder: Recorder, place: Place, x: Tensor, compared: bool, to_image: bool) -> str:
    call, origin = place.call, recorder.flow.origin_of(x)
    if x.dim() != 4 or call.mode in ("linear", "trilinear"):
        return reasons.NOT_2D
    if any(H < h for H, h in zip(call.size, call.low, strict=True)) or call.mode == "area":
        return reasons.SMALLER
    if call.kind == "conv_transpose2d":
        owner = recorder.root.get_submodule(place.owner)
        return reasons.LEARNED if isinstance(owner, nn.ConvTranspose2d) and place.owner else reasons.WEIGHTS
    if origin == 0:
        return reasons.POSITION
    if origin == IMAGE:
        return reasons.IMAGE
    if not x.is_floating_point() or (compared and not to_image):
        return reasons.MASK
    if to_image:
        return reasons.LOGITS
    if call.size == call.low:
        return reasons.SAME_SIZE
    if max(call.low) == 1:
        return reasons.POOLED
    return reasons.LEARNED if call.kind == "pixel_shuffle" else ""


def _guides(recorder: Recorder, number: int) -> list[Guide]:
    """Earlier maps of a place's output size: those joined with its output, the encoder's, others, the image."""
    place = recorder.places[number]
    sources = recorder.sources[: place.before]
    x = recorder.inputs[number]
    if x.dim() != 4:
        return []
    size = place.call.size
    met = set(recorder.flow.partners.get(number, ()))
    first = sources[0].module.split(".")[0] if sources else ""  # usually the encoder
    same: dict[int, list[int]] = {}  # modules that return the same tensor
    for n, guide in enumerate(sources):
        if guide.size == size:
            same.setdefault(recorder.same[n], []).append(n)
    ranked = []
    for numbers in same.values():
        skip = any(n in met for n in numbers)
        guide = min((sources[n] for n in reversed(numbers)), key=lambda guide: (len(guide.keys), _depth(guide)))
        in_encoder = any(sources[n].module.split(".")[0] == first for n in numbers)
        handed_on = min(_depth(sources[n]) for n in numbers)  # as far as the network itself: what a skip connection is
        order = (not skip, not in_encoder, handed_on, -numbers[0])
        ranked.append((order, replace(guide, rank="skip" if skip else "map")))
    ranked.sort(key=lambda item: item[0])
    return [guide for _, guide in ranked] + ([recorder.image] if recorder.image is not None else [])


def _depth(guide: Guide) -> int:
    return guide.module.count(".")
