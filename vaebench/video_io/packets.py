"""Count the frames of a video and determine their order from its packets, without decoding them.

The order in which a decoder returns frames is coded in the pictures; the time stamps are stored by the container, and the two can
differ.  AVI has no time stamps, so FFmpeg guesses them, and a copy from AVI to mp4 or Matroska keeps the guess.  An alt-ref packet
shows no frame; a packet with packed B-frames holds two.  The result is `Packets` only if the sorted time stamps are known to be the
order of the decoder:

    container   stores the presentation time of each packet: mp4, mov, Matroska, WebM
    codec       each packet holds one frame, by definition of the codec or according to its header (`_shown`)
    times       every packet has a time, and all differ; frames are reordered if and only if the codec declares reordering, and
                by no more frames than it declares
    first       the first packet is a key frame, and no frame is shown before it: decoders drop frames whose references
                were cut off

The caller compares the time of each decoded frame with `times`, so a contradiction is detected at the frame where it occurs.
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from typing import Any

CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # FFmpeg's names
# codecs with one frame per packet: an access unit of H.264 or HEVC, a temporal unit of AV1, a picture of an intra-only codec
ONE_FRAME = ("h264", "hevc", "av1", "dnxhd", "ffv1", "ffvhuff", "huffyuv", "mjpeg", "png", "prores", "rawvideo")
NOT_CODED = 19  # bytes; FFmpeg too takes an MPEG-4 picture up to this size for the placeholder of a packed B-frame


@dataclass(frozen=True)
class Packets:
    """Presentation times in units of the stream's time base."""

    times: list[int]  # of each frame, in the order of the decoder, which is ascending
    entries: list[int]  # of the key frames at which decoding can start (no earlier packet is shown later); ascending


def packets(container: Any, stream: Any, most: int | None = None) -> Packets | None:
    """Read the first `most` packets that show a frame, by default all; None if they do not prove the order of the frames."""
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
        if packet.is_discard or shown == 0:  # outside the edit list; a reference that is not shown
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
    """The number of frames that a packet shows; None if unknown."""
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
    """The number of frames that a packet shows: a frame or a superframe (VP9 bitstream specification, annex B and 6.2)."""
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
