"""`resfu inspect`: shows where a network upsamples, and what other upsamplers would cost in these places."""

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from torch import nn

from resfu.cli.arguments import Parser, positive, size, upsamplers
from resfu.cli.libraries import build_network
from resfu.compare.narrow import print_table
from resfu.evaluation.cost.counting import count_parameters, multiply_accumulates
from resfu.files.atomic import write_json
from resfu.upgrading import Plan, find_upsampling, upgrade
from resfu.upsamplers import UPSAMPLERS

_ROUNDS = 3


def run(argv: Sequence[str]) -> int:
    """Run the command on the words after `resfu inspect`."""
    options = _parser().parse_args(argv)
    if options.json is not None and options.json.is_dir():
        raise ValueError(f"--json writes a file, and {options.json} is a folder.")
    waiting = Console(stderr=True)
    with waiting.status("building the network and looking for its upsampling"):
        model = build_network(options.network)
        inputs = _inputs(model, options)
        plan = find_upsampling(model, *inputs)
    print(plan)
    console = Console()
    if not console.is_terminal:
        console.width = 100
    with waiting.status("measuring what each upsampler would add"):
        costs, left_out = _costs(model, plan, inputs, options.upsamplers or tuple(UPSAMPLERS))
    if costs:
        print()
        print_table(console, _table(costs))
    for reason in dict.fromkeys(left_out.values()):
        names = [name for name in left_out if left_out[name] == reason]
        print(f"left out: {', '.join(names)}: {reason}")
    if options.json is not None:
        write_json(options.json, _record(options, plan, costs, left_out))
        print(f"written to {options.json}")
    return 0


def _inputs(model: nn.Module, options: argparse.Namespace) -> tuple:
    torch.manual_seed(0)
    image = torch.rand(1, options.channels, *options.size)
    detection = type(model).__module__.startswith("torchvision.models.detection")
    return ([image[0]],) if detection else (image,)


def _costs(
    model: nn.Module, plan: Plan, inputs: tuple, names: Sequence[str]
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """What each upsampler adds to the network: places, parameters, operations, milliseconds."""
    networks, places, left_out = {"": model}, {}, {}
    for name in names:
        places[name] = plan.fitting(name)
        if not places[name]:
            left_out[name] = _why_none(plan)
            continue
        where = None if plan.logits_alone else places[name]
        networks[name] = upgrade(model, name, *inputs, where=where).eval()
    if len(networks) == 1:
        return {}, left_out
    times = _milliseconds(networks, inputs)
    parameters, operations = count_parameters(model), multiply_accumulates(model, *inputs)
    costs = {
        name: {
            "places": len(places[name]),
            "parameters": count_parameters(network) - parameters,
            "multiply_accumulates": multiply_accumulates(network, *inputs) - operations,
            "milliseconds": times[name] - times[""],
        }
        for name, network in networks.items()
        if name
    }
    return costs, left_out


def _why_none(plan: Plan) -> str:
    if not plan:
        return "nothing is upsampled here"
    return "no place has a ratio that it takes" if plan.replaced else "all places are left alone"


def _milliseconds(networks: dict[str, nn.Module], inputs: tuple) -> dict[str, float]:
    """Median times; the networks run in turn, so that a slow moment of the machine affects all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    with torch.no_grad():
        for _ in range(_ROUNDS + 1):  # the first warms up
            for name, network in networks.items():
                began = time.perf_counter()
                network(*inputs)
                times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def _table(costs: dict[str, dict[str, Any]]) -> Table:
    table = Table("upsampler", title="what each would add to the network", box=SIMPLE_HEAD, show_edge=False)
    for head in ("places", "parameters", "G multiply-accumulates", "ms"):
        table.add_column(head, justify="right")
    for name, cost in costs.items():
        giga = f"{cost['multiply_accumulates'] / 1e9:+.3f}"
        table.add_row(name, str(cost["places"]), f"{cost['parameters']:+,}", giga, f"{cost['milliseconds']:+.1f}")
    return table


def _record(
    options: argparse.Namespace, plan: Plan, costs: dict[str, dict[str, Any]], left_out: dict[str, str]
) -> dict[str, Any]:
    return {
        "network": options.network,
        "size": options.size,
        "milliseconds": plan.passing,
        "places": [
            {
                "name": place.name,
                **place.call.to_json(),
                "left_alone": place.left_alone,
                "guides": [guide.name for guide in place.guides],
                "milliseconds": place.milliseconds,
            }
            for place in plan
        ],
        "upsamplers": costs,
        "left_out": left_out,
    }


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="resfu inspect",
        description="Show every call by which a network changes the resolution of a map, with the guides at hand, and "
        "what each upsampler would add at the places that `resfu.upgrade` replaces: parameters, operations and "
        "milliseconds of a forward pass on this machine.",
    )
    add = parser.add_argument
    add(
        "network",
        metavar="NETWORK",
        help="torchvision:deeplabv3_resnet50, transformers:CLASS or a folder with config.json, timm:resnet18, "
        "smp:Unet:resnet18, monai:SegResNet, or package.module:factory",
    )
    add("--size", type=size, default=(512, 512), metavar="N | HxW", help="of the image (512x512)")
    add("--channels", type=positive, default=3, metavar="N", help="of the image (3)")
    add("--upsamplers", type=upsamplers, metavar="A,B", help=f"of {', '.join(UPSAMPLERS)} (all)")
    add("--json", type=Path, metavar="FILE", help="write everything as JSON")
    return parser
