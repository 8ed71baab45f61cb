"""What the connections of one round count together."""

from collections.abc import Sequence


class Tally:
    """Latencies of what was answered while it counts, and errors at any time."""

    def __init__(self) -> None:
        """Count nothing yet."""
        self.latencies_ns: list[int] = []
        self.errors = 0
        self.first_error = ""
        self.over = False
        """Nothing is to be asked any more."""
        self._counts = False

    def start(self) -> None:
        """Count from now on."""
        self._counts = True

    def stop(self) -> Sequence[int]:
        """Count no more, ask no more; return the latencies."""
        self._counts = False
        self.over = True
        return self.latencies_ns

    def answered(self, latency_ns: int) -> None:
        """Take one answer."""
        if self._counts:
            self.latencies_ns.append(latency_ns)

    def failed(self, reason: str) -> None:
        """Take one error; it counts before the round as well."""
        self.errors += 1
        self.first_error = self.first_error or reason
