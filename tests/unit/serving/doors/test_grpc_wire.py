"""gRPC on HTTP/2, byte by byte: however messages are cut on their way, and whatever their heads claim."""

from urllib.parse import unquote

import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from serving.doors.grpc_wire import (
    HEAD,
    OK,
    Code,
    Message,
    Messages,
    NotGrpc,
    Refused,
    Status,
    framed,
    read_head,
)
from serving.doors.http_messages import Headers

CALL = {b":method": b"POST", b":path": b"/s/M", b"content-type": b"application/grpc"}


def headers(**more: bytes) -> Headers:
    named = {name.replace("_", "-").encode(): value for name, value in more.items()}
    return [*{**CALL, **named}.items()]


@given(st.lists(st.tuples(st.binary(max_size=30), st.booleans())), st.data())
def test_messages_are_the_same_however_they_are_cut(sent: list[tuple[bytes, bool]], data: st.DataObject) -> None:
    wire = b"".join(bytes([compressed]) + framed(content)[1:] for content, compressed in sent)
    messages, found = Messages(30), []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=10)))
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        found += messages.feed(wire[start:end])
        assert messages.size == end - sum(5 + len(message.content) for message in found)
    assert found == [Message(*one) for one in sent]
    assert messages.size == 0


@pytest.mark.parametrize("cut", [5, 7])
def test_a_message_is_refused_by_its_prefix_before_it_comes(cut: int) -> None:
    messages = Messages(100)
    assert messages.feed(framed(b"x" * 100)) == [Message(b"x" * 100, False)]
    with pytest.raises(Refused, match=r"larger than max: 4294967295 vs. 100"):
        messages.feed((b"\0\xff\xff\xff\xff" + b"x" * 10)[:cut])


def test_a_head_says_what_is_called_and_until_when() -> None:
    assert read_head(headers()) == ("/s/M", None, None)
    for kind in (b"application/grpc+proto", b"application/grpc; charset=utf-8"):
        assert read_head(headers(content_type=kind)).method == "/s/M"
    for written, seconds in ((b"2H", 7200), (b"3M", 180), (b"4S", 4), (b"50m", 0.05), (b"6u", 6e-6), (b"7n", 7e-9)):
        assert read_head(headers(grpc_timeout=written)).timeout_s == pytest.approx(seconds)
    assert read_head(headers(grpc_encoding=b"gzip")).coding == "gzip"
    assert read_head(headers(grpc_encoding=b"identity")).coding is None


def test_what_is_no_call_or_asks_for_too_much_is_refused() -> None:
    for wrong in (
        {b":method": b"GET"},
        {b"content-type": b"application/json"},
        {b"content-type": b"application/grpcx"},
    ):
        with pytest.raises(NotGrpc):
            read_head([*{**CALL, **wrong}.items()])
    with pytest.raises(Refused, match="grpc-encoding: unknown coding 'snappy'") as unknown:
        read_head(headers(grpc_encoding=b"snappy"))
    assert unknown.value.status.code is Code.UNIMPLEMENTED
    for timeout in (b"", b"1", b"S", b"123456789S", b"-1S", b"1.5S", b"1D"):
        with pytest.raises(Refused, match="grpc-timeout"):
            read_head(headers(grpc_timeout=timeout))


@given(st.text(max_size=100))
def test_any_message_comes_through_in_a_status(message: str) -> None:
    message = message.encode("utf-8", "replace").decode()
    status = Status(Code.NOT_FOUND, message, (("x-request-id", "a b"),))
    found = read(HEAD + status.trailers())
    assert (found["x-request-id"], found["grpc-status"], found[":status"]) == ("a b", "5", "200")
    assert found["content-type"] == "application/grpc"
    assert unquote(found.get("grpc-message", "")) == message
    assert all(0x20 <= ord(letter) < 0x7F for letter in found.get("grpc-message", ""))
    assert read(OK.trailers()) == {"grpc-status": "0"}


def read(block: bytes) -> dict[str, str]:
    return {str(name): str(value) for name, value in Decoder().decode(block, raw=False)}
