"""What a stack is made of, as values: parts, the ports they claim, and how one knows that they are well."""

from pathlib import Path

from pydantic import Field

from registry.records.base import Record

PLAN_FILE = "plan.json"
STATE_FILE = "state.json"
LOCK_FILE = "lock"
STARTING_FILE = "starting.lock"


class Port(Record):
    """A port that a part listens on, and the variable that moves it."""

    host: str
    number: int
    purpose: str
    variable: str


class Probe(Record):
    """A question to a part: the URL must answer 2xx."""

    url: str
    newer_than_start: str | None = Field(
        default=None,
        description="A time in the JSON answer that must be later than the part's start; for parts without a port.",
    )


class Part(Record):
    """One process of the stack, with all that it starts."""

    name: str
    command: tuple[str, ...] = Field(min_length=1)
    environment: dict[str, str] = Field(default_factory=dict, description="Added to the supervisor's own.")
    ports: tuple[Port, ...] = ()
    probes: tuple[Probe, ...] = Field(description="All must hold for the part to be ready.")
    url: str = Field(default="", description="For people.")
    stop_seconds: float = Field(default=15.0, gt=0, description="From SIGTERM to SIGKILL.")


class StackPlan(Record):
    """A whole stack; the supervisor reads nothing else."""

    home: Path
    parts: tuple[Part, ...] = Field(min_length=1)

    @property
    def run_folder(self) -> Path:
        """Where the plan, the supervisor's state and its lock are."""
        return run_folder(self.home)

    @property
    def log_folder(self) -> Path:
        """One log a part."""
        return self.home / "logs"

    def log_file(self, part: str) -> Path:
        """The log of a part, or of the supervisor."""
        return self.log_folder / f"{part}.log"


class ProcessId(Record):
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: float = Field(description="Unix time.")


class PartState(Record):
    """What the supervisor knows of a part."""

    process: ProcessId
    starts: int = Field(ge=1)


class SupervisorState(Record):
    """What the supervisor writes whenever it starts a process."""

    supervisor: ProcessId
    parts: dict[str, PartState] = Field(default_factory=dict)


def run_folder(home: Path) -> Path:
    """Where a home folder keeps what belongs to one run of the stack."""
    return home / "run"


def read_plan(home: Path) -> StackPlan | None:
    """Return the plan that the stack was last started with, if it ever was."""
    content = _content(run_folder(home) / PLAN_FILE)
    return None if content is None else StackPlan.model_validate_json(content)


def read_state(home: Path) -> SupervisorState | None:
    """Return the supervisor's state; None if it was stopped in order or never ran."""
    content = _content(run_folder(home) / STATE_FILE)
    return None if content is None else SupervisorState.model_validate_json(content)


def write_record(path: Path, record: Record) -> None:
    """Write a record as a file that is whole at every moment and readable by its owner alone."""
    draft = path.with_suffix(".new")
    draft.touch(mode=0o600)
    draft.write_text(record.model_dump_json(indent=1), encoding="utf-8")
    draft.replace(path)


def _content(path: Path) -> bytes | None:
    """Whoever stops the stack may remove the file at any moment."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
