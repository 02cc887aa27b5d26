"""The training loop of WF-VAE: two optimizers, EMA, gradient accumulation, exact resume.

A *step* is one iteration of the loop.  `alternating`, as in the released code: once the discriminator has started, even steps train
the autoencoder and odd steps the discriminator, on different clips, so 800k steps are 400k updates of each network.
`simultaneous`: every step trains both on the same clips.

All random numbers and the order of the data (`wfvae.batches`) are functions of (seed, step, index of the clip) only: a run that
was killed and resumed computes the same numbers as an uninterrupted one.

With several processes (`accelerate launch`, `torchrun`), each holds the full model (DDP), or a shard of it (`wfvae.sharding`).
The adaptive weights are those of the batch of all processes; BatchNorm and LCR statistics are those of one process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs, broadcast_object_list
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from wfvae import sharding, state
from wfvae.batches import Batch, Clips, batches
from wfvae.discriminator import PatchDiscriminator3D
from wfvae.losses import Perceptual, adaptive_weight, discriminator_loss, generator_loss
from wfvae.model import WFVAE, Reconstruction
from wfvae.objective import LCRConfig, LMRConfig, LossConfig
from wfvae.passes import Pass, checkpoint_blocks, keep_buffers, named
from wfvae.processes import check_processes
from wfvae.regularizers import LatentMask, local_correlation_loss
from wfvae.schedule import TrainerConfig, learning_rate

Values = dict[str, float]

# how long the other processes wait for the main one, which validates: torch's default of 10 minutes may be too short
VALIDATION = timedelta(hours=6)


@dataclass(frozen=True)
class Hooks:
    """Callbacks of the loop, on the main process only.

    Attributes:
        log: step, values of a training step
        failed: training files that the main process could not read, with reasons
        validate: step, model with its EMA weights -> scores; the first one, negated if lower is better, chooses the best checkpoint
    """

    log: Callable[[int, Values], None] = lambda step, values: None
    failed: Callable[[tuple[str, ...]], None] = lambda reasons: None
    validate: Callable[[int, WFVAE], Values] | None = None


@dataclass(frozen=True)
class Turn:
    """The networks that a step trains, and whether the autoencoder's loss has its adversarial term."""

    generator: bool
    discriminator: bool
    adversarial: bool


def _seed(*parts: int) -> int:
    value = 0
    for part in parts:
        value = (value * 1_000_003 + part + 1) % (2**63 - 1)
    return value


class Trainer:
    """A run: `Trainer(...)` builds networks and optimizers, `resume()` continues from the run's folder, `train()` trains.

    Args:
        model: the autoencoder; it is trained in place
        clips: training clips
        run: folder of the run
        perceptual: LPIPS, needed unless `loss.perceptual` is 0
        cpu: train on the CPU even if there is a GPU

    Raises:
        ValueError: settings that contradict each other, or LPIPS is needed and missing
    """

    def __init__(
        self,
        model: WFVAE,
        clips: Clips,
        run: Path,
        *,
        config: TrainerConfig = TrainerConfig(),  # noqa: B008 (frozen, like the others)
        loss: LossConfig = LossConfig(),  # noqa: B008
        lcr: LCRConfig = LCRConfig(),  # noqa: B008
        lmr: LMRConfig = LMRConfig(),  # noqa: B008
        perceptual: Perceptual | None = None,
        hooks: Hooks = Hooks(),
        cpu: bool = False,
    ) -> None:
        if loss.perceptual and perceptual is None:
            raise ValueError(
                f"loss.perceptual is {loss.perceptual} but there are no LPIPS weights; "
                "get them, or set `loss.perceptual: 0` to train without LPIPS"
            )
        if lcr.weight and config.freeze_encoder:
            raise ValueError(
                f"lcr.weight={lcr.weight} acts on the encoder only, which trainer.freeze_encoder=true does not train: "
                "set lcr.weight=0, or trainer.freeze_encoder=false"
            )
        self.model, self.clips, self.run, self.config = model, clips, run, config
        self.loss, self.lcr, self.lmr, self.perceptual, self.hooks = loss, lcr, lmr, perceptual, hooks
        torch.manual_seed(_seed(config.seed))  # for the weights of the discriminator and the mask token
        waits = InitProcessGroupKwargs(timeout=VALIDATION)
        self.accelerator = Accelerator(mixed_precision=config.precision, cpu=cpu, kwargs_handlers=[waits])
        check_processes(self.accelerator.num_processes)
        if config.freeze_encoder:
            model.encoder.requires_grad_(False)
        if config.checkpoint_activations:
            checkpoint_blocks(model)
        self.passes = Pass(model, LatentMask(model.config.latent_channels, lmr) if lmr.active else None)
        self.discriminator = (
            PatchDiscriminator3D(config.discriminator_layers, config.discriminator_width) if loss.adversarial else None
        )
        self.step, self.best_score, self.files_failed = 0, -math.inf, 0
        self.best = ""  # the name of the best checkpoint
        self._prepare()

    def resume(self) -> None:
        """Continues from the newest checkpoint in `run`, if there is one, and removes unfinished checkpoints of killed processes.

        Raises:
            ValueError: all checkpoints are damaged, or the number of clips per step has changed
        """
        main = self.accelerator.is_main_process
        if main:
            state.sweep(self.run)
        self.accelerator.wait_for_everyone()
        training = state.newest(self.run, warn=main)
        if training is not None:
            self._restore(training)

    def _optimizer(self, module: nn.Module) -> torch.optim.Optimizer:
        config = self.config
        return torch.optim.AdamW(
            [p for p in module.parameters() if p.requires_grad],
            lr=config.learning_rate,
            betas=(0.9, config.beta2),
            weight_decay=config.weight_decay,
        )

    def _prepare(self) -> None:
        """Wraps the networks for all processes, then makes their optimizers and the EMA."""
        accelerator, config = self.accelerator, self.config
        self.prepared: Any
        if config.shard:
            self.prepared = sharding.shard(self.passes, accelerator.device)
        else:
            if config.compile:
                keep_buffers()
            self.prepared = self._distribute(
                torch.compile(self.passes, dynamic=False) if config.compile else self.passes
            )
        self.optimizer = accelerator.prepare(self._optimizer(self.passes))
        self.ema = state.Ema.of(self.passes, config.ema) if config.ema else None
        self.discriminator_optimizer = None
        if self.discriminator is not None:
            self.prepared_discriminator = self._distribute(self.discriminator)
            self.discriminator_optimizer = accelerator.prepare(self._optimizer(self.discriminator))

    def _distribute(self, module: Any) -> Any:
        """DDP without broadcast of buffers: it would change those of BatchNorm between two passes of the discriminator."""
        wrapped = self.accelerator.prepare(module)
        if isinstance(wrapped, DistributedDataParallel):
            wrapped.broadcast_buffers = False  # the attribute: torch 2.13 renamed the argument
        return wrapped

    # ---- the loop ----

    def train(self) -> Values:
        """Trains to the last step.

        Returns:
            the values of the last step, and the scores of its validation

        Raises:
            ValueError: a loss, gradient or weight is NaN or infinite; the optimizer has not used it
            OSError: a checkpoint cannot be written
        """
        values: Values = {}
        stream = self._stream()
        while self.step < self.config.steps:
            started = time.perf_counter()
            torch.manual_seed(_seed(self.config.seed, self.step, self.accelerator.process_index))  # dropout
            values = self._train_step(stream)
            self.step += 1
            values["clips_per_s"] = self._clips_per_step() / (time.perf_counter() - started)
            if self.accelerator.is_main_process:
                self.hooks.log(self.step, values)
            last, before = self.step == self.config.steps, self.best_score
            if self.step % self.config.validate_every == 0 or last:
                values |= self._validate()
            better = self.best_score > before
            if better or self.step % self.config.save_every == 0 or last:
                self.save(better)
        return values

    def _clips_per_step(self) -> int:
        return self.config.batch_size * self.config.gradient_accumulation_steps * self.accelerator.num_processes

    def _stream(self) -> Iterator[Batch]:
        return batches(
            self.clips,
            self.config.batch_size,
            start=self.step * self.config.gradient_accumulation_steps,
            rank=self.accelerator.process_index,
            world=self.accelerator.num_processes,
            workers=self.config.workers,
            pin=self.accelerator.device.type == "cuda",
        )

    def _turn(self) -> Turn:
        """What the current step trains."""
        if self.discriminator is None or self.step < self.config.discriminator_start:
            return Turn(generator=True, discriminator=False, adversarial=False)
        if self.config.order == "simultaneous":
            return Turn(generator=True, discriminator=True, adversarial=True)
        even = self.step % 2 == 0
        return Turn(generator=even, discriminator=not even, adversarial=True)

    def _train_step(self, stream: Iterator[Batch]) -> Values:
        """Gradients of all micro-batches, then the optimizers; returns the values to log, averaged over all processes."""
        turn, rate = self._turn(), learning_rate(self.config, self.step)
        for optimizer in (self.optimizer, self.discriminator_optimizer):
            for group in optimizer.param_groups if optimizer else ():
                group["lr"] = rate
        self.passes.train()
        total: dict[str, Tensor] = {}
        failed = 0
        for i in range(self.config.gradient_accumulation_steps):
            batch = next(stream)
            failed += len(batch.failed)
            if batch.failed and self.accelerator.is_main_process:
                self.hooks.failed(batch.failed)
            terms = self._forward_backward(batch, turn, last=i == self.config.gradient_accumulation_steps - 1)
            for name, value in terms.items():
                total[name] = total.get(name, torch.zeros_like(value)) + value / self.config.gradient_accumulation_steps
        if turn.generator:
            total["gradient_norm"] = self._update(self.optimizer, self.passes)
            if self.ema is not None:
                self.ema.update(self.passes)
        if turn.discriminator and self.discriminator is not None:
            norm = self._update(self.discriminator_optimizer, self.discriminator)
            total["discriminator_gradient_norm"] = norm
        return self._averages(total, failed) | {"learning_rate": rate, "files_failed": float(self.files_failed)}

    def _forward_backward(self, batch: Batch, turn: Turn, last: bool) -> dict[str, Tensor]:
        """Adds the gradients of one micro-batch, the `last` of this step or not; returns the terms of the losses."""
        video = batch.video.to(self.accelerator.device, non_blocking=True)
        noise, hidden = self._draw(video, batch.indices)
        terms: dict[str, Tensor] = {}
        with self._sync(last and turn.generator, self.prepared), torch.set_grad_enabled(turn.generator):
            with self.accelerator.autocast():
                output = named(self.prepared(video, noise, hidden))
            if turn.generator:
                with sharding.gradients_aside(self.prepared) if self.config.shard else nullcontext():
                    loss, terms = self._generator_loss(video, output, turn.adversarial)
                self._backward(loss)
        if turn.discriminator:
            terms |= self._discriminator_forward_backward(video, output.video.detach(), last)
        return terms

    def _discriminator_forward_backward(self, video: Tensor, reconstruction: Tensor, last: bool) -> dict[str, Tensor]:
        with self._sync(last, self.prepared_discriminator):
            with self.accelerator.autocast():
                real, fake = self.prepared_discriminator(video), self.prepared_discriminator(reconstruction)
            loss = discriminator_loss(real.float(), fake.float())
            self._backward(loss)
        return {
            "discriminator": loss.detach(),
            "logits_real": real.mean().detach(),
            "logits_fake": fake.mean().detach(),
        }

    def _backward(self, loss: Tensor) -> None:
        self._check(loss)
        self.accelerator.backward(loss / self.config.gradient_accumulation_steps)

    def _averages(self, total: dict[str, Tensor], failed: int) -> Values:
        """Means over processes, by one reduction and one synchronization; also counts the files that could not be read."""
        counted = torch.tensor(failed, device=self.accelerator.device)
        row = torch.stack([value.float() for value in (counted, *total.values())])
        mean_failed, *means = self.accelerator.reduce(row, "mean").tolist()
        self.files_failed += round(mean_failed * self.accelerator.num_processes)
        return dict(zip(total, means, strict=True))

    def _sync(self, last: bool, module: nn.Module) -> Any:
        """Synchronizes gradients in the last micro-batch of a step only, except with sharding."""
        sharded = self.config.shard and module is self.prepared
        return nullcontext() if last or sharded else self.accelerator.no_sync(module)

    def _draw(self, video: Tensor, indices: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
        """The noise of the posterior, drawn per clip so that it does not depend on the number of processes; and the mask."""
        config, (_, _, frames, height, width) = self.model.config, video.shape
        shape = (
            config.latent_channels,
            1 + (frames - 1) // config.temporal_compression,
            height // 8,
            width // 8,
        )
        noise = torch.stack(
            [
                torch.randn(shape, generator=torch.Generator().manual_seed(_seed(self.config.seed, 1, i)))
                for i in indices
            ]
        ).to(video.device)
        if self.passes.mask is None:
            return noise, None
        generator = torch.Generator().manual_seed(_seed(self.config.seed, 2, self.step))
        return noise, self.passes.mask.draw(noise, generator)

    def _generator_loss(
        self, video: Tensor, output: Reconstruction, adversarial: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        scale = self.accelerator.scaler.get_scale() if self.accelerator.scaler else 1.0
        logits = None
        if adversarial:
            assert self.discriminator is not None
            self.discriminator.requires_grad_(False)  # no gradients of its weights in this pass
            with self.accelerator.autocast():
                logits = self.discriminator(output.video).float()
            self.discriminator.requires_grad_(True)
        with self.accelerator.autocast():
            losses = generator_loss(
                video,
                output,
                self.loss,
                perceptual=self.perceptual,
                fake_logits=logits,
                last_layer=self.model.last_layer,
                reduce=self._average,
                scale=scale,
            )
        total, terms = losses.total, losses.terms
        if self.lcr.weight:
            hinge, correlation = local_correlation_loss(output.posterior.mean, self.lcr)
            layer = self.model.encoder.conv_out.conv.weight
            weight = (
                self.lcr.base
                * self.lcr.weight
                * adaptive_weight(losses.nll, hinge, layer, self.lcr.delta, self.lcr.limit, self._average, scale)
            )
            total = total + weight * hinge
            terms = terms | {
                "lcr": hinge.detach(),
                "lcr_weight": weight,
                "local_correlation": correlation.average.detach(),
            }
        return total, terms

    def _average(self, gradient: Tensor) -> Tensor:
        averaged: Tensor = self.accelerator.reduce(gradient, "mean")
        return averaged

    def _check(self, value: Tensor, name: str = "loss") -> None:
        if not torch.isfinite(value):
            self._stop(f"the {name} is {value.item()}")

    def _stop(self, fault: str) -> NoReturn:
        """Raises the ValueError that ends a training with a non-finite value."""
        good = state.last_good(self.run)
        raise ValueError(
            f"{fault} at step {self.step}; the last good checkpoint is {good or 'none'}. Start a new run"
            f"{f' from it (run=NEW start_from={good})' if good else ''} with a lower trainer.learning_rate, "
            f"trainer.max_grad_norm{'' if self.config.precision == 'bf16' else ' or trainer.precision=bf16'}"
        )

    def _update(self, optimizer: Any, module: nn.Module) -> Tensor:
        """Clips the gradients and does one optimizer step; returns the norm of the gradients before clipping."""
        parameters = [p for p in module.parameters() if p.grad is not None]
        limit = self.config.max_grad_norm or math.inf
        self.accelerator.unscale_gradients(optimizer)  # for fp16
        sharded = self.config.shard and module is self.passes
        norm = (sharding.clip_gradients if sharded else nn.utils.clip_grad_norm_)(parameters, limit)
        if self.config.precision != "fp16":  # the scaler of fp16 skips such a step and lowers the scale
            self._check(norm, "gradient norm")
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm.detach()

    # ---- validation and state ----

    def evaluated(self) -> dict[str, Tensor]:
        """The weights that are validated and exported, which are those of the EMA if there is one; all processes call it together.

        Returns:
            the full state dict of the model on the main process; on others its tensors have no values

        Raises:
            ValueError: a weight is NaN or infinite
        """
        weights = self.ema.weights(self.passes) if self.ema else self.passes.state_dict()
        weights = {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}
        full: dict[str, Tensor] = sharding.gather(weights, self.accelerator.is_main_process)
        if self.accelerator.is_main_process:
            bad = [name for name, value in full.items() if not value.isfinite().all()]
            if bad:
                self._stop(f"the {'EMA' if self.ema else 'weight'} of {bad[0]} is not finite")
        return full

    @torch.no_grad()
    def _validate(self) -> Values:
        """Scores a copy of the model on the main process, while the others wait."""
        if self.hooks.validate is None:
            return {}
        weights = self.evaluated()
        scores: Values = {}
        if self.accelerator.is_main_process:
            with torch.device("meta"):
                model = WFVAE(self.model.config)
            model.load_state_dict(weights, assign=True)
            scores = self.hooks.validate(self.step, model.to(self.accelerator.device).eval())
        (score,) = broadcast_object_list([next(iter(scores.values()), -math.inf)])
        self.best_score = max(self.best_score, score)
        return scores

    def save(self, best: bool = False) -> None:
        """Writes a checkpoint and removes the oldest ones; all processes call it together.

        Args:
            best: this step has the best validation score so far; the checkpoint stores the name of the best one, so that a
                resumed run restores the file `best` if the process was killed before it was written

        Raises:
            ValueError: a weight is NaN or infinite
            OSError: the checkpoint cannot be written
        """
        folder = state.checkpoint_folder(self.run, self.step)
        if best:
            self.best = folder.name
        training = {
            "step": self.step,
            "best_score": self.best_score,
            "best": self.best,
            "clips_per_step": self._clips_per_step(),
            "files_failed": self.files_failed,
            "model": self.passes.state_dict(),
            "ema": self.ema.averages if self.ema else {},
            "optimizer": self.optimizer.state_dict(),
            "discriminator": self.discriminator.state_dict() if self.discriminator else {},
            "discriminator_optimizer": self.discriminator_optimizer.state_dict()
            if self.discriminator_optimizer
            else {},
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
        }
        training = sharding.gather(training, self.accelerator.is_main_process)
        weights = self.evaluated()
        if self.accelerator.is_main_process:
            state.write(folder, self.model.config.to_official(), weights, training)
            if best:
                state.mark_best(self.run, self.best)
            state.prune(self.run, self.config.keep, self.step)

    def _restore(self, training: dict[str, Any]) -> None:
        """Continues from a checkpoint of this run.

        Raises:
            ValueError: the number of clips per step has changed
        """
        config, clips = self.config, self._clips_per_step()
        before = training.get("clips_per_step", clips)
        if before != clips:
            raise ValueError(
                f"{self.run} was trained with {before} clips per step, got {clips} "
                f"({self.accelerator.num_processes} processes x trainer.batch_size={config.batch_size} x "
                f"trainer.gradient_accumulation_steps={config.gradient_accumulation_steps}); "
                "start the same number of processes, or choose another run=DIR"
            )
        self.step, self.best_score = training["step"], training["best_score"]
        self.files_failed = training["files_failed"]
        marked = state.best(self.run)  # checkpoints of older versions do not store it
        self.best = training.get("best", marked.name if marked else "")
        if self.accelerator.is_main_process:
            state.mark_best(self.run, self.best)
        self.passes.load_state_dict(sharding.scatter_weights(training["model"], self.passes))
        if self.ema is not None:
            for name, value in self.ema.averages.items():
                value.copy_(sharding.scatter(training["ema"][name], value))
        self.optimizer.load_state_dict(sharding.scatter_optimizer(training["optimizer"], self.optimizer))
        if self.discriminator is not None and self.discriminator_optimizer is not None:
            self.discriminator.load_state_dict(training["discriminator"])
            self.discriminator_optimizer.load_state_dict(training["discriminator_optimizer"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(training["scaler"])
