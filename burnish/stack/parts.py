"""The parts of the stack, as data: which program, on which port, how one knows that it is well."""

import math
import sys
from pathlib import Path

from pydantic import ValidationError

from burnish.stack import settings as environment
from burnish.stack.plan import Part, Port, Probe, StackPlan
from flows.settings import LOOPBACK, ModelPool, StackSettings
from registry.errors import InputError
from serving.gateway import files
from serving.gateway.plan import Endpoint, GatewayPlan, Pool, Tls

_PYTHON = (sys.executable, "-P", "-m")
# Whence a call came is what the connection says: the audit believes no header of a client.
_QUIET = ("--log-level", "warning", "--no-proxy-headers")
# The engine finishes what it has within its own bound; only then may it be killed.
_DRAIN_SPARE_S = 10.0


def stack_plan(settings: StackSettings) -> StackPlan:
    """Return the plan of the whole stack."""
    parts = (_prefect(settings), _mlflow(settings), _control(settings), _runner(settings), _engine(settings))
    return StackPlan(home=settings.home, parts=(*parts, _gateway(settings)))


def gateway_plan(settings: StackSettings) -> GatewayPlan:
    """Return what the gateway of a stack shall do.

    Raises:
        InputError: the settings ask for a gateway that cannot be.
    """
    doors = worker_doors(settings)
    taken = {worker for pool in settings.pools.values() for worker in pool.workers}
    try:
        return GatewayPlan(
            host=settings.host,
            port=settings.gateway_port,
            admin_port=settings.gateway_admin_port,
            workers=tuple(door for worker, door in enumerate(doors) if worker not in taken),
            pools=tuple(_pool(name, pool, doors) for name, pool in settings.pools.items()),
            tls=_tls(settings),
            require_keys=settings.require_keys,
            access_log=settings.access_log,
            max_body_bytes=environment.engine_settings(settings).max_body_bytes,
        )
    except ValidationError as error:
        reasons = "; ".join(f"{part['loc'] or ''} {part['msg']}" for part in error.errors())
        raise InputError(f"the settings ask for a gateway that cannot be: {reasons}") from error


def worker_doors(settings: StackSettings) -> tuple[Endpoint, ...]:
    """Return the REST door of each of the engine's workers, in their order."""
    engine = environment.engine_settings(settings)
    return tuple(
        Endpoint(host=LOOPBACK, port=port, sockets=engine.sockets_folder(worker))
        for worker, port in enumerate(_door_ports(settings))
    )


def gateway_folder(settings: StackSettings) -> Path:
    """Return where the gateway's configuration stands."""
    return settings.gateway_folder


def _pool(name: str, pool: ModelPool, doors: tuple[Endpoint, ...]) -> Pool:
    if strange := [str(worker) for worker in pool.workers if not 0 <= worker < len(doors)]:
        raise InputError(
            f"the pool {name} (BURNISH_POOLS) names worker {', '.join(strange)}; there are 0 to {len(doors) - 1}"
        )
    return Pool(name=name, models=pool.models, workers=tuple(doors[worker] for worker in pool.workers))


def _tls(settings: StackSettings) -> Tls | None:
    certificate, key = settings.tls_certificate, settings.tls_key
    if (certificate is None) != (key is None):
        raise InputError("BURNISH_TLS_CERTIFICATE and BURNISH_TLS_KEY belong together; set both or none")
    return Tls(certificate=certificate, key=key) if certificate and key else None


def _prefect(settings: StackSettings) -> Part:
    port = ("--host", LOOPBACK, "--port", str(settings.prefect_port))
    return Part(
        name="prefect",
        command=(*_PYTHON, "prefect", "server", "start", *port),
        environment=environment.common(settings) | environment.prefect(settings),
        ports=(_port(settings, "prefect_port", "Prefect server"),),
        probes=(Probe(url=f"{settings.prefect_url}/api/health"),),
        url=settings.prefect_url,
    )


def _mlflow(settings: StackSettings) -> Part:
    folder = settings.home / "mlflow"
    backend = settings.mlflow_backend_url or f"sqlite:///{folder / 'mlflow.db'}"
    stores = ("--backend-store-uri", backend, "--default-artifact-root", str(folder / "artifacts"))
    port = ("--host", LOOPBACK, "--port", str(settings.mlflow_port), "--workers", "1")
    return Part(
        name="mlflow",
        command=(*_PYTHON, "mlflow", "server", *stores, "--no-serve-artifacts", *port),
        environment=environment.common(settings) | environment.mlflow(),
        ports=(_port(settings, "mlflow_port", "MLflow server"),),
        probes=(Probe(url=f"{settings.mlflow_url}/health"),),
        url=settings.mlflow_url,
    )


def _control(settings: StackSettings) -> Part:
    # Whoever watches an optimization would hold up the end for as long as that takes.
    port = ("--host", settings.host, "--port", str(settings.control_port), "--timeout-graceful-shutdown", "3")
    return Part(
        name="control",
        command=(*_PYTHON, "uvicorn", "--factory", "flows.api:create_app", *port, *_QUIET),
        environment=environment.common(settings),
        ports=(_port(settings, "control_port", "control API", settings.host),),
        probes=(Probe(url=f"{settings.control_url}/v1/health"),),
        url=f"{settings.control_url}/docs",
    )


def _runner(settings: StackSettings) -> Part:
    # The runner has no port. It is well when Prefect has seen it ask for work since it started; `retrain` is the
    # deployment that it registers last.
    deployment = f"{settings.prefect_url}/api/deployments/name/retrain/retrain"
    return Part(
        name="runner",
        command=(*_PYTHON, "flows.serve"),
        environment=environment.common(settings) | environment.runner(),
        probes=(Probe(url=deployment, newer_than_start="last_polled"),),
    )


def _engine(settings: StackSettings) -> Part:
    engine = environment.engine_settings(settings)
    doors = tuple(
        Port(host=LOOPBACK, number=port, purpose=f"{kind} door of engine worker {i}", variable="BURNISH_DOOR_PORT")
        for i, rest in enumerate(_door_ports(settings))
        for kind, port in (("REST", rest), ("gRPC", rest + 1))
    )
    port = ("--host", LOOPBACK, "--port", str(settings.bento_port))
    # Without this bound BentoML waits for its own connections for ever before the doors may drain.
    bound = ("--timeout-graceful-shutdown", str(math.ceil(engine.drain_seconds)))
    return Part(
        name="engine",
        command=(*_PYTHON, "bentoml", "serve", "serving.doors.bento:EngineService", *port, *bound),
        environment=environment.common(settings) | environment.engine(engine),
        ports=(_port(settings, "bento_port", "engine's BentoML endpoint"), *doors),
        probes=tuple(Probe(url=f"{settings.door_url(i)}/v2/health/ready") for i in range(settings.workers)),
        url=f"http://{LOOPBACK}:{settings.bento_port}",
        stop_seconds=2 * engine.drain_seconds + _DRAIN_SPARE_S,
    )


def _gateway(settings: StackSettings) -> Part:
    return Part(
        name="gateway",
        command=files.command(gateway_folder(settings)),
        environment=environment.common(settings),
        ports=(
            _port(settings, "gateway_port", "gateway", settings.host),
            _port(settings, "gateway_admin_port", "gateway's admin and metrics"),
        ),
        probes=(Probe(url=f"http://{LOOPBACK}:{settings.gateway_admin_port}/ready"),),
        url=settings.gateway_url,
        stop_seconds=5.0,
    )


def _door_ports(settings: StackSettings) -> list[int]:
    return [settings.door_port + 10 * worker for worker in range(settings.workers)]


def _port(settings: StackSettings, field: str, purpose: str, host: str = LOOPBACK) -> Port:
    return Port(host=host, number=getattr(settings, field), purpose=purpose, variable=f"BURNISH_{field.upper()}")
