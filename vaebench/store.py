"""Finished cases on disk: what makes a run resumable and shardable.

A store is a folder `runs/<fingerprint>/` with one `.npz` per case.  Files are written beside their place and renamed into
it, so a kill at any moment leaves either a whole case or none, and processes that share a folder never disturb each other.
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


@dataclass(frozen=True)
class Store:
    folder: Path

    def __post_init__(self) -> None:
        sweep(self.folder)

    def _file(self, case: str) -> Path:
        # readable where it can be, unique where it must be: two ids may differ only in characters a file name lacks
        readable = re.sub(r"[^A-Za-z0-9._-]+", "_", case)[-80:]
        return self.folder / f"{readable}-{zlib.crc32(case.encode()):08x}.npz"

    def __contains__(self, case: str) -> bool:
        return self.names(case) is not None

    def names(self, case: str) -> frozenset[str] | None:
        """The names of what was kept of `case`, from the index of its file; None if nothing was, or the file was cut short."""
        try:
            with zipfile.ZipFile(self._file(case)) as arrays:
                return frozenset(name.removesuffix(".npy") for name in arrays.namelist())
        except (OSError, zipfile.BadZipFile):
            return None

    def get(self, case: str) -> dict[str, NDArray] | None:
        """What was kept of `case`; None if nothing was, or if the file is damaged (it will be measured again)."""
        file = self._file(case)
        try:
            with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                return dict(arrays)
        except FileNotFoundError:
            return None
        except (ValueError, EOFError, zipfile.BadZipFile, zlib.error):
            file.unlink(missing_ok=True)  # damaged by a dying machine: as if it had never been
            return None

    def put(self, case: str, statistics: Statistics) -> None:
        """Keep `statistics` of `case`, all or nothing; OSError if the disk is full or the folder cannot be written."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with draft(self._file(case)) as part, part.open("wb") as stream:
            np.savez(stream, allow_pickle=False, **statistics)
        self._mark(case).unlink(missing_ok=True)

    def _mark(self, case: str) -> Path:
        return self._file(case).with_suffix(".failed.json")

    def fail(self, case: str, file: str, reason: str) -> None:
        """Remember that `case` was tried and failed, so that processes that share the folder know that it is done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._mark(case), json.dumps({"case": case, "file": file, "reason": reason}))

    def failure(self, case: str) -> dict[str, str] | None:
        """How `case` failed when it was last tried; None if it did not."""
        try:
            said: dict[str, str] = json.loads(self._mark(case).read_text())
        except (OSError, ValueError):
            return None
        return said

    def forget_failure(self, case: str) -> None:
        """`case` is about to be tried again."""
        self._mark(case).unlink(missing_ok=True)
