"""Frames out of bytes: however they are cut, and whatever headers came before."""

from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from serving.doors.http2_frames import PREFACE, Flag, Kind, frame
from serving.doors.http2_reader import FrameReader

NAMES = st.sampled_from([b":path", b"te", b"a", b"b", b"content-type"])
HEADERS = st.lists(st.tuples(NAMES, st.sampled_from([b"1", b"2", b"trailers", b"x" * 70])), min_size=1, max_size=4)


@given(st.lists(HEADERS, max_size=5), st.lists(st.integers(0, 4), max_size=40), st.data())
def test_headers_are_decoded_the_same_whether_they_were_seen_before_or_not(
    known: list[list[tuple[bytes, bytes]]], order: list[int], data: st.DataObject
) -> None:
    """A client's table changes with every header that it has not sent yet; with a small one, headers fall out again."""
    encoder = Encoder()
    encoder.header_table_size = data.draw(st.sampled_from([0, 64, 200, 4096]))
    sent = [known[place % len(known)] for place in order] if known else []
    wire = PREFACE
    for number, headers in enumerate(sent):
        block = encoder.encode(headers)
        cut = data.draw(st.integers(0, len(block)))
        wire += frame(Kind.HEADERS, Flag.END_STREAM, 2 * number + 1, block[:cut])
        wire += frame(Kind.CONTINUATION, Flag.END_HEADERS, 2 * number + 1, block[cut:])
        if number % 2:
            wire += frame(Kind.HEADERS, Flag.END_HEADERS, 2 * number + 1, encoder.encode(headers))
    reader, found = FrameReader(10_000), []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=8)))
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        found += [one.headers for one in reader.read(wire[start:end])]
    assert found == [headers for number, headers in enumerate(sent) for _ in range(1 + number % 2)]
