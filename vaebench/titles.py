"""The setting of a record as words: "bundle, 33 frames of 256x256" for the folder name `bundle-33x256`."""

from __future__ import annotations

from typing import Any

from vaebench.records import Record

CLIP_SUITES = ("reconstruction", "blockwise", "latent", "relay")  # their setting follows from the settings of the run
# options in the title
SHOWN = {
    "blockwise": ("lengths", "chunks", "independent"),
    "latent": ("noise", "masks"),
    "relay": ("protocols", "hops", "content", "window"),
}


def setting_title(record: Record) -> str:
    """The setting of `record` for titles of tables and figures; the folder name if the record has no such fields."""
    if record.suite == "efficiency" and record.machine.get("device"):
        threads = record.machine.get("flags", {}).get("threads")
        # on a GPU the threads of the CPU are not part of the setting
        on_cpu = threads and "threads" in record.setting
        return str(record.machine["device"]) + (f", {counted(threads, 'thread')}" if on_cpu else "")
    name, config = record.data.get("name"), record.config
    if record.suite not in CLIP_SUITES or not name or not {"num_frames", "size"} <= config.keys():
        return record.setting
    return ", ".join([str(name), *_clips(config), *_choices(record)])


def _clips(config: dict[str, Any]) -> list[str]:
    frames, size = config["num_frames"], str(config["size"])
    shape = f"{counted(frames, 'frame') if frames else 'all frames'}"
    if config["size"]:
        shape += f" of {size if 'x' in size else f'{size}x{size}'}"
    first = config.get("clips")
    return [shape] + ([f"first {counted(first, 'clip') if first > 1 else 'clip'}"] if first else [])


def _choices(record: Record) -> list[str]:
    """The choices that differ from the defaults."""
    config, words = record.config, []
    if config.get("protocol", "default") != "default":
        words.append(f"protocol {config['protocol']}")
    if config.get("mode") and record.suite != "blockwise":
        words.append(f"mode {config['mode']}")
    words += [f"{name} {config[name]}" for name in ("posterior", "dtype", "seed") if config.get(name)]
    for name, value in config.get("options", {}).items():
        if name in SHOWN.get(record.suite, ()):
            listed = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            words.append(f"{name} {listed or 'none'}")
    return words


def counted(number: int, what: str) -> str:
    """A number with its noun.

    >>> counted(1, "clip"), counted(2, "clip")
    ('1 clip', '2 clips')
    """
    return f"{number} {what}{'s' if number != 1 else ''}"
