"""Push, optimize, release, refuse, promote, roll back, watch, retrain: a model's life on a real stack, in its order."""

import os
import pickle
import signal
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import psutil
import torch

from burnish.client import Client
from burnish.examples.digits import Split, train_digits
from burnish.export import export_module
from burnish.replies import Optimization
from burnish.stack.processes import leftovers
from tests.e2e.conftest import MODEL, PARTS, QUICK, Pusher
from tests.e2e.stack import StackUnderTest
from tests.integration.processes import wait_for


def test_every_part_is_healthy_and_the_way_through_the_gateway_is_open(stack: StackUnderTest) -> None:
    status = stack.run("status", "--json")
    assert (status.code, status.json["healthy"]) == (0, True)
    assert {part["name"]: part["healthy"] for part in status.json["parts"]} == dict.fromkeys(PARTS, True)
    with httpx.Client(trust_env=False, timeout=20) as asked:
        assert asked.get(stack.url("gateway_port", "/v2/health/ready")).status_code == 200
        assert asked.get(stack.url("gateway_port", "/v2/models/none")).status_code == 404


def test_the_stacks_memory_is_in_its_home_and_every_part_has_a_log(stack: StackUnderTest) -> None:
    logs = {path.name for path in (stack.home / "logs").iterdir()}
    assert {f"{name}.log" for name in PARTS} <= logs
    assert (stack.home / "prefect" / "prefect.db").exists()
    assert (stack.home / "mlflow" / "mlflow.db").exists()
    assert not list((stack.home.parent / "tasks").rglob("*.pyc"))
    assert {path.name for path in stack.home.parent.iterdir()} == {"home", "tasks"}


def test_nothing_listens_beyond_loopback(stack: StackUnderTest) -> None:
    sockets = [
        connection
        for process in leftovers(stack.home)
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert sockets
    assert {connection.laddr.ip for connection in sockets} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_killed_parts_come_back(stack: StackUnderTest) -> None:
    killed, before = ("engine", "gateway", "control"), stack.parts()
    for name in killed:
        os.kill(before[name]["pid"], signal.SIGKILL)

    def back() -> bool:
        now = stack.parts()
        fresh = all(now[name]["pid"] != before[name]["pid"] for name in killed)
        return fresh and all(part["healthy"] for part in now.values())

    wait_for(back, "the killed parts to be healthy again", 120)
    restarts = {name: part["restarts"] for name, part in stack.parts().items()}
    assert restarts == {name: int(name in killed) for name in PARTS}


def test_the_first_version_is_live_and_passed_its_gate(client: Client, first_version: Optimization) -> None:
    assert (first_version.version, [rule.verdict for rule in first_version.refusals]) == (1, [])
    candidates = client.candidates(first_version.id)
    assert sum(candidate.baseline for candidate in candidates) == 1
    assert sum(candidate.chosen for candidate in candidates) == 1
    assert client.versions(MODEL).champion == 1


def test_the_endpoint_answers_what_the_registered_artifact_computes(
    stack: StackUnderTest, client: Client, split: Split, first_version: Optimization
) -> None:
    mlflow.set_tracking_uri(stack.url("mlflow_port"))
    registered = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
    for start in range(0, 40, 4):
        images = split.evaluation_x[start : start + 4]
        answered = client.predict(MODEL, {"image": images})
        (logits,) = answered.outputs.values()
        (expected,) = registered.predict({"image": images}).values()
        np.testing.assert_array_equal(logits, expected)
        assert (answered.model, answered.version) == (MODEL, first_version.version)


def test_every_answer_names_its_artifact(client: Client, split: Split, first_version: Optimization) -> None:
    answered = client.predict(MODEL, {"image": split.evaluation_x[:1]})
    (version,) = [found for found in client.versions(MODEL).versions if found.number == answered.version]
    assert answered.artifact == version.artifact


def test_a_captured_request_is_explained_down_to_its_evaluation_set(
    stack: StackUnderTest, client: Client, split: Split, first_version: Optimization
) -> None:
    answered = client.predict(MODEL, {"image": split.evaluation_x[:3]})
    wait_for(lambda: stack.run("explain", answered.request_id).code == 0, "the captured request", 120)
    explained = stack.run("explain", answered.request_id, "--model", MODEL, "--json").json
    asked, (origin,) = explained["request"], explained["origins"]
    assert (asked["request_id"], asked["samples"], asked["in_force"]["champion"]) == (
        answered.request_id,
        3,
        first_version.version,
    )
    assert (origin["model"], origin["version"], origin["artifact"]) == (MODEL, answered.version, answered.artifact)
    registered = origin["registered"]
    assert registered["optimization_id"] == first_version.id
    assert {rule["verdict"] for rule in registered["rules"]} == {"pass"}
    assert len(registered["evaluation_set"]) == len(registered["source"]) == 64
    by_artifact = stack.run("explain", "--artifact", answered.artifact, "--json").json
    assert by_artifact["origins"] == [origin]


def test_a_bad_version_is_refused_before_any_search(
    stack: StackUnderTest, client: Client, split: Split, first_version: Optimization, tmp_path: Path
) -> None:
    before = client.versions(MODEL)
    bad = export_module(train_digits(seed=1, corrupted_labels=0.2), split.train_x[:2])
    torch.export.save(bad, tmp_path / "model.pt2")
    np.savez(tmp_path / "evaluation.npz", image=split.evaluation_x, label=split.evaluation_y)
    sets = ("--eval", str(tmp_path / "evaluation.npz"))
    refused = stack.run("push", str(tmp_path / "model.pt2"), MODEL, *sets, "--json")
    assert refused.code == 1, refused.err
    (rule,) = refused.json["rules"]
    assert (rule["rule"], rule["verdict"]) == ("not_worse_than_champion", "fail")
    assert rule["figures"]["losses"] > rule["figures"]["wins"]
    assert (refused.json["state"], refused.json["candidates_total"]) == ("refused", 0)
    assert client.versions(MODEL) == before


def test_a_good_version_is_promoted_and_rolled_back(
    stack: StackUnderTest, client: Client, split: Split, pusher: Pusher, first_version: Optimization
) -> None:
    second = pusher(train_digits())
    assert second.released, second
    assert client.predict(MODEL, {"image": split.evaluation_x[:1]}).version == second.version
    rolled_back = stack.run("rollback", MODEL, "--json")
    assert rolled_back.code == 0, rolled_back.err
    assert rolled_back.json["champion"] == first_version.version
    assert client.predict(MODEL, {"image": split.evaluation_x[:1]}).version == first_version.version
    wait_for(lambda: _champion_alias(stack) == first_version.version, "MLflow's alias to follow", 120)


def test_a_hostile_file_ends_with_exit_code_2_and_leaves_no_row(
    stack: StackUnderTest, client: Client, split: Split, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    hostile = tmp_path / "model.pt2"
    hostile.write_bytes(pickle.dumps(Touch(marker)))
    evaluation = tmp_path / "evaluation.npz"
    np.savez(evaluation, image=split.evaluation_x, label=split.evaluation_y)
    pushed = stack.run("push", str(hostile), "hostile", "--eval", str(evaluation))
    assert pushed.code == 2, pushed.out + pushed.err
    assert not marker.exists()
    assert "hostile" not in [model.name for model in client.models()]
    assert "pickle" in pushed.out + pushed.err


def _champion_alias(stack: StackUnderTest) -> int | None:
    mlflow.set_tracking_uri(stack.url("mlflow_port"))
    try:
        return int(mlflow.MlflowClient().get_model_version_by_alias(MODEL, "champion").version)
    except mlflow.exceptions.MlflowException:
        return None


def kill_tree(pid: int) -> None:
    """kill -9 a part and all that it started."""
    root = psutil.Process(pid)
    for process in (*root.children(recursive=True), root):
        process.kill()


class Touch:
    """Unpickling this runs a command."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.marker,)  # type: ignore[return-value]


def test_an_evaluation_set_of_object_arrays_is_refused(stack: StackUnderTest, client: Client, tmp_path: Path) -> None:
    truncated = tmp_path / "model.onnx"
    truncated.write_bytes(b"\x08\x07 truncated")
    evaluation = tmp_path / "evaluation.npz"
    np.savez(evaluation, image=np.array([{"a": 1}], dtype=object))
    pushed = stack.run("push", str(truncated), "objects", "--eval", str(evaluation))
    assert pushed.code == 2, pushed.out + pushed.err
    assert "objects" not in [model.name for model in client.models()]


def test_drift_report_of_what_was_served(
    stack: StackUnderTest, client: Client, split: Split, first_version: Optimization
) -> None:
    batches = [{"image": split.evaluation_x[start : start + 8]} for start in range(0, 400, 8)]
    stack.await_captured(MODEL, [client.predict(MODEL, batch).request_id for batch in batches])
    client.monitor(MODEL)
    wait_for(lambda: bool(client.drift_reports(MODEL)), "the drift report", 120)
    report = client.drift_reports(MODEL)[0]
    assert (report.model, report.drifted) == (MODEL, False)
    assert report.samples >= 400


def test_promote_and_roll_back_while_prefect_and_mlflow_are_dead(
    stack: StackUnderTest, client: Client, first_version: Optimization, split: Split
) -> None:
    other = next(found.number for found in client.versions(MODEL).versions if found.number != first_version.version)
    for part in ("prefect", "mlflow"):
        kill_tree(stack.part(part)["pid"])
    promoted = stack.run("promote", MODEL, str(other), "--json")
    assert promoted.code == 0, promoted.err
    assert client.predict(MODEL, {"image": split.evaluation_x[:1]}).version == other
    rolled_back = stack.run("rollback", MODEL, "--json")
    assert rolled_back.code == 0, rolled_back.err
    assert client.predict(MODEL, {"image": split.evaluation_x[:1]}).version == first_version.version
    assert stack.run("promote", MODEL, str(other)).code == 0
    wait_for(lambda: stack.part("mlflow")["healthy"] and stack.part("prefect")["healthy"], "both to be back", 120)
    wait_for(lambda: _champion_alias(stack) == other, "MLflow's alias to follow", 120)
    assert stack.run("rollback", MODEL).code == 0


def test_retraining_on_labelled_requests_makes_the_next_version(
    stack: StackUnderTest, client: Client, split: Split, first_version: Optimization
) -> None:
    before = {one.id for one in client.optimizations(MODEL)}
    served = []
    for start in range(0, 160, 8):
        rows = slice(start, start + 8)
        answered = client.predict(MODEL, {"image": split.train_x[rows]})
        client.feedback(MODEL, answered.request_id, split.train_y[rows].tolist())
        served.append(answered.request_id)
    stack.await_captured(MODEL, served)
    client.retrain(MODEL)
    wait_for(lambda: len(client.optimizations(MODEL)) > len(before), "the optimization of the new model", 180)
    (new,) = [one for one in client.optimizations(MODEL) if one.id not in before]
    ended = client.wait(new.id, timeout_s=300)
    assert ended.released, ended
    config = _searched_with(stack, new)
    assert config == _searched_with(stack, first_version)
    assert {name: config[name] for name in QUICK} == QUICK
    assert sum(candidate.chosen for candidate in client.candidates(new.id)) == 1


def _searched_with(stack: StackUnderTest, optimization: Optimization) -> dict[str, Any]:
    """What was asked of a search: how much of it is tried depends on how busy the machine is."""
    url = stack.url("control_port", f"/v1/optimizations/{optimization.id}/result")
    config: dict[str, Any] = httpx.get(url, trust_env=False).raise_for_status().json()["config"]
    return config


def test_a_flow_killed_between_register_and_release_leaves_a_consistent_stack(
    stack: StackUnderTest, client: Client, pusher: Pusher, split: Split, first_version: Optimization
) -> None:
    live = client.versions(MODEL).champion
    known = {found.number for found in client.versions(MODEL).versions}
    runner = psutil.Process(stack.part("runner")["pid"])  # known before: the stage that is waited for is short
    optimization = pusher(train_digits(seed=2), wait=False)
    wait_for(lambda: client.optimization(optimization.id).stage == "build Bento", "the version to be registered", 300)
    kill_tree(flow_process(runner))
    assert client.wait(optimization.id, timeout_s=180).state == "failed"
    assert stack.run("down").code == 0
    assert stack.run("up").code == 0
    (orphan,) = {found.number for found in client.versions(MODEL).versions} - known
    wait_for(lambda: any("never released" in note for note in client.status().notes), "the note", 120)
    status = stack.run("status", "--json")
    assert status.code == 0
    assert any(f"version {orphan} is registered but was never released" in note for note in status.json["notes"])
    assert client.versions(MODEL).champion == live
    assert client.predict(MODEL, {"image": split.evaluation_x[:1]}).version == live


def test_down_leaves_no_process_and_says_the_same_again(stack: StackUnderTest) -> None:
    supervised = leftovers(stack.home)
    assert len(supervised) > len(PARTS)
    everything = {process for member in supervised for process in [member, *member.children(recursive=True)]}
    assert stack.run("down").code == 0
    assert not [process for process in everything if process.is_running()]
    assert stack.processes() == set()
    assert "no stack was running" in stack.run("down").out
    assert stack.run("status", "--json").code == 3


def flow_process(runner: psutil.Process) -> int:
    """The process that runs the one flow that is running: the runner's child."""
    (child,) = [one for one in runner.children() if any("prefect" in word for word in one.cmdline())]
    return child.pid
