"""What a bill is made of: what a model did in this process, over all its versions, those that are gone included."""

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Account:
    """The counters of one model; they only grow. Changed on the event loop only."""

    requests: int = 0
    """That reached a version: answered, from memory too, or failed."""
    failed: int = 0
    compute_ns: int = 0
    """Of runs; one that several requests shared counts once."""
    received_bytes: int = 0
    """Bodies of requests whose inputs were read, as they are when no coding compresses them."""
    sent_bytes: int = 0
    """Bodies of answers, likewise."""

    def moved(self, received: int, sent: int) -> None:
        """Count the bytes of one request that was answered."""
        self.received_bytes += received
        self.sent_bytes += sent

    def figures(self) -> dict[str, int]:
        """All counters by name."""
        return asdict(self)
