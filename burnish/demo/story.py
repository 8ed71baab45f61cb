"""The main job, told: push, optimize, serve, refuse a bad version, promote a good one, roll back, look at drift."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from burnish.client import Client
from burnish.demo.screen import Screen
from burnish.demo.speed import answers_of_artifact, compare_in_process
from burnish.demo.traffic import Answers, ask_in_turn
from burnish.errors import RemoteError
from burnish.examples.digits import Split, load_digits_split, train_digits
from burnish.export import push
from burnish.replies import DriftReport, Optimization
from flows import wiring
from flows.settings import StackSettings
from registry.records.model import ServedVersion

MODEL = "digits"
EAGER = "digits-eager"
"""The original, served as it is: no passes, run by PyTorch."""

EAGER_CONFIG = {"passes": [], "runtimes": ["torch_export"]}
FIRST_CONFIG = {"budget_minutes": 1.5}
"""The best so far after this long; the default budget of ten minutes tries every recipe."""

SECOND_CONFIG = {"budget_minutes": 1.0, "passes": ["export_onnx", "quantize_static_int8"]}
FIRST_EPOCHS = 8
"""The first version stops early, so that the second has something to improve."""

CORRUPTED_LABELS = 0.3
OPTIMIZATION_TIMEOUT_S = 900.0
DRIFT_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Outcome:
    """What the demo saw; ``--json`` prints it."""

    first: Optimization
    bad: Optimization
    second: Optimization
    speedup_p50: float
    accuracy: float
    eager_accuracy: float
    largest_difference: float
    champion_after_rollback: int
    drifted: bool
    links: dict[str, str]


class Story:
    """The demo's steps, each shown as it happens."""

    def __init__(self, settings: StackSettings, screen: Screen, client: Client) -> None:
        """Tell the story of one stack."""
        self._settings = settings
        self._screen = screen
        self._client = client
        self._split: Split = load_digits_split()

    def tell(self) -> Outcome:
        """Run every step.

        Raises:
            RemoteError: the stack failed, or a step did not end as it must.
        """
        first, net = self._first_version()
        speedup = self._speed(first, net)
        answers = self._traffic()
        difference = self._same_answers(answers[MODEL])
        bad = self._bad_version()
        second = self._second_version()
        champion = self._roll_back(first)
        drift = self._drift()
        return Outcome(
            first=first,
            bad=bad,
            second=second,
            speedup_p50=speedup,
            accuracy=answers[MODEL].accuracy(self._split.evaluation_y),
            eager_accuracy=answers[EAGER].accuracy(self._split.evaluation_y),
            largest_difference=difference,
            champion_after_rollback=champion,
            drifted=drift.drifted,
            links=self._links(first, second, drift),
        )

    def _first_version(self) -> tuple[Optimization, nn.Module]:
        self._screen.heading("1. A model: a small residual CNN on scikit-learn's digits")
        net = train_digits(epochs=FIRST_EPOCHS)
        self._screen.say(f"trained; {len(self._split.evaluation_x)} images are held out of training")
        self._screen.heading("2. Push it: export, prune, quantize, compile, measure, gate, register, release")
        first = self._push(net, MODEL, FIRST_CONFIG)
        self._require_live(first)
        self._screen.candidates(self._client.candidates(first.id))
        self._screen.say(f"version {first.version} is registered in MLflow and live")
        self._require_live(self._push(net, EAGER, EAGER_CONFIG))
        self._screen.say(f"the original, run by PyTorch as it is, is live as {EAGER}, to compare")
        return first, net

    def _speed(self, first: Optimization, net: nn.Module) -> float:
        self._screen.heading("3. How fast: in this process, batch 1, one thread, in turns")
        speed = compare_in_process(net, *self._artifact(MODEL, first.version), self._split.evaluation_x)
        for name, p50 in (("eager PyTorch", speed.eager), ("the winner", speed.winner)):
            self._screen.say(f"  {name:<14} p50 {p50.estimate:.3f} ms ({p50.low:.3f} to {p50.high:.3f})")
        self._screen.say(f"  {speed.times_faster:.1f} times faster")
        return speed.times_faster

    def _traffic(self) -> dict[str, Answers]:
        self._screen.heading("4. Ask it: the held-out images over HTTP, through the gateway")
        answers = ask_in_turn(self._client, (MODEL, EAGER), self._split.evaluation_x)
        for model, found in answers.items():
            accuracy = found.accuracy(self._split.evaluation_y)
            p50, p99 = found.latency_ms(0.5), found.latency_ms(0.99)
            self._screen.say(f"  {model:<14} accuracy {accuracy:.4f}   p50 {p50:.2f} ms   p99 {p99:.2f} ms")
        return answers

    def _same_answers(self, answers: Answers) -> float:
        served, folder = self._artifact(MODEL, answers.version)
        computed = answers_of_artifact(served, folder, self._split.evaluation_x)
        difference = float(np.abs(np.subtract(answers.logits_nk, computed, dtype=np.float64)).max())
        self._screen.say(f"  endpoint and registered artifact {answers.artifact[:12]} differ by at most {difference:g}")
        return difference

    def _bad_version(self) -> Optimization:
        self._screen.heading(f"5. A bad version: trained with {CORRUPTED_LABELS:.0%} of the labels wrong")
        bad = self._push(train_digits(seed=1, corrupted_labels=CORRUPTED_LABELS), MODEL)
        if not bad.refused:
            raise RemoteError(f"the bad version should have been refused, but: {bad}")
        for rule in bad.refusals:
            self._screen.say(f"  refused by {rule.rule}: {rule.reason}")
        return bad

    def _second_version(self) -> Optimization:
        self._screen.heading("6. A good second version: trained for longer")
        second = self._push(train_digits(), MODEL, SECOND_CONFIG)
        self._require_live(second)
        self._screen.say(f"version {second.version} is live")
        return second

    def _roll_back(self, first: Optimization) -> int:
        self._screen.heading("7. Roll back, in one command: burnish rollback digits")
        release = self._client.rollback(MODEL, reason="the demo shows it")
        prediction = self._client.predict(MODEL, {"image": self._split.evaluation_x[:1]})
        self._screen.say(f"  version {release.champion} is live again; generation {release.generation}")
        if prediction.version != first.version:
            raise RemoteError(f"version {first.version} should answer, but version {prediction.version} does")
        return release.champion

    def _drift(self) -> DriftReport:
        self._screen.heading("8. Drift: the requests just served beside the evaluation set")
        run = self._client.monitor(MODEL)
        self._screen.say(f"  Prefect run {run.url}")
        deadline = time.monotonic() + DRIFT_TIMEOUT_S
        while not (reports := self._client.drift_reports(MODEL)):
            if time.monotonic() > deadline:
                raise RemoteError(f"the drift report did not come within {DRIFT_TIMEOUT_S:.0f} s; see {run.url}")
            time.sleep(1)
        report = reports[0]
        verdict = "drift found" if report.drifted else "no drift"
        self._screen.say(
            f"  {report.samples} samples of version {report.version}: {verdict}, "
            f"{report.share_drifted:.0%} of {report.columns} columns differ"
        )
        return report

    def _push(self, net: nn.Module, model: str, config: Mapping[str, object] | None = None) -> Optimization:
        started = push(
            net,
            model,
            example_inputs=self._split.train_x[:2],
            evaluation=(self._split.evaluation_x, self._split.evaluation_y),
            calibration=self._split.calibration_x,
            config=config,
            wait=False,
            client=self._client,
        )
        link_shown = False

        def follow(optimization: Optimization) -> None:
            nonlocal link_shown
            if optimization.flow_run_url and not link_shown:
                self._screen.say(f"  Prefect run {optimization.flow_run_url}")
                link_shown = True
            self._screen.progress(optimization)

        return self._client.wait(started.id, follow, OPTIMIZATION_TIMEOUT_S)

    def _require_live(self, optimization: Optimization) -> None:
        if not optimization.released:
            raise RemoteError(f"{optimization.model} should be live, but: {optimization}")

    def _artifact(self, model: str, version: int | None) -> tuple[ServedVersion, Path]:
        """What the engine was told of a version, and the folder of its artifact, checked."""
        ledger = wiring.ledger(self._settings)
        try:
            served = next(found for found in ledger.served(model) if found.version == version)
        finally:
            ledger.close()
        return served, wiring.artifacts(self._settings).checkout(served.artifact.sha256)

    def _links(self, first: Optimization, second: Optimization, drift: DriftReport) -> dict[str, str]:
        settings = self._settings
        links = {
            "endpoint": f"{settings.gateway_url}/v2/models/{MODEL}",
            "control API": f"{settings.control_url}/docs",
            "Prefect": settings.prefect_url,
            "MLflow": f"{settings.mlflow_url}/#/models/{MODEL}",
            "report of version 1": first.report_url or "",
            "report of version 2": second.report_url or "",
            "drift report": drift.report_url,
        }
        self._screen.heading("Links")
        self._screen.links(links)
        return links
