"""Answers given before, for models whose policy asks for it: same version, same inputs to the bit, same outputs.

It holds what a run gave, so it is for models whose runs are deterministic; the policy is where that is said. A cache
lives as long as the model's catalog entry.
"""

import hashlib
from collections import OrderedDict

from registry.records.model import ServedVersion
from serving.engine.elements import held_bytes, pack
from serving.runtime import Arrays

_ENTRY_BYTES = 512
"""What an answer costs beside its tensors."""


def request_key(served: ServedVersion, inputs: Arrays) -> bytes:
    """Return what stands for a request: a hash of artifact, version (its runtime computes), and all of the inputs."""
    described = [(name, array.dtype.name, array.shape) for name, array in inputs.items()]
    hashed = hashlib.blake2b(repr((served.artifact.sha256, served.version, described)).encode(), digest_size=32)
    for array in inputs.values():
        hashed.update(pack(array) if array.dtype.hasobject else array.tobytes())
    return hashed.digest()


class ResponseCache:
    """The answers of one model, the least recently used forgotten first; used on the event loop only."""

    def __init__(self, max_bytes: int) -> None:
        """Take the bound."""
        self.bytes = 0
        self._max_bytes = max_bytes
        self._answers: OrderedDict[bytes, tuple[Arrays, int]] = OrderedDict()

    def get(self, key: bytes) -> Arrays | None:
        """Return the outputs that were put under a key, not to be written to; None if there are none."""
        found = self._answers.get(key)
        if found is None:
            return None
        self._answers.move_to_end(key)
        return found[0]

    def put(self, key: bytes, outputs: Arrays) -> None:
        """Keep a copy of outputs; those larger than the whole cache are not kept."""
        size = _ENTRY_BYTES + sum(map(held_bytes, outputs.values()))
        if size > self._max_bytes or key in self._answers:
            return
        copies = {name: array.copy() for name, array in outputs.items()}  # a view would hold its whole batch
        for array in copies.values():
            array.flags.writeable = False
        self._answers[key] = copies, size
        self.bytes += size
        while self.bytes > self._max_bytes:
            self.bytes -= self._answers.popitem(last=False)[1][1]
