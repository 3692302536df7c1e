"""Find the places where a network upsamples, and the maps that could guide an upsampler there."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from torch import Tensor, nn

from resfu.upgrading import places as reasons
from resfu.upgrading.calls import Call
from resfu.upgrading.flow import IMAGE, tensors_in
from resfu.upgrading.places import Guide, Place, Plan
from resfu.upgrading.recording import Recorder
from resfu.upgrading.running import evaluating, milliseconds, run

_WRAPPERS = ("OptimizedModule", "DistributedDataParallel", "DataParallel", "FullyShardedDataParallel")


def find_upsampling(model: nn.Module, *inputs: Any, named_inputs: Mapping[str, Any] | None = None) -> Plan:
    """Find every call by which one forward pass of a network changes the resolution of a map.

    The network runs three times in evaluation mode without gradients (to warm up, to measure the time, and to record
    the calls) and is not changed. `F.interpolate`, `F.upsample`, `nn.Upsample`, transposed convolutions with a stride
    and pixel shuffles are found, wherever they are called.

    Args:
        model: any network.
        *inputs: the positional arguments of its forward.
        named_inputs: the keyword arguments of its forward.

    Returns:
        The places in the order in which they run: a list that prints as a table.

    Raises:
        ValueError: without inputs, for inputs that the network does not take, or a network that is wrapped or compiled.

    >>> layers = torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.Upsample(scale_factor=2), torch.nn.Conv2d(8, 4, 1)
    >>> net = torch.nn.Sequential(*layers)
    >>> plan = resfu.find_upsampling(net, torch.zeros(1, 3, 32, 32))
    >>> plan[0].name, plan[0].call.ratio, [guide.name for guide in plan[0].guides]
    ('1#0', (2.0, 2.0), ['image'])
    """
    kwargs = dict(named_inputs or {})
    if not isinstance(model, nn.Module):
        found = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise ValueError(f"model must be a torch.nn.Module, got {found}.")
    kind = type(model).__name__
    if kind in _WRAPPERS:
        raise ValueError(f"the network is wrapped in {kind}: upgrade it first, then wrap the result.")
    if getattr(model, "_compiled_call_impl", None) is not None:
        raise ValueError(f"this {kind} is compiled in place (.compile()): upgrade it first, then compile the result.")
    if not inputs and not kwargs:
        raise ValueError("find_upsampling runs the network: give it the inputs that its forward takes.")
    recorder = Recorder(model)
    with evaluating(model, (inputs, kwargs)):
        passing = milliseconds(model, inputs, kwargs)
        with recorder:
            output = run(model, inputs, kwargs)
    logits = _judge(recorder, output, (inputs, kwargs))
    for number, place in enumerate(recorder.places):
        place.guides = _guides(recorder, number, place.call.size)
        if place.left_alone == reasons.LOGITS and place.call.start:  # the old interpolation, which can go on from a map
            place.by_way = _largest_below(recorder, number)
        place.share = place.milliseconds / passing
    image = [recorder.image] if recorder.image is not None else []
    return Plan(recorder.places, passing, [*recorder.sources, *image], logits)


def _judge(recorder: Recorder, output: Any, inputs: Any) -> Place | None:
    """Set for every place why it is left alone ("" if it upsamples features); return the place of the logits."""
    flow = recorder.flow
    outputs = [tensor for _, tensor in tensors_in(output)]
    returned = flow.shown_by(outputs)
    sizes = {tuple(tensor.shape[-2:]) for _, tensor in tensors_in(inputs) if tensor.dim() > 2}
    if recorder.image is not None:
        sizes.add(recorder.image.size)
    for number, place in enumerate(recorder.places):
        to_image = number in returned and place.call.size in sizes
        place.left_alone = _reason(recorder, place, recorder.inputs[number], number in flow.masks, to_image)
        if not place.left_alone and number not in flow.used | flow.masks | returned:
            place.left_alone = reasons.UNUSED
    # Networks return their main output first, and the outputs of auxiliary heads after it.
    ordered = [number for tensor in outputs for number in sorted(flow.shown_by([tensor]))]
    shown = (recorder.places[number] for number in ordered)
    return next((place for place in shown if place.left_alone == reasons.LOGITS and _enlarges(place.call)), None)


def _enlarges(call: Call) -> bool:
    return max(call.low) > 1 and call.size != call.low


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
    if to_image and call.kind != "pixel_shuffle":
        return reasons.LOGITS
    if call.size == call.low:
        return reasons.SAME_SIZE
    if max(call.low) == 1:
        return reasons.POOLED
    return reasons.LEARNED if call.kind == "pixel_shuffle" else ""


def _largest_below(recorder: Recorder, number: int) -> Guide | None:
    """The best guide among the largest maps whose size lies between the input and the output of a place."""
    place = recorder.places[number]
    found = (recorder.sources[n].size for n in _of_its_batch(recorder, number))
    sizes = [size for size in found if _between(place.call.low, size, place.call.size)]
    return _guides(recorder, number, max(sizes, key=prod))[0] if sizes else None


def _between(low: tuple[int, ...], size: tuple[int, ...], high: tuple[int, ...]) -> bool:
    return all(h < n < H for h, n, H in zip(low, size, high, strict=True))


def _guides(recorder: Recorder, number: int, size: tuple[int, ...]) -> list[Guide]:
    """Maps of one size computed before a place, best first: skip connections, the encoder's, others, the image."""
    place = recorder.places[number]
    sources = recorder.sources[: place.before]
    x = recorder.inputs[number]
    if x.dim() != 4:
        return []
    met = set(recorder.flow.partners.get(number, ()))
    first = sources[0].module.split(".")[0] if sources else ""  # usually the encoder
    same: dict[int, list[int]] = {}  # modules that pass on the same tensor
    for n in _of_its_batch(recorder, number):
        if sources[n].size == size:
            same.setdefault(recorder.same[n], []).append(n)
    ranked = []
    for numbers in same.values():
        skip = any(n in met for n in numbers)
        guide = min((sources[n] for n in reversed(numbers)), key=lambda guide: (len(guide.keys), _depth(guide)))
        in_encoder = any(sources[n].module.split(".")[0] == first for n in numbers)
        handed_on = min(_depth(sources[n]) for n in numbers)  # outer modules first: skip connections are theirs
        order = (not skip, not in_encoder, handed_on, -numbers[0])
        ranked.append((order, replace(guide, rank="skip" if skip else "map")))
    ranked.sort(key=lambda item: item[0])
    image = [recorder.image] if recorder.image is not None and recorder.images == len(x) else []
    return [guide for _, guide in ranked] + image


def _of_its_batch(recorder: Recorder, number: int) -> list[int]:
    """The sources before a place that hold as many maps as its input; parts of detectors hold one for each box."""
    before, maps = recorder.places[number].before, len(recorder.inputs[number])
    return [n for n in range(before) if recorder.batches[n] == maps]


def _depth(guide: Guide) -> int:
    return guide.module.count(".")
