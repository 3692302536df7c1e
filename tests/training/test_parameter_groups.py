import copy

import pytest
import torch
from torch import nn

from resfu.hosts import create_host
from resfu.training.parameter_groups import Optimisation, create_optimizer, parameter_groups
from resfu.training.schedule import Schedule, poly_scheduler


class Encoder(nn.Sequential):
    """A convolution, a norm inside and one at the output."""

    @property
    def output_norms(self):
        return [self[2]]


class Network(nn.Module):
    """Named as a host is: encoder.*, head.*, and the two similarity blocks inside the head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(1, 4))
        self.head = nn.ModuleDict(
            {
                "slot": nn.ModuleDict(
                    {
                        "semantic_similarity": nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4)),
                        "detail_similarity": nn.Conv2d(4, 4, 1, bias=False),
                        "query": nn.Conv2d(4, 4, 1),
                    }
                ),
                "norm": nn.LayerNorm(4),
            }
        )

    def forward(self, x):
        x = self.encoder(x)
        slot = self.head["slot"]
        x = slot["query"](x) + slot["semantic_similarity"](x) * slot["detail_similarity"](x)
        return self.head["norm"](x.movedim(1, -1))


def by_name(network, groups):
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_groups_by_hand():
    network = Network()
    options = Optimisation(
        learning_rate=1e-3, weight_decay=0.1, head_multiplier=10, similarity_multiplier=500, undecayed="norms"
    )
    found = by_name(network, parameter_groups(network, options))
    slot = "head.slot"
    expected = {
        "encoder.0.weight": (1e-3, 0.1),
        "encoder.0.bias": (1e-3, 0.1),
        "encoder.1.weight": (1e-3, 0.0),
        "encoder.1.bias": (1e-3, 0.0),
        "encoder.2.weight": (1e-3, 0.0),
        "encoder.2.bias": (1e-3, 0.0),
        f"{slot}.semantic_similarity.0.weight": (5.0, 0.1 / 500),
        f"{slot}.semantic_similarity.0.bias": (5.0, 0.1 / 500),
        f"{slot}.semantic_similarity.1.weight": (5.0, 0.0),
        f"{slot}.semantic_similarity.1.bias": (5.0, 0.0),
        f"{slot}.detail_similarity.weight": (5.0, 0.1 / 500),
        f"{slot}.query.weight": (1e-2, 0.1),
        f"{slot}.query.bias": (1e-2, 0.1),
        "head.norm.weight": (1e-2, 0.0),
        "head.norm.bias": (1e-2, 0.0),
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name] == pytest.approx(values), name


@pytest.mark.parametrize(
    ("undecayed", "spared"),
    [
        ("none", set()),
        ("encoder_norms", {f"encoder.{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")}),
        ("encoder_block_norms", {"encoder.1.weight", "encoder.1.bias"}),
        (
            "norms",
            {
                "encoder.1.weight",
                "encoder.1.bias",
                "encoder.2.weight",
                "encoder.2.bias",
                "head.slot.semantic_similarity.1.weight",
                "head.slot.semantic_similarity.1.bias",
                "head.norm.weight",
                "head.norm.bias",
            },
        ),
    ],
)
def test_what_goes_without_decay(undecayed, spared):
    network = Network()
    found = by_name(network, parameter_groups(network, Optimisation(undecayed=undecayed)))
    assert {name for name, (_, decay) in found.items() if decay == 0} == spared


def test_positions_and_queries_go_without_decay():
    network = Network()
    network.encoder.append(nn.Linear(4, 4))
    attention = network.encoder[-1]
    attention.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
    network.encoder[0].pos_embed = nn.Parameter(torch.zeros(1, 4, 4))
    network.head["queries"] = nn.Embedding(5, 4)
    found = by_name(network, parameter_groups(network, Optimisation(undecayed="norms_and_embeddings")))
    norms = by_name(network, parameter_groups(network, Optimisation(undecayed="norms")))
    spared, of_norms = ({name for name, (_, decay) in groups.items() if decay == 0} for groups in (found, norms))
    assert spared - of_norms == {
        "encoder.0.pos_embed",
        "encoder.3.relative_position_bias_table",
        "head.queries.weight",
    }
    assert of_norms < spared


def test_frozen_parameters_are_in_no_group():
    network = Network()
    network.encoder.requires_grad_(False)
    found = by_name(network, parameter_groups(network, Optimisation()))
    assert found.keys() == {name for name, _ in network.named_parameters() if name.startswith("head.")}
    network.requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter"):
        parameter_groups(network, Optimisation())


def test_the_similarity_blocks_of_a_host_are_found():
    host = create_host("segformer-mit-b0", "resfu", num_classes=16)
    groups = {g["name"]: g for g in parameter_groups(host, Optimisation(head_multiplier=10, undecayed="encoder_norms"))}
    assert set(groups) == {"encoder", "encoder/undecayed", "head", "head/similarity"}
    # Three slots of two blocks, each of 15,049 parameters with the published defaults.
    assert sum(parameter.numel() for parameter in groups["head/similarity"]["params"]) == 3 * 2 * 15_049
    found = sum(parameter.numel() for group in groups.values() for parameter in group["params"])
    assert found == sum(parameter.numel() for parameter in host.parameters())


def test_the_similarity_multiplier_is_the_published_gradient_hook_under_sgd():
    """The published code multiplies the gradients by a hook; here the group's learning rate does it, decay included."""
    torch.manual_seed(0)
    ours = Network().double()
    theirs = copy.deepcopy(ours)
    for block in (theirs.head["slot"]["semantic_similarity"], theirs.head["slot"]["detail_similarity"]):
        for parameter in block.parameters():
            parameter.register_hook(lambda gradient: gradient * 50)
    common = {"method": "sgd", "learning_rate": 1e-3, "weight_decay": 0.1, "momentum": 0.9, "undecayed": "none"}
    steppers = []
    for network, multiplier in ((ours, 50.0), (theirs, 1.0)):
        optimizer = create_optimizer(network, Optimisation(similarity_multiplier=multiplier, **common))
        steppers.append((network, optimizer, poly_scheduler(optimizer, Schedule(minimum=1e-4), 6)))
    start = ours.head["slot"]["detail_similarity"].weight.detach().clone()
    for _ in range(5):
        batch = torch.randn(2, 3, 4, 4, dtype=torch.double)
        for network, optimizer, scheduler in steppers:
            optimizer.zero_grad()
            network(batch).pow(3).mean().backward()
            optimizer.step()
            scheduler.step()
    assert (ours.head["slot"]["detail_similarity"].weight - start).abs().max() > 1e-3  # there is something to compare
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12, msg=name)


def test_the_optimisers():
    adamw = create_optimizer(Network(), Optimisation(betas=(0.8, 0.9)))
    assert isinstance(adamw, torch.optim.AdamW)
    assert {group["betas"] for group in adamw.param_groups} == {(0.8, 0.9)}
    sgd = create_optimizer(Network(), Optimisation(method="sgd", momentum=0.5))
    assert isinstance(sgd, torch.optim.SGD)
    assert {group["momentum"] for group in sgd.param_groups} == {0.5}
    with pytest.raises(ValueError, match="method must be 'adamw' or 'sgd', got 'lion'"):
        create_optimizer(Network(), Optimisation(method="lion"))
    with pytest.raises(ValueError, match="undecayed must be"):
        create_optimizer(Network(), Optimisation(undecayed="biases"))


@pytest.mark.parametrize("name", ["learning_rate", "head_multiplier", "similarity_multiplier"])
def test_what_must_be_positive(name):
    with pytest.raises(ValueError, match=f"optimisation.{name} must be above 0, got 0"):
        Optimisation(**{name: 0})
