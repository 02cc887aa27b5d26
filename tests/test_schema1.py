"""Records of schema 1 are read as schema 2, with the numbers they had."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.records import record
from vaebench import records
from vaebench.schema1 import upgraded


def score(value: float | None, note: str = "") -> dict[str, Any]:
    return {"value": value, "unit": "", "better": "lower", "n": 3, "stderr": 0.1, "low": None, "high": None, "signed": False,
            "note": note}  # fmt: skip


def old(suite: str, scores: dict[str, Any], absent: dict[str, str] | None = None) -> dict[str, Any]:
    made = record(suite, "setting", "toy/a", {})
    data = {**vars(made), "schema": 1, "suite_version": 1, "scores": scores, "absent": absent or {}}
    del data["columns"]
    return data


@pytest.mark.parametrize(
    ("suite", "key", "metric", "condition", "new_key"),
    [
        ("reconstruction", "psnr", "psnr", {}, "psnr"),
        ("blockwise", "psnr@independent-16", "psnr", {"mode": "independent-16"}, "psnr@independent-16"),
        (
            "efficiency",
            "encode_s@float32 5x64",
            "encode_s",
            {"dtype": "float32", "frames": 5, "size": 64},
            "encode_s@float32 5x64",
        ),
        (
            "efficiency",
            "largest_frames@float32 largest 64",
            "largest_frames",
            {"dtype": "float32", "size": 64},
            "largest_frames@float32 64 px",
        ),
    ],
)
def test_what_was_in_a_key_becomes_fields(
    suite: str, key: str, metric: str, condition: dict[str, str | int], new_key: str, tmp_path: Path
):
    file = tmp_path / "old.json"
    file.write_text(json.dumps(old(suite, {key: score(1 / 3, "a note")})))
    ((found_key, found),) = records.read(file).scores.items()
    assert (found_key, found.metric, found.condition, found.status) == (new_key, metric, condition, "ok")
    assert (found.value, found.stderr, found.n, found.note) == (1 / 3, 0.1, 3, "a note")


@pytest.mark.parametrize(
    ("note", "status"),
    [
        ("out of memory (33x512x512 float32)", "out of memory"),
        ("the VAE gives no posterior variance", "unavailable"),
        ("needs 3 frequencies", "undefined"),
        ("needs 10 videos", "too few clips"),
    ],
)
def test_the_reason_of_a_missing_value_becomes_its_status(note: str, status: str):
    assert upgraded(old("x", {"kl": score(None, note)}))["scores"]["kl"]["status"] == status


def test_a_list_of_unavailable_metrics_becomes_one_entry_each():
    absent = upgraded(old("efficiency", {}, {"encode_joules, decode_joules": "no NVML"}))["absent"]
    assert absent == {"encode_joules": "no NVML", "decode_joules": "no NVML"}


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"encode_s@5": score(1.0)}, "scores.encode_s@5 should end in a case such as 'float32 33x256'"),
        ([], r"scores should be an object \{\.\.\.\}, not \[\]"),
        ({"psnr": 31}, r"scores\.psnr should be an object \{\.\.\.\}, not 31"),
        ({"psnr": {**score(1.0), "unit": 3}}, r"scores\.psnr\.unit should be a string, not 3"),
    ],
)
def test_an_invalid_record_of_schema_1_is_named_by_file_and_field(scores: Any, message: str, tmp_path: Path):
    file = tmp_path / "old.json"
    file.write_text(json.dumps(old("efficiency", scores)))
    with pytest.raises(ValueError, match=rf"old\.json is not a record of vaebench: {message}"):
        records.read(file)
