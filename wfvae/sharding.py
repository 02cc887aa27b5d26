"""Fully sharded training: each process stores a shard of the weights, gradients, EMA and optimizer states of the autoencoder.

The sharding is FSDP2 of torch (`fully_shard`; Zhao et al., arXiv 2304.11277).  The weights of a block are gathered when it runs,
forward and backward, and its gradients are reduced and scattered as soon as they are computed.  The layers outside the blocks (the
first and last convolutions and their norms) hold a few per cent of the weights; they stay gathered from the forward pass to the end
of the backward pass, because the adaptive weights compare gradients at these layers.

Checkpoints hold full tensors, so sharded and other runs write the same files: `gather` makes full tensors, `scatter` shards.
`torch.distributed.checkpoint.state_dict` would name the optimizer states in another way and does not support the EMA.

`fully_shard` is called directly: the plugin of accelerate does nothing on a CPU, shards the discriminator too, and casts the
weights instead of using autocast.
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
    """Moves a module to `device` and shards the weights of the main process over all processes, in place.

    Raises:
        ValueError: there is no process group, there is only one process, or torch is too old
    """
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        raise ValueError(f"trainer.shard=true needs torch 2.6 or newer, found {torch.__version__}") from None
    from torch.distributed.device_mesh import init_device_mesh

    distributed = torch.distributed
    processes = distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
    if processes == 1:
        raise ValueError(
            "trainer.shard=true needs several processes, got one: start more "
            "(`accelerate launch --num_processes N`, `torchrun --nproc-per-node N`), or set trainer.shard=false"
        )
    # the warning is about in-place writes to a view; there are none while gradients are enabled
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (processes,))
    for unit in (*(m for m in module.modules() if isinstance(m, UNITS)), module):
        for tensor in (*unit.parameters(), *unit.buffers()):
            if not is_sharded(tensor):
                tensor.data = tensor.data.to(device).contiguous()  # channels-last weights cannot be sharded
                distributed.broadcast(tensor.data, 0)
        sharded: FSDPModule = fully_shard(unit, mesh=mesh, reshard_after_forward=unit is not module)
    return sharded


@contextmanager
def gradients_aside(module: FSDPModule) -> Iterator[None]:
    """Allows `torch.autograd.grad` at weights outside the blocks, between a forward and its backward pass.

    Without it, FSDP2 takes the first such call for the backward pass and shards these weights again.
    """
    module.set_is_last_backward(False)
    module.set_reshard_after_backward(False, recurse=False)
    try:
        yield
    finally:
        module.set_is_last_backward(True)
        module.set_reshard_after_backward(True, recurse=False)


def is_sharded(value: object) -> TypeGuard[DTensor]:
    """Whether a value is a sharded tensor."""
    return hasattr(value, "full_tensor")


@torch.no_grad()
def local(tensor: Tensor) -> Tensor:
    """The shard of this process, in the same memory; elementwise operations on it are much faster than on a DTensor."""
    return tensor.to_local() if is_sharded(tensor) else tensor


@torch.no_grad()
def clip_gradients(parameters: list[nn.Parameter], limit: float) -> Tensor:
    """`nn.utils.clip_grad_norm_` for sharded parameters; returns the norm over all shards before clipping."""
    gradients = [local(p.grad) for p in parameters if p.grad is not None]
    squares = torch.stack([norm.square() for norm in torch._foreach_norm(gradients)]).sum()
    torch.distributed.all_reduce(squares)
    norm = squares.sqrt()
    torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


@torch.no_grad()
def gather(tree: Any, keep: bool) -> Any:
    """Replaces every sharded tensor in nested dicts and lists by the full tensor; all processes call it together.

    Args:
        tree: dicts and lists of anything; values that are not sharded are returned as they are
        keep: return full tensors on the CPU; otherwise on the meta device, without their values
    """
    if is_sharded(tree):
        return tree.full_tensor().to("cpu" if keep else "meta")
    if isinstance(tree, Mapping):
        return {key: gather(value, keep) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(gather(value, keep) for value in tree)
    return tree


@torch.no_grad()
def scatter(value: Tensor, like: Tensor) -> Tensor:
    """The shard of a full tensor that this process stores, with the layout of `like`; all of it if `like` is not sharded."""
    shard_of_process = torch.empty_like(like)
    if is_sharded(like):  # along the first axis, as `chunk`; the shards of the last processes may be empty
        rank, chunks = like.device_mesh.get_local_rank(), value.chunk(like.device_mesh.size())
        value = chunks[rank] if rank < len(chunks) else value[:0]
    local(shard_of_process).copy_(value)
    return shard_of_process


def scatter_weights(weights: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """A full state dict -> the state dict that `module.load_state_dict` takes on this process."""
    like = module.state_dict()
    return {name: scatter(value, like[name]) if name in like else value for name, value in weights.items()}


def scatter_optimizer(full: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The full state of an optimizer -> the state that `optimizer.load_state_dict` takes on this process."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {
        i: {name: scatter(v, parameters[i]) if v.shape == parameters[i].shape else v for name, v in entries.items()}
        for i, entries in full["state"].items()
    }
    return {**full, "state": state}
