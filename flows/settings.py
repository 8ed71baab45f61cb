"""Where the parts of the stack are: environment variables ``BURNISH_*``, then ``stack.json`` in the home folder."""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from registry.errors import InputError
from registry.records.tenant import QualifiedName

STACK_FILE = "stack.json"
LOOPBACK = "127.0.0.1"
"""Where the parts listen that let in everybody: all but the gateway and the control API."""


def _home() -> Path:
    return Path(os.environ.get("BURNISH_HOME", "~/.burnish")).expanduser().absolute()


class ModelPool(BaseModel):
    """Models that are served by workers of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: tuple[QualifiedName, ...] = Field(min_length=1)
    workers: tuple[int, ...] = Field(min_length=1, description="By their number, from 0.")


class StackSettings(BaseSettings):
    """One stack: its folder, its ports, its stores. ``burnish up`` writes what it started with to ``stack.json``."""

    model_config = SettingsConfigDict(env_prefix="BURNISH_", frozen=True, extra="ignore")

    home: Path = Field(default_factory=_home, description="The folder that holds everything the stack keeps.")
    host: str = Field(default="127.0.0.1", description="Address of gateway and control API; the rest is on loopback.")
    require_keys: bool = Field(default=False, description="Refuse who brings no API key; needed beyond loopback.")
    gateway_port: int = Field(default=8000, description="Envoy: inference over REST and gRPC.")
    gateway_admin_port: int = Field(default=8002, description="Envoy: admin and metrics.")
    control_port: int = Field(default=8080, description="Control API.")
    bento_port: int = Field(default=3000, description="The BentoML endpoint of the engine.")
    door_port: int = Field(
        default=8100,
        description="REST door of worker 0, its gRPC door is the next port; worker i listens 10 x i higher.",
    )
    prefect_port: int = Field(default=4200, description="Prefect server and UI.")
    mlflow_port: int = Field(default=5000, description="MLflow server and UI.")
    workers: int = Field(
        default=2,
        ge=1,
        description="Engine workers: one answers more on two cores; of two, one can be replaced.",
    )
    pools: dict[str, ModelPool] = Field(default={}, description="Workers for some models alone, by the pool's name.")
    tls_certificate: Path | None = Field(default=None, description="PEM file; the gateway speaks TLS if it is set.")
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's key.")
    artifacts_url: str = Field(default="", description="s3://bucket/prefix; empty: the folder artifacts/ in home.")
    s3_endpoint_url: str = Field(default="", description="An S3 server other than AWS.")
    ledger_url: str = Field(default="", description="SQLAlchemy URL; empty: SQLite in home.")
    mlflow_backend_url: str = Field(default="", description="MLflow's database URL; empty: SQLite in home.")
    prefect_database_url: str = Field(default="", description="Prefect's database URL; empty: SQLite in home.")
    upload_max_bytes: int = Field(default=8 * 2**30, ge=1, description="Larger uploads are refused with 413.")
    upload_unpacked_bytes: int = Field(default=16 * 2**30, ge=1, description="What an uploaded archive may unpack to.")
    upload_members: int = Field(default=10_000, ge=1, description="Files in an uploaded archive.")
    upload_ratio: int = Field(
        default=100, ge=1, description="Unpacked by packed bytes of an archive that unpacks to more than 64 MiB."
    )
    upload_open: int = Field(
        default=100, ge=1, description="Resumable uploads of a tenant that are not finished, at once."
    )
    upload_expiry_seconds: float = Field(default=86_400, gt=0, description="How long a cut upload may be resumed.")
    upload_idle_seconds: float = Field(default=60, gt=0, description="An upload that sends nothing for so long is cut.")
    capture_rate: float = Field(default=0.1, ge=0, le=1, description="Share of requests sampled to Parquet.")
    monitor_cron: str = Field(default="0 * * * *", description="When drift reports are made.")
    retrain_cron: str = Field(default="0 3 * * 0", description="When retraining runs.")
    trainers: tuple[str, ...] = Field(
        default=("burnish.examples.digits:train",),
        description="Training functions (module:function) that the retrain flow may call.",
    )

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Explicit arguments win over the environment, the environment over the running stack's file."""
        home = init_settings().get("home")
        folder = _home() if home is None else Path(home).expanduser()
        stack_file = JsonConfigSettingsSource(settings_cls, json_file=folder / STACK_FILE)
        return init_settings, env_settings, stack_file

    @property
    def gateway_url(self) -> str:
        """Base URL of the gateway."""
        return f"{'https' if self.tls_certificate else 'http'}://{self.host}:{self.gateway_port}"

    @property
    def control_url(self) -> str:
        """Base URL of the control API."""
        return f"http://{self.host}:{self.control_port}"

    @property
    def mlflow_url(self) -> str:
        """Base URL of the MLflow server."""
        return f"http://{LOOPBACK}:{self.mlflow_port}"

    @property
    def prefect_url(self) -> str:
        """Base URL of the Prefect UI; its API is below ``/api``."""
        return f"http://{LOOPBACK}:{self.prefect_port}"

    def door_url(self, worker: int) -> str:
        """Base URL of one engine worker's REST door."""
        return f"http://{LOOPBACK}:{self.door_port + 10 * worker}"

    @property
    def ledger_database(self) -> str:
        """SQLAlchemy URL of the ledger."""
        return self.ledger_url or f"sqlite:///{self.home / 'ledger.db'}"

    @property
    def artifacts_folder(self) -> Path:
        """The local artifact store; with S3, the cache of what was read."""
        return self.home / "artifacts"

    @property
    def catalog_folder(self) -> Path:
        """The folder that the engine watches."""
        return self.home / "catalog"

    @property
    def gateway_folder(self) -> Path:
        """The gateway's configuration, and the texts of the keys that it lets in."""
        return self.home / "gateway"

    @property
    def capture_folder(self) -> Path:
        """Sampled requests as Parquet."""
        return self.home / "capture"

    @property
    def cache_folder(self) -> Path:
        """Built candidates by digest."""
        return self.home / "cache"

    @property
    def work_folder(self) -> Path:
        """Workspaces of running optimizations."""
        return self.home / "work"

    @property
    def bento_folder(self) -> Path:
        """BENTOML_HOME: the Bentos that releases publish."""
        return self.home / "bento"

    @property
    def log_folder(self) -> Path:
        """One log a process."""
        return self.home / "logs"

    @property
    def access_log(self) -> Path:
        """What the gateway was asked: one JSON line a request."""
        return self.log_folder / "gateway-access.json"


def stack_settings(home: Path | None = None) -> StackSettings:
    """Return the settings of the stack in a folder; without one, of the stack that the environment names.

    Raises:
        InputError: a variable or ``stack.json`` holds a value that cannot be used.
    """
    try:
        return StackSettings() if home is None else StackSettings(home=home)
    except ValidationError as error:
        problems = "; ".join(f"BURNISH_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors())
        raise InputError(f"the stack's settings cannot be used: {problems}") from error
    except SettingsError as error:
        raise InputError(f"a variable BURNISH_... of the environment must be JSON and is not: {error}") from error
    except (ValueError, TypeError) as error:
        folder = _home() if home is None else home
        raise InputError(f"{folder / STACK_FILE} cannot be read: {error}; correct or remove it") from error


def keep_settings(settings: StackSettings) -> None:
    """Write what a stack starts with to ``stack.json`` in its home folder, readable by its owner alone."""
    settings.home.mkdir(parents=True, exist_ok=True)
    draft = settings.home / f"{STACK_FILE}.new"
    draft.touch(mode=0o600)
    draft.write_text(settings.model_dump_json(indent=1, exclude={"home"}), encoding="utf-8")
    draft.replace(settings.home / STACK_FILE)
