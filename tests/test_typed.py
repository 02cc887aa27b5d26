"""What is read from a file has the declared type, or the message names the field."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from vaebench.typed import members, read_json, typed


@dataclass
class Inner:
    value: float | None
    better: Literal["higher", "lower"]


@dataclass
class Outer:
    name: str
    inner: dict[str, Inner]
    counts: list[int] = field(default_factory=list)
    free: Any = None


GOOD = {"name": "x", "inner": {"psnr": {"value": 3, "better": "higher"}}, "counts": [1, 2]}


def test_dataclasses_are_built_at_every_level():
    assert typed(Outer, GOOD, "") == Outer("x", {"psnr": Inner(3, "higher")}, [1, 2])
    assert typed(Outer, {**GOOD, "free": [object]}, "").free == [object]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 5}, "name should be a string, not 5"),
        ({"inner": []}, "inner should be an object {...}, not []"),
        ({"inner": {"psnr": 3}}, "inner.psnr should be an object {...}, not 3"),
        ({"inner": {"psnr": {"value": "31", "better": "higher"}}}, 'inner.psnr.value should be a finite number, not "31"'),
        ({"inner": {"psnr": {"value": True, "better": "higher"}}}, "inner.psnr.value should be a finite number, not true"),
        ({"inner": {"psnr": {"value": math.inf, "better": "higher"}}}, "inner.psnr.value should be a finite number"),
        ({"inner": {"psnr": {"value": 10**400, "better": "higher"}}}, "inner.psnr.value should be a finite number"),
        ({"inner": {"psnr": {"value": 1}}}, "inner.psnr.better is missing"),
        ({"inner": {"psnr": {"value": 1, "better": "up"}}}, 'inner.psnr.better should be one of higher, lower, not "up"'),
        ({"inner": {"psnr": {"value": 1, "better": []}}}, "inner.psnr.better should be one of higher, lower, not []"),
        ({"counts": 3}, "counts should be a list [...], not 3"),
        ({"counts": [1, 2.5]}, "counts[1] should be a whole number, not 2.5"),
        ({"counts": [True]}, "counts[0] should be a whole number, not true"),
        ({"extra": 1}, "extra is not a field of a outer"),
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_named_by_its_field(change: dict[str, Any], message: str):
    with pytest.raises(ValueError) as reason:  # noqa: PT011 (the text is compared below)
        typed(Outer, {**GOOD, **change}, "")
    assert str(reason.value).startswith(message)


def test_members_may_stand_among_others_and_must_be_there():
    members({"a": int}, {"a": 1, "b": "x"}, "vae")
    with pytest.raises(ValueError, match=r"vae\.a is missing"):
        members({"a": int}, {"b": 1}, "vae")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1]", "should be an object"),
        (b'{"a": NaN}', "NaN is not a finite number"),
        (b'{"a": -Infinity}', "-Infinity is not a finite number"),
        (b'{"a": "\xff"}', "decode"),
        (b"[" * 100_000, "nested too deeply"),
        (b"", "Expecting value"),
    ],
)
def test_a_file_that_holds_no_object_is_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "x.json")
