"""Finished cases on disk, which make a run resumable and shardable.

A store is a folder `runs/<fingerprint>/` with one `.npz` file per case.  Files are written under a temporary name and renamed:
a kill at any moment leaves a complete file or no file, and several processes can share a folder.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vaebench.files import draft, sweep, write_atomically

Statistics = Mapping[str, NDArray]
SECONDS = (
    "seconds.jsonl"  # a line [case, seconds] per measurement; apart from the statistics, which are the same in each run
)
IDLE = "device_idle.json"
TIMED = re.compile(r'^\[(?P<case>"(?:[^"\\]|\\.)*"), (?P<seconds>\d+\.\d+)\]$', re.MULTILINE)


@dataclass(frozen=True)
class Store:
    """The finished cases in `folder`."""

    folder: Path

    def __post_init__(self) -> None:
        sweep(self.folder)

    def _file(self, case: str) -> Path:
        # the checksum separates ids that differ only in characters that are replaced
        readable = re.sub(r"[^A-Za-z0-9._-]+", "_", case)[-80:]
        return self.folder / f"{readable}-{zlib.crc32(case.encode()):08x}.npz"

    def __contains__(self, case: str) -> bool:
        return self.names(case) is not None

    def names(self, case: str) -> frozenset[str] | None:
        """The names of the stored statistics of `case`; None if there are none, or the file is truncated."""
        try:
            with zipfile.ZipFile(self._file(case)) as arrays:
                return frozenset(name.removesuffix(".npy") for name in arrays.namelist())
        except (OSError, zipfile.BadZipFile):
            return None

    def get(self, case: str) -> dict[str, NDArray] | None:
        """The stored statistics of `case`; None if there are none.  A damaged file is deleted, and the case measured again."""
        file = self._file(case)
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return dict(arrays)
        except FileNotFoundError:
            return None
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error):
            file.unlink(missing_ok=True)  # damaged, such as by a power cut
            return None

    def put(self, case: str, statistics: Statistics) -> None:
        """Store the statistics of `case` atomically.

        Raises:
            OSError: the disk is full or the folder cannot be written
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with draft(self._file(case)) as part, part.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **statistics)
        self._mark(case).unlink(missing_ok=True)

    def add_seconds(self, case: str, seconds: float) -> None:
        """Store how long a measurement of `case` took; processes that share the folder append to the same file.

        Raises:
            OSError: the disk is full or the folder cannot be written
        """
        with (self.folder / SECONDS).open("a", encoding="utf-8") as stream:
            stream.write(f"[{json.dumps(case)}, {seconds:.6f}]\n")

    def seconds(self) -> dict[str, float]:
        """Case -> seconds of all its measurements, for the cases that were timed; a damaged line is left out."""
        try:
            text = (self.folder / SECONDS).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return {}
        total: dict[str, float] = {}
        for match in TIMED.finditer(text):
            case = json.loads(match["case"])
            total[case] = total.get(case, 0.0) + float(match["seconds"])
        return total

    def put_idle(self, idle: Mapping[str, float]) -> None:
        """Store the idle share of the device (`device_idle.Idle`), unless one of more cases is stored.

        Raises:
            OSError: the disk is full or the folder cannot be written
        """
        if idle["cases"] >= self.idle().get("cases", 0):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self.folder / IDLE, json.dumps(dict(idle)))

    def idle(self) -> dict[str, float]:
        """The stored idle share of the device; {} if there is none."""
        try:
            idle: dict[str, float] = json.loads((self.folder / IDLE).read_text())
        except (OSError, ValueError):
            return {}
        return idle

    def _mark(self, case: str) -> Path:
        return self._file(case).with_suffix(".failed.json")

    def fail(self, case: str, file: str, reason: str) -> None:
        """Store the failure of `case`, so that processes that share the folder do not wait for it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._mark(case), json.dumps({"case": case, "file": file, "reason": reason}))

    def failure(self, case: str) -> dict[str, str] | None:
        """The failure of the last attempt to measure `case`; None if it did not fail."""
        try:
            failure: dict[str, str] = json.loads(self._mark(case).read_text())
        except (OSError, ValueError):
            return None
        return failure

    def forget_failure(self, case: str) -> None:
        """Delete the stored failure of `case`, before another attempt."""
        self._mark(case).unlink(missing_ok=True)
