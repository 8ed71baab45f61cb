"""The release ledger: the one truth of what serves, with its history."""

from datetime import UTC, datetime

import sqlalchemy as sa

from registry.errors import ModelNotFound, RegistryError
from registry.ledger import routes
from registry.ledger.api_keys import ApiKeys
from registry.ledger.audit import Audit
from registry.ledger.database import Database, insert_if_absent
from registry.ledger.experiments import Experiments
from registry.ledger.kept_answers import KeptAnswers
from registry.ledger.listings import Listings
from registry.ledger.tables import DRIFT_REPORTS, FEEDBACK, OPTIMIZATIONS, SERVED_VERSIONS
from registry.ledger.tenants import Tenants, note_owner, optimization_row
from registry.ledger.usage import Usage
from registry.records.change import Change
from registry.records.model import ServedVersion
from registry.records.observation import DriftReport
from registry.records.release import Feedback, OptimizationStatus, ReleaseEvent, Route
from registry.records.tenant import split_name

_SERVED = (
    sa.select(SERVED_VERSIONS.c.record)
    .where(SERVED_VERSIONS.c.model == sa.bindparam("model"))
    .order_by(SERVED_VERSIONS.c.version)
)


class Ledger:
    """Routes, release history, admitted versions, optimizations, feedback and drift reports in one database.

    Beside them, in attributes of their own: tenants, their keys, the audit, usage, experiments.

    Any number of threads, processes and (on Postgres) hosts may use it at once.
    """

    def __init__(self, url: str) -> None:
        """Use a database by SQLAlchemy URL, ``sqlite:///FILE`` or ``postgresql+psycopg://...``.

        Raises:
            InputError: the URL cannot be used.
        """
        self._database = Database(url)
        self.tenants = Tenants(self._database)
        self.keys = ApiKeys(self._database)
        self.audit = Audit(self._database)
        self.usage = Usage(self._database)
        self.answers = KeptAnswers(self._database)
        self.listings = Listings(self._database)
        self.experiments = Experiments(self._database)

    def migrate(self) -> None:
        """Make or upgrade the tables; safe when several processes start at once.

        Raises:
            TransientError: the database cannot be reached.
        """
        self._database.migrate()

    def close(self) -> None:
        """Close every connection."""
        self._database.close()

    def admit(self, model: str, served: ServedVersion) -> None:
        """Let a version be promoted; admitting it again is a no-op.

        Raises:
            RegistryError: the version is admitted with other content: a version never changes.
        """
        row = {
            "model": model,
            "version": served.version,
            "record": served.model_dump_json(),
            "admitted_at": datetime.now(UTC),
        }
        with self._database.write() as connection:
            if insert_if_absent(connection, SERVED_VERSIONS, row):
                note_owner(connection, split_name(model)[0], served.artifact.sha256, served.artifact.size_bytes)
                return
            known = next(entry for entry in _served(connection, model) if entry.version == served.version)
        if known != served:
            raise RegistryError(
                f"version {served.version} of {model!r} is already admitted with other content "
                f"(artifact {known.artifact.sha256[:12]}, now {served.artifact.sha256[:12]}); a version never changes"
            )

    def served(self, model: str) -> tuple[ServedVersion, ...]:
        """Return every admitted version of a model, oldest first."""
        with self._database.read() as connection:
            return _served(connection, model)

    def made_of(self, sha256: str) -> tuple[tuple[str, ServedVersion], ...]:
        """Return every admitted version, with its model, whose artifact's digest begins with this."""
        query = (
            sa.select(SERVED_VERSIONS.c.model, SERVED_VERSIONS.c.record)
            .where(SERVED_VERSIONS.c.record.contains(sha256, autoescape=True))
            .order_by(SERVED_VERSIONS.c.model, SERVED_VERSIONS.c.version)
        )
        with self._database.read() as connection:
            found = [(model, ServedVersion.model_validate_json(text)) for model, text in connection.execute(query)]
        return tuple((model, served) for model, served in found if served.artifact.sha256.startswith(sha256))

    def models(self) -> tuple[str, ...]:
        """Return the names of all models that have an admitted version, sorted."""
        query = sa.select(SERVED_VERSIONS.c.model).distinct().order_by(SERVED_VERSIONS.c.model)
        with self._database.read() as connection:
            return tuple(connection.execute(query).scalars())

    def route(self, model: str) -> Route | None:
        """Return what serves a model now; None if nothing was ever released."""
        with self._database.read() as connection:
            return routes.read_route(connection, model)

    def routes(self) -> tuple[Route, ...]:
        """Return every route, by model."""
        with self._database.read() as connection:
            return routes.read_routes(connection)

    def history(self, model: str) -> tuple[ReleaseEvent, ...]:
        """Return every change of a model's route, oldest first."""
        with self._database.read() as connection:
            return routes.read_history(connection, model)

    def change_route(self, change: Change) -> Route:
        """Take one step with a model's route, if it still has the expected generation; kept in the history.

        Raises:
            ModelNotFound: the model or the version is not admitted, or nothing is live to be changed.
            VersionConflict: the generation is another; the message says who changed it and when.
            InputError: the step makes no sense on this route; the message says why.
        """
        with self._database.write() as connection:
            return routes.change_route(connection, change)

    def save_optimization(self, status: OptimizationStatus) -> OptimizationStatus:
        """Keep what is known of an optimization, over what was known before, and return what stands.

        One that is or was cancelled does not go on, and one that has ended is not cancelled, nor does it end so again:
        what was known stands.
        """
        row = optimization_row(status)
        this = OPTIMIZATIONS.c.id == status.id
        with self._database.write() as connection:
            if insert_if_absent(connection, OPTIMIZATIONS, row):
                return status
            query = sa.select(OPTIMIZATIONS.c.record).where(this).with_for_update()
            known = OptimizationStatus.model_validate_json(connection.execute(query).scalar_one())
            if not known.state.may_become(status.state):
                return known
            connection.execute(sa.update(OPTIMIZATIONS).where(this).values(row))
        return status

    def optimization(self, optimization_id: str) -> OptimizationStatus:
        """Return one optimization.

        Raises:
            ModelNotFound: there is none with this id.
        """
        query = sa.select(OPTIMIZATIONS.c.record).where(OPTIMIZATIONS.c.id == optimization_id)
        with self._database.read() as connection:
            record = connection.execute(query).scalar_one_or_none()
        if record is None:
            raise ModelNotFound(f"there is no optimization {optimization_id!r}")
        return OptimizationStatus.model_validate_json(record)

    def optimizations(self, model: str | None = None) -> tuple[OptimizationStatus, ...]:
        """Return the optimizations of one model or of all, oldest first."""
        query = sa.select(OPTIMIZATIONS.c.record).order_by(OPTIMIZATIONS.c.created_at, OPTIMIZATIONS.c.id)
        if model is not None:
            query = query.where(OPTIMIZATIONS.c.model == model)
        with self._database.read() as connection:
            return tuple(OptimizationStatus.model_validate_json(text) for text in connection.execute(query).scalars())

    def add_feedback(self, feedback: Feedback) -> None:
        """Keep the true answer to a request; a later answer to the same request replaces it.

        Raises:
            ModelNotFound: the model is not in the ledger.
        """
        row = {**feedback.model_dump(mode="json"), "at": datetime.now(UTC)}
        same = (FEEDBACK.c.model == feedback.model) & (FEEDBACK.c.request_id == feedback.request_id)
        with self._database.write() as connection:
            if not _served(connection, feedback.model):
                raise ModelNotFound(f"there is no model {feedback.model!r} in the ledger")
            if not insert_if_absent(connection, FEEDBACK, row):
                connection.execute(sa.update(FEEDBACK).where(same).values(row))

    def feedback(self, model: str) -> tuple[Feedback, ...]:
        """Return all feedback of a model in the order of arrival."""
        query = (
            sa.select(FEEDBACK.c.model, FEEDBACK.c.request_id, FEEDBACK.c.labels, FEEDBACK.c.score)
            .where(FEEDBACK.c.model == model)
            .order_by(FEEDBACK.c.at, FEEDBACK.c.request_id)
        )
        with self._database.read() as connection:
            return tuple(Feedback(**row._mapping) for row in connection.execute(query))

    def feedback_on(self, model: str, request_id: str) -> Feedback | None:
        """Return the true answer to one request; None if nobody told it."""
        query = sa.select(FEEDBACK.c.model, FEEDBACK.c.request_id, FEEDBACK.c.labels, FEEDBACK.c.score).where(
            (FEEDBACK.c.model == model) & (FEEDBACK.c.request_id == request_id)
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Feedback(**row._mapping)

    def add_drift_report(self, report: DriftReport) -> None:
        """Keep a drift report; one of the same model and moment is kept once."""
        row = {"model": report.model, "created_at": report.created_at, "record": report.model_dump_json()}
        with self._database.write() as connection:
            insert_if_absent(connection, DRIFT_REPORTS, row)

    def drift_reports(self, model: str) -> tuple[DriftReport, ...]:
        """Return all drift reports of a model, oldest first."""
        query = (
            sa.select(DRIFT_REPORTS.c.record).where(DRIFT_REPORTS.c.model == model).order_by(DRIFT_REPORTS.c.created_at)
        )
        with self._database.read() as connection:
            return tuple(DriftReport.model_validate_json(text) for text in connection.execute(query).scalars())


def _served(connection: sa.Connection, model: str) -> tuple[ServedVersion, ...]:
    records = connection.execute(_SERVED, {"model": model}).scalars()
    return tuple(ServedVersion.model_validate_json(text) for text in records)
