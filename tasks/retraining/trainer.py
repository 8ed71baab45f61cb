"""Call a training function on captured samples and their true answers, in a process of its own."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from registry.errors import InputError
from registry.records.model import Signature
from serving.runtime import Array, Arrays
from tasks.optimizer.isolation import LOG_FILE, Limits, ask_child

CHILD = "tasks.retraining.trainer_child"
PROGRAM_FILE = "model.pt2"
WINDOW_FILE = "window.npz"
INPUT_PREFIX, LABELS = "input:", "labels"

_LOG_LINES = 5


@dataclass(frozen=True)
class Training:
    """What is trained: by which function, on which window, within which limits."""

    function: str
    """``module:function``; takes the window's inputs by name, the labels and a seed, and returns an ``nn.Module``."""
    signature: Signature
    """Of the version that is trained again: the new model takes the same inputs."""
    inputs: Arrays
    """Captured inputs by name, axis 0 the samples."""
    labels: Array
    """Their true answers, [samples]."""
    seed: int = 0
    timeout_s: float = 1800.0
    memory_mib: int = 8192
    threads: int = 1
    """What OpenMP may use; the engine serves beside the training."""


def retrain(training: Training, *, allowed: tuple[str, ...], workspace: Path) -> Path:
    """Train and export the new network with a varying batch; return the exported program ``model.pt2``.

    The process has no credentials, is killed with all that it started when it ends or takes too long, and prints into
    ``log.txt`` in the workspace. The function must be importable in the environment that Burnish runs in.

    Args:
        training: what is trained.
        allowed: the training functions that may be called.
        workspace: a folder of this training's own.

    Raises:
        InputError: the function is not allowed, failed, or returned what cannot serve the same inputs.
    """
    _check(training, allowed)
    workspace.mkdir(parents=True, exist_ok=True)
    arrays = {f"{INPUT_PREFIX}{spec.name}": training.inputs[spec.name] for spec in training.signature.inputs}
    np.savez(workspace / WINDOW_FILE, **arrays, **{LABELS: training.labels})  # type: ignore[arg-type]
    job = {
        "function": training.function,
        "signature": training.signature.model_dump(mode="json"),
        "seed": training.seed,
    }
    limits = Limits(training.timeout_s, training.memory_mib, training.threads, confined=False)
    answer = ask_child(CHILD, job, workspace=workspace, limits=limits)
    if answer.value is None:
        raise InputError(f"the training function {training.function} failed: {answer.failure}{_last_words(workspace)}")
    return workspace / PROGRAM_FILE


def _check(training: Training, allowed: tuple[str, ...]) -> None:
    if training.function not in allowed:
        raise InputError(
            f"{training.function!r} is not a training function that may be called; allowed are: "
            f"{', '.join(allowed) or 'none'} (setting BURNISH_TRAINERS)"
        )
    samples = len(training.labels)
    for spec in training.signature.inputs:
        if spec.name not in training.inputs:
            raise InputError(f"the window lacks the input {spec.name!r} of the model")
        if len(training.inputs[spec.name]) != samples or not samples:
            raise InputError(
                f"the window holds {len(training.inputs[spec.name])} samples of {spec.name!r} and {samples} labels; "
                f"each sample needs its label, and at least one is needed"
            )


def _last_words(workspace: Path) -> str:
    """What the function printed before it failed; the traceback stays in the log."""
    text = (workspace / LOG_FILE).read_text(encoding="utf-8", errors="replace")
    lines = [line for line in text.split("Traceback (most recent call last)", 1)[0].splitlines() if line.strip()]
    return "; it printed last: " + " / ".join(lines[-_LOG_LINES:]) if lines else ""
