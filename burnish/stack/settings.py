"""The environment of the stack's processes: where its servers keep what is theirs, and no calls home."""

import os

from flows.settings import LOOPBACK, StackSettings
from serving.settings import EngineSettings

Environment = dict[str, str]


def common(settings: StackSettings) -> Environment:
    """What every part gets: no analytics, no bytes from the folder it runs in on its path, the servers' addresses."""
    return {
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "DO_NOT_TRACK": "1",
        "BENTOML_DO_NOT_TRACK": "True",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "ORT_DISABLE_TELEMETRY": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_HOME": str(settings.home / "prefect"),
        "PREFECT_API_URL": f"{settings.prefect_url}/api",
        "MLFLOW_TRACKING_URI": settings.mlflow_url,
        "BENTOML_HOME": str(settings.bento_folder),
        **_loopback_without_proxy(settings),
    }


def prefect(settings: StackSettings) -> Environment:
    """What the Prefect server gets besides."""
    own = {
        "PREFECT_SERVER_UI_API_URL": f"{settings.prefect_url}/api",
        "PREFECT_CLI_PROMPT": "false",
    }
    if settings.prefect_database_url:
        own["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = settings.prefect_database_url
    return own


def mlflow() -> Environment:
    """What the MLflow server gets besides."""
    return {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def runner() -> Environment:
    """What the process that runs flows gets besides: it asks for work more often than every ten seconds."""
    return {"PREFECT_RUNNER_POLL_FREQUENCY": "2"}


def engine_settings(settings: StackSettings) -> EngineSettings:
    """The stack's settings in the engine's own words; what the stack does not set comes from ``BURNISH_ENGINE_*``."""
    return EngineSettings(
        catalog_folder=settings.catalog_folder,
        artifacts_folder=settings.artifacts_folder,
        artifacts_url=settings.artifacts_url,
        s3_endpoint_url=settings.s3_endpoint_url,
        capture_folder=settings.capture_folder,
        capture_rate=settings.capture_rate,
        host=LOOPBACK,
        door_port=settings.door_port,
        bento_port=settings.bento_port,
        workers=settings.workers,
    )


def engine(settings: EngineSettings) -> Environment:
    """What the engine gets besides."""
    prefix = EngineSettings.model_config["env_prefix"]
    return {f"{prefix}{name.upper()}": str(value) for name, value in settings.model_dump(mode="json").items()}


def _loopback_without_proxy(settings: StackSettings) -> Environment:
    """A proxy that the person's environment names cannot reach this machine's own servers."""
    own = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    hosts = ",".join(dict.fromkeys([*own.split(","), LOOPBACK, "localhost", settings.host])).strip(",")
    return {"NO_PROXY": hosts, "no_proxy": hosts}
