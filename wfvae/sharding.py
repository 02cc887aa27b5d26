"""Fully sharded training: each process keeps its part of every weight, gradient, average and moment of the autoencoder.

torch's FSDP2 does it (`fully_shard`; Zhao et al., arXiv 2304.11277).  A block's weights are put together when it runs, forward
and backward, and its gradients are averaged and dealt out again as soon as they stand.  What lies outside the blocks, the first
and last convolutions and their norms, is a few per cent; it stays whole from the forward pass to the end of the backward pass,
so that the adaptive weights find the layers at which they compare gradients.

Checkpoints hold whole tensors, so those of sharded and of other runs are the same files; `whole` and `part` are the doors.
They are used instead of `torch.distributed.checkpoint.state_dict`, which would name the moments of the optimiser in another
way and knows no averages.

`fully_shard` itself and not accelerate's plugin for it: that one does nothing on a CPU, would shard the discriminator too, and
replaces autocast by casting the weights.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

from wfvae.blocks import Attention, Downsample, ResnetBlock, TimeDownsample, TimeUpsample, Upsample

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

UNITS = (ResnetBlock, Attention, Downsample, TimeDownsample, TimeUpsample, Upsample)


def shard(module: nn.Module, device: torch.device) -> FSDPModule:
    """Moves a module to `device`, leaving on each process its part of the main process's weights; in place.

    Needs a process group.  ValueError if there is none, or nobody to share with, or torch is too old.
    """
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        raise ValueError(f"trainer.shard needs torch 2.6 or newer, this is {torch.__version__}") from None
    from torch.distributed.device_mesh import init_device_mesh

    distributed = torch.distributed
    processes = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    if processes == 1:
        raise ValueError(
            "trainer.shard shares the weights among processes and there is one only: start several "
            "(`accelerate launch --num_processes N`, `torchrun --nproc-per-node N`), or say trainer.shard=false"
        )
    # it warns of views, into which somebody might write: here nobody does while gradients are on
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (processes,))
    for unit in (*(m for m in module.modules() if isinstance(m, UNITS)), module):
        for tensor in (*unit.parameters(), *unit.buffers()):
            if not is_part(tensor):
                tensor.data = tensor.data.to(device).contiguous()  # channels-last weights cannot be sharded
                distributed.broadcast(tensor.data, 0)
        sharded: FSDPModule = fully_shard(unit, mesh=mesh, reshard_after_forward=unit is not module)
    return sharded


@contextmanager
def gradients_aside(module: FSDPModule) -> Iterator[None]:
    """Inside, between a forward and its backward pass, `torch.autograd.grad` can be asked for weights outside the blocks.

    Without it the first such question would count as the backward pass, after which those weights are no longer whole.
    """
    module.set_is_last_backward(False)
    module.set_reshard_after_backward(False, recurse=False)
    try:
        yield
    finally:
        module.set_is_last_backward(True)
        module.set_reshard_after_backward(True, recurse=False)


def is_part(value: object) -> TypeGuard[DTensor]:
    return hasattr(value, "full_tensor")


@torch.no_grad()
def local(tensor: Tensor) -> Tensor:
    """What of a tensor is on this process, in the same memory.  Work on each element is much faster so."""
    return tensor.to_local() if is_part(tensor) else tensor


@torch.no_grad()
def clip_gradients(parameters: list[nn.Parameter], limit: float) -> Tensor:
    """`nn.utils.clip_grad_norm_` of sharded parameters: the norm is that of all parts together, and so is the limit."""
    gradients = [local(p.grad) for p in parameters if p.grad is not None]
    squares = torch.stack([norm.square() for norm in torch._foreach_norm(gradients)]).sum()
    torch.distributed.all_reduce(squares)
    norm = squares.sqrt()
    torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


@torch.no_grad()
def whole(tree: Any, keep: bool) -> Any:
    """Dicts and lists of anything, with every sharded tensor put together: on the CPU where `keep`, without content elsewhere.

    All processes call it together.  What is not sharded passes through.
    """
    if is_part(tree):
        return tree.full_tensor().to("cpu" if keep else "meta")
    if isinstance(tree, Mapping):
        return {key: whole(value, keep) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(whole(value, keep) for value in tree)
    return tree


@torch.no_grad()
def part(value: Tensor, like: Tensor) -> Tensor:
    """Of a whole tensor, what this process keeps, cut and laid out in memory as `like`; all of it if `like` is not sharded."""
    found = torch.empty_like(like)
    if is_part(like):  # cut along the first axis, as `chunk` does; there may be nothing left for the last processes
        mine, chunks = like.device_mesh.get_local_rank(), value.chunk(like.device_mesh.size())
        value = chunks[mine] if mine < len(chunks) else value[:0]
    local(found).copy_(value)
    return found


def parts(weights: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """A whole state dict -> what of it `module.load_state_dict` takes on this process."""
    like = module.state_dict()
    return {name: part(value, like[name]) if name in like else value for name, value in weights.items()}


def optimizer_parts(moments: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The whole state of an optimiser -> what of it `optimizer.load_state_dict` takes on this process."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    found = {
        i: {name: part(v, parameters[i]) if v.shape == parameters[i].shape else v for name, v in entries.items()}
        for i, entries in moments["state"].items()
    }
    return {**moments, "state": found}
