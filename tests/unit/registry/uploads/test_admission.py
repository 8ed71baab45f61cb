"""What may come in, as the control API asks for it: files under the names that say what they are."""

import io
import stat
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from registry.errors import InputError, StorageFull
from registry.uploads.admission import UploadName, admit
from registry.uploads.limits import UploadLimits
from tests.unit.registry.uploads.models import WEIGHTS, bundle, model, point_outside
from tests.unit.registry.uploads.zips import LIMITS, zipped

WEIGHT = np.ones((4, 3), np.float32).tobytes()


@pytest.fixture(scope="module")
def program() -> bytes:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.Linear(4, 3).eval(), (torch.rand(2, 4),)), buffer)
    return buffer.getvalue()


def admitted(folder: Path, name: str, content: bytes, limits: UploadLimits = LIMITS) -> dict[str, bytes]:
    """What the artifact would hold; on a refusal nothing may be in it but what was unpacked before."""
    path, tree = folder / "part", folder / "tree"
    path.write_bytes(content)
    tree.mkdir()
    admit(path, UploadName(name), limits, tree)
    return {file.name: file.read_bytes() for file in tree.iterdir()}


def refused(folder: Path, name: str, content: bytes, said: str, limits: UploadLimits = LIMITS) -> None:
    with pytest.raises(InputError, match=f"(?s){name} cannot be taken: .*{said}"):
        admitted(folder, name, content, limits)


def test_an_exported_program_is_taken_as_it_is(program: bytes, tmp_path: Path) -> None:
    assert admitted(tmp_path, "model.pt2", program) == {"model.pt2": program}
    assert (tmp_path / "part").read_bytes() == program


def repacked(program: bytes, compression: int, changes: dict[str, bytes]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(program)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    root = next(iter(members)).partition("/")[0]
    return zipped({**members, **{f"{root}/{name}": content for name, content in changes.items()}}, compression)


def test_programs_that_are_packed_hold_packed_archives_or_other_things_are_refused(
    program: bytes, tmp_path: Path
) -> None:
    bomb = zipped({"archive/data.pkl": bytes(2**20)}, zipfile.ZIP_DEFLATED)
    cases = {
        "is compressed": repacked(program, zipfile.ZIP_DEFLATED, {}),
        "in '.*model.pt': its member 'archive/data.pkl' is compressed": repacked(
            program, zipfile.ZIP_STORED, {"data/sample_inputs/model.pt": bomb}
        ),
        "but not an exported program": zipped({"hello.txt": b"hello"}),
        "a pickle written by torch.save": zipped({"net/data.pkl": b"\x80\x02."}),
        "it is a pickle": b"\x80\x04cos\nsystem\n",
        "not a whole zip archive": b"hello" * 20,
        "is damaged": program.replace(b"little", b"lettle"),
    }
    for number, (said, content) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        refused(folder, "model.pt2", content, said)


def test_a_single_onnx_model_must_be_whole(tmp_path: Path) -> None:
    content = model().SerializeToString()
    assert admitted(tmp_path, "model.onnx", content) == {"model.onnx": content}
    outside = tmp_path / "outside"
    outside.mkdir()
    refused(outside, "model.onnx", model(location="/etc/passwd").SerializeToString(), "'w' lies in another file, '/etc")


def test_a_bundle_is_unpacked_to_the_model_and_its_weights(tmp_path: Path) -> None:
    found = admitted(tmp_path, "model.zip", bundle())
    assert found == {"model.onnx": model(location=WEIGHTS).SerializeToString(), WEIGHTS: WEIGHT}


def test_a_bundle_may_have_one_folder_and_any_model_name(tmp_path: Path) -> None:
    content = model(location="w.bin", offset="8", length="48").SerializeToString()
    packed = zipped({"net/": b"", "net/mine.onnx": content, "net/w.bin": bytes(8) + WEIGHT}, zipfile.ZIP_DEFLATED)
    assert admitted(tmp_path, "model.zip", packed) == {"model.onnx": content, "w.bin": bytes(8) + WEIGHT}


@pytest.mark.parametrize(
    "location",
    ["../w.bin", "/etc/passwd", "a/w.bin", "..", ".", "", "a\\w.bin", "C:w.bin", "w\n.bin", "file:///etc/passwd"],
)
def test_weights_outside_of_the_bundle_are_refused(location: str, tmp_path: Path) -> None:
    refused(tmp_path, "model.zip", bundle({WEIGHTS: WEIGHT}, location=location), "'w' lies in .* no plain file name")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bundle({}), "is not in the archive"),
        (bundle({WEIGHTS: WEIGHT, "readme.txt": b""}), "does not name 'readme.txt'"),
        (bundle({f"../{WEIGHTS}": WEIGHT}), "leads out of the archive"),
        (bundle({f"sub/{WEIGHTS}": WEIGHT}), "does not stand beside"),
        (bundle(location=WEIGHTS, offset="1"), None),
        (bundle(location=WEIGHTS, offset="49"), "lies at 49, -1 bytes long"),
        (bundle(location=WEIGHTS, offset="1", length="48"), "lies at 1, 48 bytes long, .* has 48 bytes"),
        (bundle(location=WEIGHTS, length="9999999999"), "9999999999 bytes long"),
        (zipped({WEIGHTS: WEIGHT}), "holds 0 .onnx files"),
        (zipped({"a.onnx": b"", "b.onnx": b""}), "holds 2 .onnx files"),
        (zipped({"a.onnx": b"hello"}), "ONNX model"),
    ],
)
def test_bundles_that_do_not_fit_together_are_refused(content: bytes, said: str | None, tmp_path: Path) -> None:
    if said is None:
        assert admitted(tmp_path, "model.zip", content)
    else:
        refused(tmp_path, "model.zip", content, said)


def test_a_link_in_a_bundle_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo(WEIGHTS)
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    refused(tmp_path, "model.zip", bundle({link: b"/etc/passwd"}), "symbolic link")


def test_weights_that_share_bytes_are_counted_each(tmp_path: Path) -> None:
    two = model(location=WEIGHTS)
    two.graph.initializer.append(point_outside(onnx.TensorProto(name="again"), location=WEIGHTS))
    content = zipped({"model.onnx": two.SerializeToString(), WEIGHTS: bytes(1000)})
    refused(tmp_path, "model.zip", content, "together take more than 1999 bytes", UploadLimits(unpacked_bytes=1999))


def test_a_bundle_without_room_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(folder: Path, size: int) -> None:
        raise StorageFull(f"{size} bytes do not fit")

    monkeypatch.setattr("registry.uploads.onnx_bundle.require_room", no_room)
    with pytest.raises(StorageFull, match="do not fit"):
        admitted(tmp_path, "model.zip", bundle())
    assert list((tmp_path / "tree").iterdir()) == []


def test_sets_are_taken_as_they_are(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones((3, 4)))
    content = buffer.getvalue()
    assert admitted(tmp_path, "evaluation.npz", content) == {"evaluation.npz": content}
    other = tmp_path / "other"
    other.mkdir()
    refused(other, "calibration.parquet", content, "not a whole Parquet file")
