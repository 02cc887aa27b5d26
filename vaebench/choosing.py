"""The choice of the VAEs of a run: those that can be measured, and the reasons why others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import adapters
from adapters import ResolvedVAE
from vaebench.config import RunConfig
from vaebench.evaluation import explain
from vaebench.outcome import Outcome
from vaebench.plugins import did_you_mean
from vaebench.records import Failure

if TYPE_CHECKING:
    from vaebench.suite import Suite


def choose(config: RunConfig, suite: Suite[Any], outcome: Outcome) -> list[ResolvedVAE]:
    """The VAEs to run; those without weights go to `outcome.not_ready`, those with unreadable weights to `outcome.failed`.

    Raises:
        ValueError: a VAE or mode is unknown
    """
    if config.vaes is not None and not config.vaes:
        raise ValueError(
            "vaes=[] is an empty list: name at least one VAE, or remove the setting to run all VAEs that are ready"
        )
    names = config.vaes if config.vaes is not None else suite.default_vaes(adapters.names())
    requested = [found for name in dict.fromkeys(names) if (found := _resolved(name, config, suite, outcome))]
    modes = {mode for candidate in requested for mode in candidate.spec.modes}
    if requested and config.mode and config.mode not in modes:
        raise ValueError(
            f"no mode {config.mode!r}{did_you_mean(config.mode, sorted(modes))} (available: {', '.join(sorted(modes))})"
        )
    chosen = []
    for candidate in requested:
        if refusal := suite.refusal(candidate.spec):
            outcome.not_ready[candidate.name] = refusal
        elif config.mode and config.mode not in (available := candidate.spec.modes):
            outcome.not_ready[candidate.name] = f"has no mode {config.mode!r} (available: {', '.join(available)})"
        else:
            chosen.append(candidate)
    return chosen


def _resolved(name: str, config: RunConfig, suite: Suite[Any], outcome: Outcome) -> ResolvedVAE | None:
    """The VAE called `name`, with the digests of its weights; None if they cannot be read, and the other VAEs run."""
    try:
        candidate = adapters.resolve(name, config.weights)
        if not suite.needs_weights:
            return candidate
        if not candidate.unavailable:
            _hash_weights(candidate)
            return candidate
        outcome.not_ready[name] = candidate.unavailable
    except FileNotFoundError as error:  # of released weights, or of a user checkpoint that is not trained yet
        outcome.not_ready[name] = str(error)
    except adapters.UnreadableCheckpoint as error:
        if config.fail_fast:
            raise
        outcome.failed.append((name, Failure(name, "", explain(error))))
    return None


def _hash_weights(candidate: ResolvedVAE) -> None:
    """Raises adapters.UnreadableCheckpoint if a file of the weights cannot be read."""
    try:
        _ = candidate.weights, candidate.config_sha256
    except (ValueError, OSError) as error:
        raise adapters.UnreadableCheckpoint(str(error)) from error


def check_distinct(candidates: Sequence[ResolvedVAE]) -> None:
    """Raises ValueError if two names refer to the same checkpoint: both would write the same record."""
    names: dict[str, str] = {}
    for candidate in candidates:
        if candidate.label in names:
            first = names[candidate.label]
            raise ValueError(
                f"{first} and {candidate.name} are the same checkpoint, {candidate.label}: remove one of them"
            )
        names[candidate.label] = candidate.name
