"""Experiments in the ledger: each begins and ends in one transaction with the change of its model's route."""

import uuid
from datetime import UTC, datetime

import sqlalchemy as sa

from registry.errors import InputError, ModelNotFound, VersionConflict
from registry.ledger import routes
from registry.ledger.database import Database
from registry.ledger.tables import EXPERIMENTS
from registry.records.change import Change, Promote, SetTraffic
from registry.records.experiment import Experiment, ExperimentMetric
from registry.records.release import Route, TrafficSplit


class Experiments:
    """The experiments of all models; of each model one runs at most."""

    def __init__(self, database: Database) -> None:
        """Use a ledger's database."""
        self._database = database

    def start(
        self, change: Change, split: TrafficSplit, metric: ExperimentMetric, *, confidence: float, hypothesis: str
    ) -> tuple[Experiment, Route]:
        """Split a model's traffic between the champion and other versions, and begin to ask.

        Args:
            change: the split as a step of the route, who asks, and over which generation.
            split: two versions at least.
            metric: what a request is scored by.
            confidence: of what will be said of the arms.
            hypothesis: what is asked, for people.

        Raises:
            ModelNotFound: the model or a version is not admitted, or nothing is live.
            VersionConflict: the generation is another, or an experiment of the model runs.
            InputError: the split is none between versions, or leaves the champion out.
        """
        if len(split.weights) < 2:
            raise InputError("split: an experiment needs two versions at least, the champion among them")
        with self._database.write() as connection:
            route = routes.change_route(connection, change)  # locks the model first
            running = sa.select(EXPERIMENTS.c.id).where(
                (EXPERIMENTS.c.model == change.model) & EXPERIMENTS.c.ended_at.is_(None)
            )
            if (other := connection.execute(running).scalar_one_or_none()) is not None:
                raise VersionConflict(f"the experiment {other} of {change.model!r} runs; end it before the next one")
            experiment = Experiment(
                id=uuid.uuid4().hex,
                model=change.model,
                hypothesis=hypothesis,
                metric=metric,
                confidence=confidence,
                split=split,
                control=route.champion,
                generation=route.generation,
                actor=change.actor,
                started_at=datetime.now(UTC),
            )
            connection.execute(sa.insert(EXPERIMENTS).values(_row(experiment)))
        return experiment, route

    def end(self, experiment_id: str, model: str, *, promote: int | None, actor: str, reason: str) -> Route:
        """End an experiment: one arm gets all traffic, the champion where none is named.

        A route that was changed meanwhile stays as it is unless an arm is named.

        Raises:
            ModelNotFound: the model has no such experiment.
            VersionConflict: it has ended already.
            InputError: the version is no arm of it.
        """
        with self._database.write() as connection:
            experiment = _read(connection, experiment_id, model, lock=True)
            if experiment.ended_at is not None:
                raise VersionConflict(
                    f"the experiment {experiment_id} ended at {experiment.ended_at:%Y-%m-%d %H:%M} UTC"
                )
            if promote is not None and promote not in experiment.split.weights:
                arms = ", ".join(map(str, sorted(experiment.split.weights)))
                raise InputError(f"promote: version {promote} is no arm of this experiment; its arms are {arms}")
            routes.lock_model(connection, model)  # what is decided by the route must hold until it is changed
            current = routes.read_route(connection, model)
            if current is None:  # an experiment begins on a live model, and nothing takes a route away
                raise ModelNotFound(f"nothing of {model!r} is live")
            step = _last_step(experiment, current, promote)
            if step is not None:
                current = routes.change_route(connection, Change(model=model, step=step, actor=actor, reason=reason))
            ended = experiment.model_copy(update={"ended_at": datetime.now(UTC), "promoted": promote})
            update = sa.update(EXPERIMENTS).where(EXPERIMENTS.c.id == experiment_id)
            connection.execute(update.values(_row(ended)))
        return current

    def one(self, experiment_id: str, model: str) -> Experiment:
        """Return one experiment.

        Raises:
            ModelNotFound: the model has no such experiment.
        """
        with self._database.read() as connection:
            return _read(connection, experiment_id, model)

    def of(self, model: str, limit: int, *, after: tuple[datetime, str] | None = None) -> tuple[Experiment, ...]:
        """Return a model's experiments, newest first; ``after`` is the place of the last one of the page before."""
        started_at, identifier = EXPERIMENTS.c.started_at, EXPERIMENTS.c.id
        query = sa.select(EXPERIMENTS.c.record).where(EXPERIMENTS.c.model == model)
        if after is not None:
            query = query.where((started_at < after[0]) | ((started_at == after[0]) & (identifier < after[1])))
        query = query.order_by(started_at.desc(), identifier.desc()).limit(limit)
        with self._database.read() as connection:
            return tuple(Experiment.model_validate_json(text) for text in connection.execute(query).scalars())


def _last_step(experiment: Experiment, current: Route, promote: int | None) -> Promote | SetTraffic | None:
    """The step that ends an experiment's split; None: the route is as it shall be."""
    wanted = current.champion if promote is None else promote
    alone = TrafficSplit(weights={wanted: 100})
    if current.split == alone or (promote is None and current.split != experiment.split):
        return None
    return Promote(version=promote) if promote is not None else SetTraffic(split=alone)


def _read(connection: sa.Connection, experiment_id: str, model: str, *, lock: bool = False) -> Experiment:
    query = sa.select(EXPERIMENTS.c.record).where((EXPERIMENTS.c.id == experiment_id) & (EXPERIMENTS.c.model == model))
    record = connection.execute(query.with_for_update() if lock else query).scalar_one_or_none()
    if record is None:
        raise ModelNotFound(f"{model!r} has no experiment {experiment_id!r}")
    return Experiment.model_validate_json(record)


def _row(experiment: Experiment) -> dict[str, object]:
    return {
        "id": experiment.id,
        "model": experiment.model,
        "started_at": experiment.started_at,
        "ended_at": experiment.ended_at,
        "record": experiment.model_dump_json(),
    }
