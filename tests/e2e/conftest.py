"""One stack for all tests of the main job, with a first version of the digits model live."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from torch import nn

from burnish.client import Client
from burnish.examples.digits import Split, load_digits_split, train_digits
from burnish.export import push
from burnish.replies import Optimization
from tests.e2e.stack import StackUnderTest, new_stack

MODEL = "digits"
PARTS = {"prefect", "mlflow", "control", "runner", "engine", "gateway"}
QUICK = {
    "passes": ["export_onnx", "quantize_static_int8"],
    "runtimes": ["torch_export", "onnxruntime"],
    "budget_minutes": 0.5,  # a search to the end of its proposals takes three times that
}


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackUnderTest]:
    started = new_stack(tmp_path_factory.mktemp("stack") / "home", BURNISH_CAPTURE_RATE="1.0")
    up = started.run("up")
    assert up.code == 0, up.err
    assert all(f"  {name}" in up.out for name in PARTS)
    try:
        yield started
    finally:
        down = started.run("down")
    assert down.code == 0, down.err


@pytest.fixture(scope="session")
def client(stack: StackUnderTest) -> Iterator[Client]:
    with Client(stack.url("control_port"), stack.url("gateway_port")) as found:
        yield found


@pytest.fixture(scope="session")
def split() -> Split:
    return load_digits_split()


@dataclass(frozen=True)
class Pusher:
    """Pushes digit networks with the same sets."""

    client: Client
    split: Split
    config: Mapping[str, Any] = field(default_factory=lambda: QUICK)

    def __call__(self, net: nn.Module, name: str = MODEL, *, wait: bool = True) -> Optimization:
        return push(
            net,
            name,
            example_inputs=self.split.train_x[:2],
            evaluation=(self.split.evaluation_x, self.split.evaluation_y),
            calibration=self.split.calibration_x,
            config=self.config,
            wait=wait,
            client=self.client,
        )


@pytest.fixture(scope="session")
def pusher(client: Client, split: Split) -> Pusher:
    return Pusher(client, split)


@pytest.fixture(scope="session")
def first_version(pusher: Pusher) -> Optimization:
    """Version 1, live: a network that stopped training early."""
    optimization = pusher(train_digits(epochs=8))
    assert optimization.released, optimization
    return optimization
