"""Files that are taken for models and are none: what each of them is, and how a model is written."""

from collections.abc import Collection

EXPORT_ADVICE = (
    "write it with torch.export.save(torch.export.export(module, inputs), 'model.pt2'), or let "
    "burnish.push(module, ...) do that"
)
ARCHIVE_MAGIC = b"PK\x03\x04"
_PICKLE_PROTOCOLS = range(2, 6)


def is_pickle(head: bytes) -> bool:
    """True if a file that begins so is a pickle."""
    return (head[:1] == b"\x80" and head[1] in _PICKLE_PROTOCOLS) or head[:1] in (b"(", b"c")


def not_a_program(names: Collection[str]) -> str | None:
    """Say what an archive is instead of an exported program, by its members below the root; None if it is one."""
    if any(name.startswith("code/") for name in names) or "constants.pkl" in names:
        return f"a TorchScript program, which carries code; {EXPORT_ADVICE}"
    if any(name.startswith("data/aotinductor/") for name in names):
        return f"a compiled package, which runs native code; {EXPORT_ADVICE}"
    if "data.pkl" in names:
        return f"a pickle written by torch.save, and loading it would run code; {EXPORT_ADVICE}"
    if "serialized_exported_program.json" in names:
        return "exported by an old PyTorch; export it again with PyTorch 2.13"
    if "archive_format" not in names:
        return f"an archive, but not an exported program; {EXPORT_ADVICE}"
    return None
