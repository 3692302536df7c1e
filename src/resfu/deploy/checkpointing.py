"""Train an upsampler without keeping its intermediate results in memory."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from resfu.deploy.forms import Guide
from resfu.deploy.plan import Plan, make_plan
from resfu.upsamplers.base import Upsampler


class Checkpointed(nn.Module):
    """An upsampler that keeps only its inputs between forward and backward.

    The forward pass goes band by band, like `stream`. The backward pass recomputes each band, computes its gradients
    and frees it. Then it does the same for the sums of the statistics, from the last to the first. This costs about one
    additional forward pass. The gradients are those of the upsampler, up to the order of sums. Second derivatives are
    not supported.

    Args:
        upsampler: one of `UPSAMPLERS`, see `stream`; not copied.
    """

    def __init__(self, upsampler: Upsampler) -> None:
        super().__init__()
        self.upsampler = upsampler

    def forward(self, features: Tensor, guidance: Tensor | None = None, size: tuple[int, int] | None = None) -> Tensor:
        """Upsample, see `Upsampler.forward`."""
        guidance, target = self.upsampler.prepared(features, guidance, size)
        if features.numel() == 0:
            return self.upsampler(features, guidance, target)
        plan, guidance = make_plan(self.upsampler, features, guidance, target)
        parameters = dict(self.upsampler.named_parameters())
        out = _Bands.apply(plan, list(parameters), features, guidance, *parameters.values())
        assert isinstance(out, Tensor)
        return out


def checkpointed(up: Upsampler) -> Checkpointed:
    """Wrap an upsampler so that the backward pass recomputes it band by band, which bounds the memory of training.

    Args:
        up: one of `UPSAMPLERS`, with options that `stream` supports. It is not copied.

    Returns:
        A module that is called like `up`, with the same outputs and gradients up to rounding, and bounded peak memory.

    Raises:
        ValueError: for anything but an upsampler. When the module is called, for what `stream` refuses.

    >>> up = resfu.checkpointed(resfu.create_upsampler("sapa", channels=64, guidance_channels=32))
    >>> up(torch.randn(1, 64, 16, 16), torch.randn(1, 32, 64, 64)).shape
    torch.Size([1, 64, 64, 64])
    """
    if not isinstance(up, Upsampler):
        raise ValueError(f"up must be one of resfu.UPSAMPLERS, got {type(up).__name__}.")
    return Checkpointed(up)


class _RecordedGuide(Guide):
    """A guidance whose rows become leaves of the graph when they are read, so that each band has its own gradients."""

    def __init__(self, guidance: Tensor | None, whole: tuple[int, int]) -> None:
        super().__init__(guidance, whole)
        self.leaves: list[tuple[int, int, Tensor]] = []

    def read(self, first: int, last: int) -> Tensor:
        leaf = super().read(first, last).detach().requires_grad_()
        self.leaves.append((first, last, leaf))
        return leaf


class _Bands(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, plan: Plan, names: list[str], features: Tensor, guidance: Tensor | None, *parameters: Tensor
    ) -> Tensor:
        guide = Guide(guidance, plan.form.size)
        shared = plan.form.prepare(features, guide)
        totals = plan.totals(features, guide, shared)
        out = features.new_empty((*features.shape[:2], *plan.size))
        for rows in plan.bands:
            out[:, :, slice(*rows)] = plan.band(rows, features, guide, shared, totals)
        plan.form.finish()
        ctx.plan, ctx.names, ctx.guided = plan, names, guidance is not None
        ctx.save_for_backward(features, *([] if guidance is None else [guidance]), *parameters)
        device = features.device.type
        ctx.autocast = (device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        features, *rest = ctx.saved_tensors
        guidance = rest.pop(0) if ctx.guided else None
        device, dtype, enabled = ctx.autocast
        parameters = [p.detach().requires_grad_(p.requires_grad) for p in rest]
        backward = _Backward(ctx.plan, features, guidance, [p for p in parameters if p.requires_grad])
        # The parameters of the forward pass are not the module's own if `functional_call` put them in.
        values = {f"upsampler.{name}": value for name, value in zip(ctx.names, parameters, strict=True)}
        with torch.enable_grad(), torch.autocast(device, dtype, enabled=enabled):
            of_features, of_guidance, *of_parameters = functional_call(backward, values, grads[0])
        return None, None, of_features, of_guidance, *(of_parameters.pop(0) if p.requires_grad else None for p in rest)


class _Backward(nn.Module):
    """Gradients of the features, the guidance and the parameters, added up band by band."""

    def __init__(self, plan: Plan, features: Tensor, guidance: Tensor | None, parameters: list[Tensor]) -> None:
        super().__init__()
        self.upsampler = plan.form.up
        self.plan, self.trained = plan, parameters
        self.features, self.guidance = features.detach().requires_grad_(), guidance
        self.guidance_grad = None if guidance is None else torch.zeros_like(guidance)

    def forward(self, grad: Tensor) -> list[Tensor | None]:
        """Compute the gradients from the output's gradient."""
        plan, form = self.plan, self.plan.form
        guidance = None if self.guidance is None else self.guidance.detach().requires_grad_()
        shared = form.prepare(self.features, Guide(guidance, form.size))
        leaves = [t.detach().requires_grad_() for t in shared]
        with torch.no_grad():
            totals = plan.totals(self.features, Guide(self.guidance, form.size), leaves)
        totals = [t.requires_grad_() for t in totals]
        wanted = [self.features, *self.trained, *leaves, *totals]
        self.grads: list[Tensor | None] = [None] * len(wanted)
        for rows in plan.bands:
            guide = _RecordedGuide(self.guidance, form.size)
            self._add(plan.band(rows, self.features, guide, leaves, totals), grad[:, :, slice(*rows)], wanted, guide)
        for level in reversed(range(form.levels)):
            of_total = self.grads[len(wanted) - form.levels + level]
            if of_total is None:
                continue
            for rows in plan.all_bands():
                guide = _RecordedGuide(self.guidance, form.size)
                sums = form.sums(level, rows, self.features, guide, leaves, totals[:level])
                if sums is not None:
                    self._add(sums, of_total, wanted, guide)
        return self._through_shared(shared, guidance)

    def _add(self, out: Tensor, grad: Tensor, wanted: list[Tensor], guide: _RecordedGuide) -> None:
        if not out.requires_grad:
            return
        rows = [leaf for _, _, leaf in guide.leaves]
        found = torch.autograd.grad(out, [*wanted, *rows], grad.to(out.dtype), allow_unused=True)
        self._gather(found[: len(wanted)])
        for (first, last, _), part in zip(guide.leaves, found[len(wanted) :], strict=True):
            if part is not None and self.guidance_grad is not None:
                self.guidance_grad[:, :, first:last] += part

    def _gather(self, found: Sequence[Tensor | None]) -> None:
        for n, part in enumerate(found):
            if part is not None:
                known = self.grads[n]
                self.grads[n] = part if known is None else known + part

    def _through_shared(self, shared: Sequence[Tensor], guidance: Tensor | None) -> list[Tensor | None]:
        """Propagate the gradients of the shared tensors to the inputs."""
        count = 1 + len(self.trained)
        pairs = [
            (tensor, grad)
            for tensor, grad in zip(shared, self.grads[count : count + len(shared)], strict=True)
            if tensor.requires_grad and grad is not None
        ]
        if pairs:
            inputs = [self.features, *self.trained, *([] if guidance is None else [guidance])]
            tensors, grads = zip(*pairs, strict=True)
            found = torch.autograd.grad(tensors, inputs, grads, allow_unused=True)
            self._gather(found[:count])
            if guidance is not None and found[-1] is not None and self.guidance_grad is not None:
                self.guidance_grad += found[-1]
        return [self.grads[0], self.guidance_grad, *self.grads[1:count]]
