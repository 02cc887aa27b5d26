"""What the packets of a video prove about its frames without decoding them: how many there are, and in which order they come.

A decoder gives frames in the order that the coded pictures name; time stamps are the container's, and the two can differ.
AVI stores no time stamps, so FFmpeg guesses them; copying AVI into mp4 or Matroska keeps the guess; alt-ref packets show
no frame, packed B-frames put two into one packet.  `Packets` is made only where sorted time stamps are the decoder's order:

    container   stores the presentation time of each packet: mp4, mov, Matroska, WebM
    codec       one packet is one frame, by the codec's definition or by looking into the packet (`_shown`)
    times       every packet has one, all differ, and they reorder frames if and only if the codec declares reordering, and
                by no more than it declares
    first       the first packet is a key frame, and no frame is shown before it: a decoder drops frames that refer to
                what was cut off

The caller compares what it decodes with `times`: a disagreement is found where it happens.
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from typing import Any

CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # FFmpeg's names
# one packet is one frame: an access unit of H.264 or HEVC, a temporal unit of AV1, a picture of these codecs without prediction
ONE_FRAME = ("h264", "hevc", "av1", "dnxhd", "ffv1", "ffvhuff", "huffyuv", "mjpeg", "png", "prores", "rawvideo")
NOT_CODED = (
    19  # bytes; an MPEG-4 picture up to this size may be the placeholder of a packed B-frame, as FFmpeg judges too
)


@dataclass(frozen=True)
class Packets:
    times: list[int]  # presentation time of each frame, in the decoder's order, which is ascending
    entries: list[int]  # of the key frames that no earlier packet is shown after, ascending


def packets(container: Any, stream: Any, most: int | None = None) -> Packets | None:
    """The first `most` packets that show a frame, all by default; None where they do not prove the order of the frames."""
    codec = stream.codec_context.codec.canonical_name
    declared = stream.codec_context.reorder_depth
    if container.format.name not in CONTAINERS:
        return None
    first: int | None = None
    times: list[int] = []
    entries: list[int] = []
    depth = 0
    for packet in container.demux(stream):
        if packet.size == 0:  # the end of the file
            continue
        if packet.is_corrupt:  # the file is cut off inside this packet
            break
        time = packet.pts
        if first is None and packet.is_keyframe:
            first = time
        if first is None or time is None:
            return None
        shown = _shown(codec, packet)
        if packet.is_discard or shown == 0:  # outside the edit list; a picture that others refer to
            continue
        place = bisect(times, time)
        if shown != 1 or time < first or (place and times[place - 1] == time):
            return None
        if packet.is_keyframe and place == len(times):
            entries.append(time)
        depth = max(depth, len(times) - place)
        times.insert(place, time)
        if len(times) == most:
            break
    if depth > declared or (depth == 0) != (declared == 0):
        return None
    return Packets(times, entries)


def _shown(codec: str, packet: Any) -> int | None:
    """How many frames this packet shows; None if unknown."""
    if codec in ONE_FRAME:
        return 1
    if codec == "vp8":  # RFC 6386, 9.1: show_frame
        return memoryview(packet)[0] >> 4 & 1
    if codec == "vp9":
        return _shown_vp9(bytes(packet))
    if codec == "mpeg4":  # one start code of a VOP (ISO/IEC 14496-2, 6.2.1)
        return 1 if packet.size > NOT_CODED and bytes(packet).count(b"\0\0\1\xb6") == 1 else None
    return None


def _shown_vp9(data: bytes) -> int:
    """Of the frames in a packet, one or a superframe (VP9 bitstream specification, annex B and 6.2)."""
    frames = [data]
    marker = data[-1]
    count, width = (marker & 7) + 1, (marker >> 3 & 3) + 1
    index = data[-(2 + count * width) :]
    if marker & 0xE0 == 0xC0 and index[0] == marker:
        frames, at = [], 0
        for number in range(count):
            size = int.from_bytes(index[1 + number * width : 1 + (number + 1) * width], "little")
            frames.append(data[at : at + size])
            at += size
    shown = 0
    for frame in frames:
        if frame:
            bit = 2 if frame[0] >> 4 & 3 == 3 else 3  # profile 3 has one more bit before show_existing_frame
            shown += bool(frame[0] >> bit & 1 or frame[0] >> (bit - 2) & 1)  # show_existing_frame or show_frame
    return shown
