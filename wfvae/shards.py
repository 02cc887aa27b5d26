"""Weights that are split over several files: the index that lists them, or the numbers in their names.

    FOLDER/NAME.safetensors.index.json      {"weight_map": {"tensor": "NAME-00001-of-00002.safetensors", ...}}
    FOLDER/NAME-00001-of-00002.safetensors
    FOLDER/NAME-00002-of-00002.safetensors

`.bin` files are split in the same way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

INDEX = ".index.json"
_NUMBERED = re.compile(r"(.+)-(\d+)-of-(\d+)(\.\w+)")


def files_of(file: Path) -> list[Path]:
    """All files of the weights to which `file` (an index, any shard, or a single file) belongs.

    Raises:
        FileNotFoundError: a shard is missing
        ValueError: the index lists no files
    """
    if file.name.endswith(INDEX):
        files = [file.with_name(name) for name in _listed(file)]
    elif parts := _NUMBERED.fullmatch(file.name):
        stem, number, count, suffix = parts.groups()
        files = [file.with_name(f"{stem}-{i:0{len(number)}d}-of-{count}{suffix}") for i in range(1, int(count) + 1)]
    else:
        return [file]
    if missing := [part.name for part in files if not part.is_file()]:
        raise FileNotFoundError(
            f"{file} belongs to weights in {len(files)} files, of which {len(missing)} are missing: "
            f"{', '.join(missing[:8])}; copy them to {file.parent}"
        )
    return files


def first_files(files: Sequence[Path]) -> list[Path]:
    """`files` with only the first shard of each set."""
    return [file for file in files if not (parts := _NUMBERED.fullmatch(file.name)) or int(parts[2]) == 1]


def _listed(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        names = []
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise ValueError(f'{index} should list the files of the weights as {{"weight_map": {{tensor: file name}}}}')
    return names
