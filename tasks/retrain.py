"""Step: call the training function on the labelled window, in a process of its own."""

import asyncio
from pathlib import Path

from registry.records.model import Signature
from tasks.observe import Labelled
from tasks.retraining.trainer import Training, retrain
from tasks.step import step


@step("train again")
async def train_again(
    function: str, allowed: tuple[str, ...], known: Labelled, signature: Signature, workspace: Path
) -> Path:
    """Train on the captured samples whose true answer is known; return the exported program.

    Raises:
        InputError: the function is not allowed, failed, or returned what cannot serve the same inputs.
    """
    training = Training(function=function, signature=signature, inputs=known.window.inputs, labels=known.labels)
    return await asyncio.to_thread(retrain, training, allowed=allowed, workspace=workspace / "training")
