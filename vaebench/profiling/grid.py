"""The cases of the efficiency suite, frames x size x dtype, and those of an earlier record that a run lacks.

The parameters of a case are the condition of its scores, so a record lists its cases without another field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vaebench.frame_size import Size
from vaebench.records import Record

Params = Mapping[str, Any]  # dtype and size, and frames unless the case is the search for the longest video


def cases(dtypes: Sequence[str], frames: Sequence[int], sizes: Sequence[Size], *, largest: bool) -> dict[str, Params]:
    """The id of every case -> its parameters; `largest` adds the search for the longest video."""
    chosen: list[Params] = [{"dtype": d, "frames": f, "size": s} for d in dtypes for f in frames for s in sizes]
    chosen += [{"dtype": d, "size": s} for d in dtypes for s in sizes if largest]
    return {name(case): case for case in chosen}


def name(case: Params) -> str:
    """The id of a case, such as "float32 33x256" or "float32 largest 256"."""
    dtype, size = case["dtype"], case["size"]
    return f"{dtype} {case['frames']}x{size}" if "frames" in case else f"{dtype} largest {size}"


def replacement_refusal(record: Record, cases: Iterable[Params]) -> str:
    """The reason why a record of `cases` may not replace `record`, and the settings of a run that may; "" if no case is lost."""
    new = [dict(case) for case in cases]
    conditions = (dict(score.condition) for score in record.scores.values())
    old = [
        condition for condition in conditions if condition.keys() in ({"dtype", "size"}, {"dtype", "frames", "size"})
    ]
    lost = list(dict.fromkeys(name(case) for case in old if case not in new))
    if not lost:
        return ""
    keys = {"frames": "frames", "sizes": "size", "dtypes": "dtype"}
    settings = [f"{setting}={_joined([*old, *new], key)}" for setting, key in keys.items()]
    settings += ["largest=true"] if any("frames" not in case for case in [*old, *new]) else []
    return (
        f"has cases that this run would delete: {', '.join(lost)}; set {' '.join(settings)}, "
        "or write to another folder with results=DIR"
    )


def _joined(cases: Iterable[Params], key: str) -> str:
    """The distinct values of a parameter, as a setting takes them."""
    return ",".join(dict.fromkeys(str(case[key]) for case in cases if key in case))
