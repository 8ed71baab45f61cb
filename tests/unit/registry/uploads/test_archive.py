import io
import stat
import struct
import zipfile
import zlib
from typing import IO

import pytest

from registry.errors import InputError
from registry.uploads.archive import Archive
from registry.uploads.limits import SMALL_BYTES, UploadLimits
from tests.unit.registry.uploads.zips import CountingFile, directory, in_entry, opened, patched, zipped

MIB = 2**20
# Places of fields in a directory entry, and in a local header that stands at 0.
FLAGS, METHOD, CRC, SIZE = (8, 6), (10, 8), (16, 14), (24, 22)
ATTRIBUTES, OFFSET = 38, 42


def linked(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def unpacked(content: bytes) -> dict[str, bytes]:
    archive = opened(content)
    return {member.name: b"".join(archive.read(member)) for member in archive.members}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_plain_archives_are_read_as_zipfile_wrote_them(compression: int) -> None:
    members = {"a.txt": b"hello", "b/\u00fc.bin": bytes(range(256)) * 4000, "empty": b""}
    assert unpacked(zipped({**members, "folder/": b""}, compression)) == members


def test_a_stream_of_unknown_length_and_64_bit_sizes_are_read() -> None:
    buffer = io.BytesIO()

    class Pipe:
        """Cannot be rewound, so that sizes follow the bytes."""

        def write(self, data: bytes) -> int:
            return buffer.write(data)

        def flush(self) -> None: ...

    pipe: IO[bytes] = Pipe()  # type: ignore[assignment]
    with (
        zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x", "w", force_zip64=True) as stream,
    ):
        stream.write(b"12345" * 1000)
    assert unpacked(buffer.getvalue()) == {"x": b"12345" * 1000}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../evil", "leads out"),
        ("a/../../evil", "leads out"),
        ("/etc/passwd", "leads out"),
        ("C:evil", "leads out"),
        ("a//b", "leads out"),
        ("./a", "leads out"),
        ("..", "leads out"),
        ("a\\..\\evil", "backslash"),
        ("a\nb", "control character"),
        ("a\u202eb", "control character"),
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        opened(zipped({name: b"x"}))


def test_a_nul_in_a_name_is_refused() -> None:
    content = zipped({"a.npy": b"x"}).replace(b"a.npy", b"a\0npy")
    with pytest.raises(InputError, match="control character"):
        opened(content)


def test_a_name_in_an_unsaid_encoding_is_refused() -> None:
    with pytest.raises(InputError, match="neither ASCII nor marked"):
        opened(zipped({"abc": b"x"}).replace(b"abc", b"\xe4\xff\xfe"))


def test_names_that_stand_twice_are_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("a", b"1")
            archive.writestr("a", b"2")
    with pytest.raises(InputError, match="'a' stands twice"):
        opened(buffer.getvalue())
    with pytest.raises(InputError, match="stands twice"):
        opened(zipped({"\u00e9": b"1", "e\u0301": b"2"}))


@pytest.mark.parametrize(
    ("mode", "said"),
    [(stat.S_IFLNK | 0o777, "symbolic link"), (stat.S_IFIFO | 0o600, "special file"), (stat.S_IFCHR, "special file")],
)
def test_links_and_special_files_are_refused(mode: int, said: str) -> None:
    with pytest.raises(InputError, match=f"'a' is a {said}"):
        opened(zipped({linked("a", mode): b"/etc/passwd"}))


def test_encrypted_members_and_unknown_packings_are_refused() -> None:
    plain = zipped({"a": b"xyz"})
    with pytest.raises(InputError, match="encrypted"):
        opened(in_entry(plain, FLAGS[0], b"\x01\x00", also_local=FLAGS[1]))
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with pytest.raises(InputError, match=f"packed by method {method}"):
            opened(zipped({"a": b"xyz"}, method))


def test_more_files_than_the_limit_are_refused_by_the_count_alone() -> None:
    content = zipped({f"{number}": b"" for number in range(5)})
    with pytest.raises(InputError, match="lists 5 files; the limit is 4"):
        opened(content, UploadLimits(members=4))
    lying = patched(content, len(content) - 14, struct.pack("<HH", 4, 4))
    with pytest.raises(InputError, match="more than the 4 entries"):
        opened(lying, UploadLimits(members=4))


def test_a_million_entries_are_refused_after_the_directory_of_the_end_was_read() -> None:
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end_64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 10**6, 10**6, len(entry) * 10**6, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(entry) * 10**6, 1)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    content = entry * 10**6 + end_64 + locator + end
    counting = CountingFile(content)
    with pytest.raises(InputError, match="lists 1000000 files; the limit is 10000"):
        Archive(counting, len(content), UploadLimits())
    assert counting.read_bytes < 200


def test_a_bomb_is_refused_by_its_ratio_and_by_what_it_unpacks_to() -> None:
    bomb = zipped({"zeros": bytes(SMALL_BYTES + MIB)}, zipfile.ZIP_DEFLATED)
    assert len(bomb) < MIB
    with pytest.raises(InputError, match=r"unpacks to 68157440 bytes, 1\d\d\d times its own"):
        opened(bomb)
    with pytest.raises(InputError, match="unpacks to 68157440 bytes; the limit is 1000"):
        opened(bomb, UploadLimits(unpacked_bytes=1000, ratio=10**6))
    assert opened(zipped({"zeros": bytes(MIB)}, zipfile.ZIP_DEFLATED)).unpacked_bytes == MIB


def test_what_unpacks_to_more_than_it_declares_is_cut_there() -> None:
    honest = zipped({"zeros": bytes(16 * MIB)}, zipfile.ZIP_DEFLATED)
    lying = in_entry(honest, SIZE[0], struct.pack("<L", 1000), also_local=SIZE[1])
    archive = opened(lying)
    taken = 0
    with pytest.raises(InputError, match="more than the 1000 bytes"):
        for piece in archive.read(archive.members[0]):
            taken += len(piece)
    assert taken <= 1000


def test_overlapping_members_are_refused() -> None:
    content = zipped({"a": b"x" * 100, "b": b"y" * 100})
    first = directory(content)
    second = first + 46 + 1
    with pytest.raises(InputError, match="described differently"):
        opened(patched(content, second + OFFSET, struct.pack("<L", 0)))
    wide = struct.pack("<LL", 180, 180)
    shared = patched(patched(content, first + SIZE[0] - 4, wide), 18, wide)
    with pytest.raises(InputError, match="'a' and 'b' overlap"):
        opened(shared)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: b"prefix" + c, "does not end where the archive ends"),
        (lambda c: c + b"suffix", "not a whole zip archive"),
        (lambda c: c[:-1], "not a whole zip archive"),
        (lambda c: c[: len(c) // 2], "not a whole zip archive"),
        (lambda c: b"", "not a whole zip archive"),
        (lambda c: patched(c, len(c) - 2, b"\x05\x00") + b"hello", "not a whole zip archive"),
        (lambda c: patched(c, directory(c), b"XX"), "damaged at entry 1 of 2"),
        (lambda c: in_entry(c, OFFSET, struct.pack("<L", 10**6)), "'a' is not where"),
        (lambda c: patched(c, 30, b"z"), "described differently"),
        (lambda c: patched(c, SIZE[1], b"\x09"), "described differently"),
        (lambda c: in_entry(c, METHOD[0], b"\x08\x00"), "described differently"),
        (lambda c: in_entry(c, SIZE[0], struct.pack("<L", 10**6)), "two sizes"),
    ],
)
def test_damaged_and_ambiguous_archives_are_refused(change, said: str) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    with pytest.raises(InputError, match=said):
        opened(change(zipped({"a": b"x" * 100, "b": b"y" * 100})))


def test_damaged_bytes_are_found() -> None:
    for compression, said in ((zipfile.ZIP_STORED, "holds other bytes"), (zipfile.ZIP_DEFLATED, "is damaged")):
        content = zipped({"a": b"hello " * 100}, compression)
        with pytest.raises(InputError, match=said):
            opened(patched(content, 36, b"\xff\xff\xff")).verify()


def test_a_deflated_member_must_end_where_its_bytes_end() -> None:
    packed = zlib.compress(b"hello" * 100, wbits=-15)
    for bytes_in_file in (packed[:-2], packed + b"more"):
        info = zipfile.ZipInfo("a")
        content = zipped({info: bytes_in_file})
        content = in_entry(content, METHOD[0], b"\x08\x00", also_local=METHOD[1])
        content = in_entry(content, CRC[0], struct.pack("<L", zlib.crc32(b"hello" * 100)), also_local=CRC[1])
        content = in_entry(content, SIZE[0], struct.pack("<L", 500), also_local=SIZE[1])
        with pytest.raises(InputError, match="too early or too late"):
            opened(content).verify()
