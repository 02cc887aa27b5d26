"""What a protocol makes of a clip before any VAE sees it: computed in the decoding threads, and kept for the next VAE.

That is lossy compression, which takes a core tens of milliseconds per clip and codec, and a digest, by which networks of metrics
remember the features of references.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from vaebench.protocol import Protocol
    from vaebench.video import Clip

CODED_BYTES = 1 << 29  # size of the cache of compressed clips: 80 clips of 33x256x256


@dataclass(frozen=True)
class Reference:
    """A clip before the VAE, on the CPU."""

    given: Tensor | None  # uint8 (1, 3, T, H, W), the input of the VAE after `input_codec`; None: the decoded frames
    scored: (
        Tensor | None
    )  # uint8 (1, 3, T, H, W), the reference of the metrics after `codec`; None: the input of the VAE
    digest: bytes  # equal for equal references of the metrics; b"" if it was not asked for

    @property
    def nbytes(self) -> int:
        """The memory of the compressed clips."""
        return sum(clip.nbytes for clip in (self.given, self.scored) if clip is not None)


class CodedReferences:
    """The references of one protocol, of which the cache holds `CODED_BYTES`.

    Args:
        protocol: the protocol that compresses clips
        hashes: compute digests
        pins: put compressed clips into pinned memory, for copies to a GPU while it computes
    """

    def __init__(self, protocol: Protocol, *, hashes: bool = False, pins: bool = False) -> None:
        self.protocol, self.hashes, self.pins = protocol, hashes, pins
        self.known: dict[Clip, Reference] = {}
        self.bytes = 0
        self.lock = Lock()

    def of(self, clip: Clip, frames: Tensor) -> Reference:
        """The reference of a clip; several threads may call it.

        Args:
            frames: (3, T, H, W), the decoded clip: uint8, or float32 in 0..1

        Raises:
            ValueError: a codec does not support the size of the video
        """
        if clip in self.known:
            return self.known[clip]
        reference = self._compute(frames)
        with self.lock:
            if clip not in self.known and self.bytes + reference.nbytes <= CODED_BYTES:
                self.known[clip] = reference
                self.bytes += reference.nbytes
        return reference

    def _compute(self, frames: Tensor) -> Reference:
        given = self.protocol.through_input_codec(frames[None])
        scored = self.protocol.coded_reference(given)
        return Reference(
            given=self._pinned(given) if self.protocol.input_codec != "none" else None,
            scored=None if scored is None else self._pinned(scored),
            digest=self._digest(frames) if self.hashes else b"",
        )

    def _pinned(self, clip: Tensor) -> Tensor:
        return clip.contiguous().pin_memory() if self.pins else clip

    def _digest(self, frames: Tensor) -> bytes:
        about = [*self.protocol.of_reference, str(frames.dtype), *map(str, frames.shape)]
        digest = hashlib.blake2b(" ".join(about).encode())
        digest.update(frames.contiguous().numpy().tobytes())
        return digest.digest()
