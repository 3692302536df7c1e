"""The optimiser and its parameter groups: learning-rate multipliers, and parameters without weight decay."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)
_SIMILARITY_BLOCKS = frozenset({"semantic_similarity", "detail_similarity"})
# Position parameters that are not an nn.Embedding: those of Swin Transformer and ViT in transformers and timm.
_POSITIONS = frozenset({"relative_position_bias_table", "pos_embed"})

Undecayed = Literal["none", "encoder_norms", "encoder_block_norms", "norms", "norms_and_embeddings"]


@dataclass(frozen=True)
class Optimisation:
    """The optimiser, and its settings for each part of the network.

    Args:
        method: "adamw" or "sgd".
        learning_rate: learning rate of the encoder; the multipliers below apply to it.
        weight_decay: weight decay of every parameter that `undecayed` does not name.
        momentum: of SGD.
        betas: of AdamW.
        head_multiplier: factor for the learning rate of everything outside the encoder, including upsamplers.
            SegFormer's recipe has 10.
        similarity_multiplier: additional factor for the gradient step of ReSFU's two similarity blocks. The published
            configurations have 500. With SGD it has the same effect as multiplying the gradient by 500; weight decay
            is not multiplied. AdamW cancels a constant factor of the gradient, so with AdamW the published 500
            corresponds to 1 here.
        undecayed: the parameters without weight decay: "none", "encoder_norms", "encoder_block_norms" (SegFormer's
            recipe: the head and the norms at the encoder's outputs, `output_norms`, keep the decay), "norms" or
            "norms_and_embeddings" (MaskFormer's recipe: also tables of relative positions, position embeddings and
            query embeddings).

    Raises:
        ValueError: for a learning rate or multiplier that is not positive, or a negative weight decay or momentum.
    """

    method: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 6e-5
    weight_decay: float = 0.01
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    head_multiplier: float = 1.0
    similarity_multiplier: float = 1.0
    undecayed: Undecayed = "norms"

    def __post_init__(self) -> None:
        for name in ("learning_rate", "head_multiplier", "similarity_multiplier"):
            if not getattr(self, name) > 0:
                raise ValueError(f"optimisation.{name} must be above 0, got {getattr(self, name)}.")
        for name in ("weight_decay", "momentum"):
            if getattr(self, name) < 0:
                raise ValueError(f"optimisation.{name} must not be negative, got {getattr(self, name)}.")


def parameter_groups(network: nn.Module, optimisation: Optimisation, encoder: str = "encoder.") -> list[dict[str, Any]]:
    """Sort the trainable parameters of a host into groups for an optimiser.

    Args:
        network: a host.
        optimisation: multipliers and decay.
        encoder: beginning of the names of the encoder's parameters; all others belong to the head.

    Returns:
        Groups in order of first appearance, each with "name", "params", "lr", "weight_decay" and
        "gradient_multiplier". No group is empty.

    Raises:
        ValueError: when no parameter is trainable.
    """
    groups: dict[str, dict[str, Any]] = {}
    norms, embeddings = _owned_by(network, _NORMS), _owned_by(network, (nn.Embedding,))
    output_norms = getattr(dict(network.named_modules()).get(encoder.rstrip(".")), "output_norms", ())
    outputs = {id(p) for norm in output_norms for p in norm.parameters()}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        in_encoder = name.startswith(encoder)
        in_similarity = not _SIMILARITY_BLOCKS.isdisjoint(name.split("."))
        decayed = not _spared(
            optimisation.undecayed,
            in_encoder,
            is_norm=id(parameter) in norms,
            is_output=id(parameter) in outputs,
            is_embedding=id(parameter) in embeddings or name.rpartition(".")[2] in _POSITIONS,
        )
        label = ("encoder" if in_encoder else "head") + "/similarity" * in_similarity + "/undecayed" * (not decayed)
        if label not in groups:
            multiplier = optimisation.similarity_multiplier if in_similarity else 1.0
            head = 1.0 if in_encoder else optimisation.head_multiplier
            groups[label] = {
                "name": label,
                "params": [],
                "lr": optimisation.learning_rate * head * multiplier,
                # Only the gradient is multiplied, not the decay: lr m (g + (wd / m) w) = lr (m g + wd w).
                "weight_decay": optimisation.weight_decay / multiplier if decayed else 0.0,
                "gradient_multiplier": multiplier,
            }
        groups[label]["params"].append(parameter)
    if not groups:
        raise ValueError("the network has no trainable parameter: nothing is left to train once all of it is frozen.")
    return list(groups.values())


def create_optimizer(
    network: nn.Module, optimisation: Optimisation, encoder: str = "encoder."
) -> torch.optim.Optimizer:
    """Build the optimiser over `parameter_groups`.

    Args:
        network: a host.
        optimisation: method, learning rate, decay and multipliers.
        encoder: see `parameter_groups`.

    Returns:
        AdamW or SGD.

    Raises:
        ValueError: for an unknown method or a network without trainable parameters.
    """
    groups = parameter_groups(network, optimisation, encoder)
    if optimisation.method == "adamw":
        return torch.optim.AdamW(groups, lr=optimisation.learning_rate, betas=optimisation.betas)
    if optimisation.method == "sgd":
        return torch.optim.SGD(groups, lr=optimisation.learning_rate, momentum=optimisation.momentum)
    raise ValueError(f"optimisation.method must be 'adamw' or 'sgd', got {optimisation.method!r}.")


def _owned_by(network: nn.Module, kinds: tuple[type[nn.Module], ...]) -> set[int]:
    """The ids of the parameters that belong directly to modules of the given classes."""
    return {id(p) for module in network.modules() if isinstance(module, kinds) for p in module.parameters(False)}


def _spared(undecayed: str, in_encoder: bool, is_norm: bool, is_output: bool, is_embedding: bool) -> bool:
    match undecayed:
        case "none":
            return False
        case "encoder_norms":
            return is_norm and in_encoder
        case "encoder_block_norms":
            return is_norm and in_encoder and not is_output
        case "norms":
            return is_norm
        case "norms_and_embeddings":
            return is_norm or is_embedding
        case _:
            raise ValueError(
                f"optimisation.undecayed must be one of {', '.join(get_args(Undecayed))}, got {undecayed!r}."
            )
