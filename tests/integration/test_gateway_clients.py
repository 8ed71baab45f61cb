"""The clients that people have, against a real engine through the gateway: one port, with a key, and with TLS."""

# ruff: noqa: ANN401 - the clients have no types
# mypy: disable-error-code="no-untyped-call"

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

from registry.records.model import Datatype
from serving.doors.protocol import open_inference_pb2 as pb
from serving.gateway import files
from serving.gateway.certificate import make_certificate
from serving.gateway.plan import Endpoint
from serving.gateway.tenants import GatewayTenant, set_tenants
from tests.integration.echo_engine import WIDTH, EchoEngine, name_of
from tests.integration.gateway_rig import GatewayRig, bearer, gateway_alone, key, plan_of

MODEL = name_of(Datatype.FP32)
ROWS = np.arange(3 * WIDTH, dtype=np.float32).reshape(3, WIDTH)
KEY = key(1)


@contextmanager
def in_front_of(engine: EchoEngine, home: Path, **fields: Any) -> Iterator[GatewayRig]:
    """A gateway whose one worker is a real engine; the default tenant's key is needed."""
    host, port = engine.rest.split(":")
    worker = Endpoint(host=host, port=int(port), sockets=engine.home / "engine" / "doors" / f"{port}-0")
    plan = plan_of(home).model_copy(update={**fields, "workers": (worker,), "require_keys": True})
    rig = GatewayRig(plan, home / "gateway")
    set_tenants(rig.folder, (GatewayTenant(name="default", keys=(KEY,)),), require_keys=True)
    files.render(plan, rig.folder)
    with gateway_alone(rig):
        yield rig


@pytest.fixture(scope="module")
def rig(echo_engine: EchoEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayRig]:
    with in_front_of(echo_engine, tmp_path_factory.mktemp("clients")) as running:
        yield running


@pytest.mark.parametrize("module", [triton_http, triton_grpc], ids=["http", "grpc"])
def test_tritonclient_goes_through_the_one_port_with_a_key(rig: GatewayRig, module: Any) -> None:
    headers = bearer(KEY)
    with module.InferenceServerClient(rig.grpc) as client:
        assert client.is_server_live(headers=headers)
        assert client.is_server_ready(headers=headers)
        assert client.is_model_ready(MODEL, headers=headers)
        assert client.get_server_metadata(headers=headers)
        assert client.get_model_metadata(MODEL, headers=headers)
        assert client.get_inference_statistics(MODEL, headers=headers)
        assert client.get_model_repository_index(headers=headers)
        client.unload_model(MODEL, headers=headers)
        client.load_model(MODEL, headers=headers)
        tensor = module.InferInput("x", ROWS.shape, "FP32")
        tensor.set_data_from_numpy(ROWS)
        reply = client.infer(MODEL, [tensor], request_id="mine", headers=headers)
        assert reply.as_numpy("y").tolist() == ROWS.tolist()
        option = "request_compression_algorithm" if module is triton_http else "compression_algorithm"
        for algorithm in ("gzip", "deflate"):
            compressed = client.infer(MODEL, [tensor], headers=bearer(KEY), **{option: algorithm})
            assert compressed.as_numpy("y").tolist() == ROWS.tolist()
        with pytest.raises(InferenceServerException, match="no valid API key"):
            client.infer(MODEL, [tensor])
        with pytest.raises(InferenceServerException, match="nobody"):
            client.infer("nobody", [tensor], headers=headers)


@pytest.mark.parametrize("name", ["a\nb", "a\0", "\u00e9", "a" * 90_000], ids=["newline", "null", "accent", "long"])
def test_whatever_a_message_calls_its_model_the_worker_says_that_it_is_not_there(rig: GatewayRig, name: str) -> None:
    with grpc.insecure_channel(rig.grpc) as channel:
        ready = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelReady", pb.ModelReadyRequest.SerializeToString
        )
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            ready(pb.ModelReadyRequest(name=name), metadata=tuple(bearer(KEY).items()), timeout=20)


def test_the_health_service_of_grpc_is_there_and_its_watch_is_not(rig: GatewayRig) -> None:
    with grpc.insecure_channel(rig.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", metadata=tuple(bearer(KEY).items()), timeout=20) == b"\x08\x01"
        watch = channel.unary_unary("/grpc.health.v1.Health/Watch")
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            watch(b"", metadata=tuple(bearer(KEY).items()), timeout=20)


def test_both_protocols_come_with_tls_on_the_one_port(echo_engine: EchoEngine, tmp_path: Path) -> None:
    made = make_certificate(tmp_path / "tls", ("localhost", "127.0.0.1"), 2)
    with in_front_of(echo_engine, tmp_path, tls=made) as rig:
        url = rig.url.replace("http", "https")
        trusted = ssl.create_default_context(cafile=str(made.certificate))
        assert httpx.get(f"{url}/v2", headers=bearer(KEY), verify=trusted, trust_env=False).status_code == 200
        credentials = grpc.ssl_channel_credentials(made.certificate.read_bytes())
        with grpc.secure_channel(rig.grpc, credentials) as channel:
            live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            answer = live(b"", metadata=tuple(bearer(KEY).items()), timeout=20)
            assert pb.ServerLiveResponse.FromString(answer).live
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{rig.url}/v2", trust_env=False)
