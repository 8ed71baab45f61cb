"""Model versions in MLflow: one run a version, a pointer instead of bytes, aliases that mirror the ledger."""

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import Metric as RunMetric
from mlflow.entities import Param
from mlflow.entities.model_registry import ModelVersion as StoredVersion
from mlflow.environment_variables import (
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR,
    MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR,
    MLFLOW_HTTP_REQUEST_MAX_RETRIES,
    MLFLOW_HTTP_REQUEST_TIMEOUT,
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT,
)
from mlflow.exceptions import MlflowException
from mlflow.store.entities.paged_list import PagedList
from requests import RequestException

from registry.errors import InputError, ModelNotFound, RegistryError, TransientError
from registry.model_card import model_card
from registry.records.model import ModelVersion, VersionDraft
from registry.store.location import ArtifactLocation
from registry.store.mlflow_directory import MODEL_FOLDER, VERSION_FILE, write_model_directory
from registry.store.version_record import (
    ATTACHMENT,
    DRAFT,
    DRAFT_DIGEST,
    MANAGED,
    OPTIMIZATION,
    run_figures,
    run_parameters,
    version_tags,
)

# The column of a version's description in MLflow's databases.
_DESCRIPTION_CHARACTERS = 5_000
_PAGE = 200
T = TypeVar("T")
_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,127}")


class MlflowStore:
    """Versions in MLflow, over HTTP (``http://...``) or directly on its database (``sqlite:///...``).

    A version exists once MLflow has created it, which is the last step of ``register`` and carries all tags.
    Connection errors and answers of the 5xx kind are ``TransientError``, from every method.
    """

    def __init__(self, tracking_uri: str, location: ArtifactLocation) -> None:
        """Use an MLflow server or database.

        Args:
            tracking_uri: MLflow's URI.
            location: where the artifacts are; written into every version, so that MLflow's own loader finds them.
        """
        _configure()
        self._location = location
        self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        self._uri = tracking_uri

    def register(self, draft: VersionDraft) -> ModelVersion:
        """Give a draft its number; the same ``optimization_id`` again returns the version it already has.

        Raises:
            InputError: the optimization id holds characters that MLflow's search does not take.
        """
        with self._translated(draft.model):
            known = self._registered(draft)
            if known is None:
                made = self._create_version(draft, self._log_run(draft))
                known = self._registered(draft) or made
                if known.version != made.version:  # another process registered the same optimization meanwhile
                    self._client.delete_model_version(draft.model, made.version)
            return self._read(known)

    def version(self, model: str, number: int) -> ModelVersion:
        """Return one version.

        Raises:
            ModelNotFound: there is none, or Burnish did not register it.
            RegistryError: what MLflow keeps of it was changed.
        """
        return self._read(self._stored(model, number))

    def versions(self, model: str) -> tuple[ModelVersion, ...]:
        """Return every version of a model, oldest first; empty for an unknown model."""
        with self._translated(model):
            found = sorted(self._search(f"name='{_safe(model)}'"), key=lambda stored: int(stored.version))
            return tuple(self._read(stored) for stored in found if DRAFT_DIGEST in stored.tags)

    def models(self) -> tuple[str, ...]:
        """Return the names of all models that have a version of Burnish, sorted."""
        query = f"tags.`{MANAGED}` = 'true'"
        with self._translated("the models"):
            found = _pages(lambda token: self._client.search_registered_models(query, _PAGE, page_token=token))
            return tuple(sorted(entry.name for entry in found if entry.latest_versions))

    def set_alias(self, model: str, alias: str, number: int | None) -> None:
        """Point an alias at a version, or remove it with ``None``.

        Raises:
            ModelNotFound: there is no such version.
        """
        if number is None:
            with suppress(ModelNotFound), self._translated(model):
                self._client.delete_registered_model_alias(model, alias)
            return
        self._stored(model, number)
        with self._translated(f"version {number} of {model!r}"):
            self._client.set_registered_model_alias(model, alias, str(number))

    def alias(self, model: str, alias: str) -> int | None:
        """Return the version that an alias points at."""
        try:
            with self._translated(model):
                number = self._client.get_registered_model(model).aliases.get(alias)
        except ModelNotFound:
            return None
        return None if number is None else int(number)

    def attach(self, model: str, number: int, name: str, folder: Path) -> None:
        """Keep a folder of files as ``attachments/<name>`` of the version's run.

        Raises:
            ModelNotFound: there is no such version.
            InputError: the name cannot stand in a path.
        """
        stored = self._stored(model, number)
        with self._translated(f"version {number} of {model!r}"):
            path = f"attachments/{_safe(name)}"
            self._client.log_artifacts(str(stored.run_id), str(folder), path)
            self._client.set_model_version_tag(model, str(number), f"{ATTACHMENT}.{name}", path)

    def _registered(self, draft: VersionDraft) -> StoredVersion | None:
        """Return the version of a draft's optimization: the first, should two processes have made one each."""
        same = f"name='{draft.model}' and tags.`{OPTIMIZATION}`='{_safe(draft.optimization_id)}'"
        return min(self._search(same), key=lambda stored: int(stored.version), default=None)

    def _search(self, query: str) -> Iterator[StoredVersion]:
        return _pages(lambda token: self._client.search_model_versions(query, _PAGE, page_token=token))

    def _stored(self, model: str, number: int) -> StoredVersion:
        with self._translated(f"version {number} of {model!r}"):
            stored = self._client.get_model_version(model, str(number))
        if DRAFT_DIGEST not in stored.tags:
            raise ModelNotFound(f"version {number} of {model!r} was put into MLflow by somebody else, not by Burnish")
        return stored

    def _read(self, stored: StoredVersion) -> ModelVersion:
        text = stored.tags.get(DRAFT) or self._draft_file(stored)
        draft = VersionDraft.model_validate_json(text)
        if draft.digest != stored.tags[DRAFT_DIGEST]:
            raise RegistryError(
                f"version {stored.version} of {stored.name!r} was changed in MLflow after it was registered: its "
                "record does not have its digest; roll back to another version and run the optimization again"
            )
        created_at = datetime.fromtimestamp(stored.creation_timestamp / 1000, tz=UTC)
        return ModelVersion(version=int(stored.version), created_at=created_at, draft=draft)

    def _draft_file(self, stored: StoredVersion) -> str:
        what = f"the record of version {stored.version} of {stored.name!r}"
        with self._translated(what), tempfile.TemporaryDirectory(prefix="burnish-version-") as folder:
            name = f"{MODEL_FOLDER}/{VERSION_FILE}"
            return Path(self._client.download_artifacts(str(stored.run_id), name, folder)).read_text(encoding="utf-8")

    def _log_run(self, draft: VersionDraft) -> str:
        """Make the version's run with figures, parameters and model directory; return its id."""
        run_id = self._run_id(draft)
        now = int(time.time() * 1000)
        figures = [RunMetric(name, value, now, 0) for name, value in run_figures(draft).items()]
        parameters = [Param(name, value) for name, value in run_parameters(draft).items()]
        try:
            self._client.log_batch(run_id, metrics=figures, params=parameters)
        except MlflowException:  # another process has just logged the same; if it has not, the next line says why
            self._client.log_batch(run_id, metrics=figures, params=parameters)
        with tempfile.TemporaryDirectory(prefix="burnish-register-") as name:
            write_model_directory(Path(name), draft, run_id, self._location)
            self._client.log_artifacts(run_id, name, MODEL_FOLDER)
        artifacts = self._location.open()
        if artifacts.exists(draft.report):
            self._client.log_artifacts(run_id, str(artifacts.checkout(draft.report)), "report")
        self._client.set_terminated(run_id)
        return run_id

    def _run_id(self, draft: VersionDraft) -> str:
        """Return the run of a draft's optimization: that of a process that died half-way, or a new one."""
        experiment_id = self._experiment(draft.model)
        known = self._client.search_runs([experiment_id], f"tags.`{OPTIMIZATION}` = '{_safe(draft.optimization_id)}'")
        if known:
            return str(known[0].info.run_id)
        tags = {OPTIMIZATION: draft.optimization_id}
        return str(self._client.create_run(experiment_id, tags=tags, run_name=draft.optimization_id).info.run_id)

    def _experiment(self, model: str) -> str:
        known = self._client.get_experiment_by_name(model)
        if known is None:
            with suppress(MlflowException):  # another process has just made it; if not, the next line says why
                self._client.create_experiment(model)
            known = self._client.get_experiment_by_name(model)
        if known is None:
            raise RegistryError(f"MLflow at {self._uri} does not make an experiment {model!r}")
        return str(known.experiment_id)

    def _create_version(self, draft: VersionDraft, run_id: str) -> StoredVersion:
        try:
            self._client.create_registered_model(draft.model, tags={MANAGED: "true"})
        except MlflowException:  # it exists; if it does not, the next line says why
            self._client.set_registered_model_tag(draft.model, MANAGED, "true")
        return self._client.create_model_version(
            draft.model,
            source=f"{self._client.get_run(run_id).info.artifact_uri}/{MODEL_FOLDER}",
            run_id=run_id,
            tags=version_tags(draft),
            await_creation_for=0,  # it is whole when the call returns
            description=model_card(draft)[:_DESCRIPTION_CHARACTERS],
        )

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Turn MLflow's errors into ours: not there, not reachable for now, or refused."""
        try:
            yield
        except RequestException as error:  # from MLflow's artifact proxy, which does not translate them
            raise TransientError(f"MLflow at {self._uri} did not answer: {error}") from error
        except MlflowException as error:
            status = error.get_http_status_code()
            if status == 404:
                raise ModelNotFound(f"MLflow at {self._uri} does not have {what}: {error}") from error
            if status >= 500 or status == 429:
                raise TransientError(f"MLflow at {self._uri} did not answer: {error}") from error
            raise RegistryError(f"MLflow at {self._uri} refused {what}: {error}") from error


def _pages(search: Callable[[str | None], PagedList[T]]) -> Iterator[T]:
    token: str | None = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def _safe(text: str) -> str:
    """Return a name or id that can stand in a path and in MLflow's search language, which has no way to quote."""
    if not _SAFE.fullmatch(text):
        raise InputError(f"{text!r} is no name that MLflow can keep: use at most 128 letters, digits and . : - _")
    return text


def _configure() -> None:
    """Bound how long a call may wait for an MLflow that is down, and print nothing, unless the user chose otherwise."""
    for variable, value in (
        (MLFLOW_HTTP_REQUEST_MAX_RETRIES, 1),
        (MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR, 1),
        (MLFLOW_HTTP_REQUEST_TIMEOUT, 20),
        (MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR, False),
        (MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT, True),
    ):
        if not variable.is_set():
            variable.set(value)
