"""The clips that a run saves, for `keep` and `keep_video`: 3 (the first three), ids of clips, worst:3 (the worst scores)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vaebench.plugins import did_you_mean

EXPECTED = "a number of clips, ids of clips, or worst:N"


@dataclass(frozen=True)
class Keep:
    """A parsed `keep` setting; the parts add up."""

    first: int = 0
    worst: int = 0
    ids: tuple[str, ...] = ()
    setting: str = "keep"  # its name in messages

    def chosen(self, clips: Sequence[str]) -> set[str]:
        """The ids that are known before the run: the first clips, and those that are named.

        A clip may be named by the last part of its id, if no other clip has the same one.

        Raises:
            ValueError: there is no such clip, or several have this name
        """
        chosen = set(clips[: self.first])
        for name in self.ids:
            matches = [name] if name in clips else [clip for clip in clips if clip.rpartition("/")[2] == name]
            if len(matches) != 1:
                reason = f"several clips have this name: {', '.join(matches)}" if matches else "no clip has this id"
                names = [*clips, *(clip.rpartition("/")[2] for clip in clips)]
                raise ValueError(f"{self.setting}={name}: {reason}{'' if matches else did_you_mean(name, names)}")
            chosen.add(matches[0])
        return chosen

    def worst_of(self, scores: Mapping[str, float], better: str) -> list[str]:
        """The ids with the worst scores, worst first.

        Args:
            scores: clip id -> its score
            better: "higher" or "lower"
        """
        sign = 1 if better == "higher" else -1
        return sorted(scores, key=lambda clip: (sign * scores[clip], clip))[: self.worst]


def parse(words: Sequence[str], setting: str = "keep") -> Keep:
    """Parse the items of the setting.

    Raises:
        ValueError: an item is negative, or `worst:` has no number
    """
    first, worst, ids = 0, 0, list[str]()
    for word in words:
        kind, colon, number = word.partition(":")
        if word.isdecimal():
            first = int(word)
        elif colon and kind == "worst" and number.isdecimal():
            worst = int(number)
        elif (colon and kind == "worst") or word.lstrip("-").isdecimal():
            raise ValueError(f"{setting}={word} should be {EXPECTED}")
        else:
            ids.append(word)
    return Keep(first, worst, tuple(ids), setting)
