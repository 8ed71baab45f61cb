"""Step: the second question of a promotion, asked of a source before any search and of the winner after it."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from registry.errors import InputError
from registry.ledger.ledger import Ledger
from registry.records.gate import RuleOutcome
from registry.records.model import ModelVersion, PluginConfig, Signature
from registry.records.optimization import OptimizationConfig
from registry.store.base import ArtifactStore, ModelStore
from tasks.gates.rules import not_worse_than_champion
from tasks.optimizer.base import Artifact
from tasks.optimizer.dataset import Dataset, load_dataset
from tasks.optimizer.isolation import predict
from tasks.step import step
from tasks.upload import uploaded_file


@dataclass(frozen=True)
class Contender:
    """An artifact with the runtime that would serve it."""

    artifact: Artifact
    runtime: PluginConfig


@dataclass(frozen=True)
class NamedSet:
    """An evaluation set with the name that the verdict shall show."""

    name: str
    dataset: Dataset


@dataclass(frozen=True)
class Live:
    """What serves a model, and the generation of its route: a promotion over another one is a conflict."""

    version: ModelVersion
    generation: int


@step("find champion")
async def find_live(model: str, ledger: Ledger, store: ModelStore) -> Live | None:
    """Return what serves a model; None while nothing does."""
    route = await asyncio.to_thread(ledger.route, model)
    if route is None:
        return None
    return Live(await asyncio.to_thread(store.version, model, route.champion), route.generation)


@step("not worse than champion")
async def compare_with_champion(
    contender: Contender,
    champion: Contender,
    sets: tuple[NamedSet, ...],
    config: OptimizationConfig,
    workspace: Path,
) -> tuple[RuleOutcome, ...]:
    """Compare a contender with the live champion on every set.

    Raises:
        CandidateError: one of the two cannot be run.
    """
    outcomes: list[RuleOutcome] = []
    for number, named in enumerate(sets):
        folder = workspace / f"set-{number}"
        outputs = [
            await asyncio.to_thread(
                predict,
                side.artifact,
                side.runtime,
                named.dataset.inputs,
                folder / role,
                timeout_s=config.candidate_timeout_s,
            )
            for role, side in (("champion", champion), ("contender", contender))
        ]
        outcomes.extend(not_worse_than_champion(named.name, named.dataset, outputs[0], outputs[1], config))
    return tuple(outcomes)


def champion_of(version: ModelVersion, artifacts: ArtifactStore) -> Contender:
    """The live version as something that can be run."""
    draft = version.draft
    folder = artifacts.checkout(draft.artifact.sha256)
    return Contender(artifact=Artifact(folder, draft.artifact.format, draft.signature), runtime=draft.runtime)


def champion_sets(
    version: ModelVersion, new_digest: str, new: Dataset, artifacts: ArtifactStore
) -> tuple[NamedSet, ...]:
    """The champion's evaluation set, and the new one where it differs."""
    digest = version.draft.evaluation_set
    if digest == new_digest:
        return (NamedSet("the champion's evaluation set", new),)
    champions = load_dataset(uploaded_file(artifacts, digest), version.draft.signature)
    return NamedSet("the champion's evaluation set", champions), NamedSet("the new evaluation set", new)


def require_same_signature(new: Signature, champion: ModelVersion) -> None:
    """Refuse a source that clients of the live version could not call.

    Raises:
        InputError: names, types or shapes differ.
    """
    live = champion.draft.signature
    if new.inputs != live.inputs or [o.shape for o in new.outputs] != [o.shape for o in live.outputs]:
        raise InputError(
            f"the new source is called as {_shown(new)}, but version {champion.version} of {champion.model}, which "
            f"is live, as {_shown(live)}; push it under another name, or keep the signature"
        )


def _shown(signature: Signature) -> str:
    inputs = ", ".join(f"{spec.name} {spec.datatype}{list(spec.shape)}" for spec in signature.inputs)
    outputs = ", ".join(f"{spec.datatype}{list(spec.shape)}" for spec in signature.outputs)
    return f"({inputs}) -> ({outputs})"
