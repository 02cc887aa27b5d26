"""Progress of long loops on stderr: a bar with the remaining time on a terminal, else one line per part and minute.

Logs of CI, srun and nohup keep every character that is printed, so a bar would fill them.  There, a line appears when a part of the
work ends (a VAE, say) and at most once a minute before that.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

EVERY_S = 60.0  # least time between two lines about the same part


class Progress:
    """Counts steps and shows them.  Use it in a `with` block, or call `close`.

    Args:
        title: of the whole work, such as the name of the suite
        total: number of steps, including those done before
        unit: plural name of a step
        done: steps that were done before, such as by an interrupted run; they do not count for the speed
        quiet: show nothing, such as in all processes but the first
        stream: stderr by default
        clock: seconds, for tests
    """

    def __init__(
        self,
        title: str,
        total: int,
        unit: str,
        *,
        done: int = 0,
        quiet: bool = False,
        stream: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = self.before = done
        self.stream, self.clock = stream or sys.stderr, clock
        self.quiet = quiet or total <= done
        self.about = ""  # the current part, or values such as the loss
        self.start = self.printed = clock()
        self.bar: Any = None
        if not self.quiet and self.stream.isatty():
            from tqdm import tqdm

            self.bar = tqdm(total=total, initial=done, desc=title, unit=f" {unit}", file=self.stream, leave=None)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def update(self, steps: int = 1) -> None:
        """Count finished steps."""
        self.done += steps
        if self.bar is not None:
            self.bar.update(steps)
        elif self.clock() - self.printed >= EVERY_S:
            self._print(self.about)

    def expect(self, steps: int) -> None:
        """Raise the total if fewer than `steps` remain, such as when cases are measured again."""
        self.total = max(self.total, self.done + steps)
        if self.bar is not None:
            self.bar.total = self.total

    def show(self, about: str) -> None:
        """Set the text beside the count: the current part, or values such as the loss."""
        self.about = about
        if self.bar is not None:
            self.bar.set_postfix_str(about, refresh=False)

    @contextmanager
    def part(self, name: str, failed: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """A part of the work; without a terminal, its end is a line if it had steps, which says whether all of it `failed`."""
        self.show(name)
        if self.bar is not None:
            self.bar.refresh()
        before = self.done
        yield
        if self.bar is None and self.done > before:
            self._print(f"{name} {'failed' if failed() else 'finished'}")

    def close(self) -> None:
        """Finish the bar; an inner one disappears."""
        if self.bar is not None:
            self.bar.close()

    def _print(self, about: str) -> None:
        if self.quiet:
            return
        now = self.clock()
        self.printed = now
        count = f"{self.done} of {self.total} {self.unit}"
        times = [duration(now - self.start)]
        if self.before < self.done < self.total:
            left = (now - self.start) / (self.done - self.before) * (self.total - self.done)
            times.append(f"about {duration(left)} left")
        print(
            f"{self.title}: {count}, {', '.join(times)}{f' ({about})' if about else ''}", file=self.stream, flush=True
        )


def duration(seconds: float) -> str:
    """
    >>> [duration(s) for s in (0.4, 59.6, 61, 3600, 93784)]
    ['0 s', '1 min', '1 min', '1 h 0 min', '26 h 3 min']
    """
    minutes = round(seconds / 60)
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
