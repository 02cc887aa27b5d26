"""Upgrades records of schema 1, which has conditions inside score keys and statuses inside notes, to schema 2."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vaebench.typed import typed

# metrics in the tables of suites that do not show all metrics
COLUMNS = {
    "efficiency": [
        *("encode_s", "encode_frames_per_s", "encode_peak_bytes"),
        *("decode_s", "decode_frames_per_s", "decode_peak_bytes"),
        "largest_frames",
    ],
    "diffusability": [
        *("denoising_loss", "gaussian_loss", "fvd16", "fvd16_floor", "fvd16_vs_rebuilt", "kvd16"),
        *("is_tgan_1split", "is_styleganv_10split", "is_debiased"),
        *("effective_rank", "dead_channels", "slope_space", "slope_time"),
    ],
}
# start of the note of a score without value -> status; all other notes mean "too few clips"
STATUS = {
    "out of memory": "out of memory",
    "the VAE gives no posterior variance": "unavailable",
    "needs 3 frequencies": "undefined",
    "largest over smallest deviation of a channel": "undefined",
}


def upgraded(data: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object of a record, schema 1 -> schema 2.  Numbers do not change.

    Raises:
        ValueError: a field is invalid in schema 1; the message names it
    """
    suite, objects = data.get("suite"), dict[str, dict[str, Any]]
    scores = {}
    for key, score in typed(objects, data.get("scores"), "scores").items():
        upgrade = {**score, **_named(str(suite), key), "status": _status(score)}
        scores[_renamed(key)] = upgrade
    absent = {
        name: reason
        for names, reason in typed(dict[str, str], data.get("absent"), "absent").items()
        for name in names.split(", ")
    }
    others = {key: value for key, value in data.items() if key != "suite_version"}  # replaced by the fingerprint
    return {**others, "scores": scores, "absent": absent, "columns": COLUMNS.get(str(suite), []), "schema": 2}


def _named(suite: str, key: str) -> dict[str, Any]:
    """Metric and condition of a key: "psnr", "psnr@tiled", "encode_s@float32 5x64" or "largest_frames@float32 largest 64"."""
    metric, _, label = key.partition("@")
    if not label:
        return {"metric": metric, "condition": {}}
    if suite == "blockwise":
        return {"metric": metric, "condition": {"mode": label}}
    case = re.fullmatch(r"(\S+) (?:largest (\d+)|(\d+)x(\d+))", label)
    if case is None:
        raise ValueError(f"scores.{key} should end in a case such as 'float32 33x256'")
    dtype, largest, frames, size = case.groups()
    shape = {"size": int(largest)} if largest else {"frames": int(frames), "size": int(size)}
    return {"metric": metric, "condition": {"dtype": dtype, **shape}}


def _renamed(key: str) -> str:
    return re.sub(r" largest (\d+)$", r" \1 px", key)


def _status(score: Mapping[str, Any]) -> str:
    if score.get("value") is not None:
        return "ok"
    note = str(score.get("note", ""))
    return next((status for start, status in STATUS.items() if note.startswith(start)), "too few clips")
