"""Requests of the demo: held-out images, one a request, through the gateway."""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from burnish.client import Client
from burnish.examples.digits import Images, Labels

INPUT = "image"


@dataclass(frozen=True)
class Answers:
    """What one version answered to every image, and how long each request took."""

    version: int
    artifact: str
    logits_nk: npt.NDArray[np.generic]
    seconds_n: npt.NDArray[np.float64]

    def accuracy(self, labels_n: Labels) -> float:
        """The share of images whose most likely digit is the label."""
        return float((self.logits_nk.argmax(axis=1) == labels_n).mean())

    def latency_ms(self, quantile: float) -> float:
        """A quantile of the requests' latency in milliseconds, seen by the client."""
        return float(np.quantile(self.seconds_n, quantile) * 1000)


def ask_in_turn(client: Client, models: tuple[str, ...], images: Images) -> dict[str, Answers]:
    """Send every image to every model, one image a request, models in turn so that both see the same machine."""
    logits: dict[str, list[npt.NDArray[np.generic]]] = {model: [] for model in models}
    seconds: dict[str, list[float]] = {model: [] for model in models}
    made_by: dict[str, tuple[int, str]] = {}
    for model in models:
        client.predict(model, {INPUT: images[:1]})
    for number in range(len(images)):
        for model in models:
            started = time.perf_counter()
            prediction = client.predict(model, {INPUT: images[number : number + 1]})
            seconds[model].append(time.perf_counter() - started)
            logits[model].append(next(iter(prediction.outputs.values())))
            made_by[model] = (prediction.version, prediction.artifact)
    return {
        model: Answers(*made_by[model], np.concatenate(logits[model]), np.asarray(seconds[model])) for model in models
    }
