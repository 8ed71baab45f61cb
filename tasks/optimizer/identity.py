"""What makes two candidates the same: the ids of candidates and the keys of the cache."""

from dataclasses import dataclass, field

from registry.digest import file_digest, json_digest
from registry.plugins import PASSES, RUNTIMES, PluginKind, describe_plugin
from registry.records.model import PluginConfig
from registry.records.optimization import Candidate


@dataclass(frozen=True)
class Identity:
    """Everything besides recipe and runtime that decides what a candidate is."""

    source: str
    """Digest of the source artifact."""
    calibration: str | None
    """Digest of the calibration set."""
    seed: int
    tools: dict[str, str]
    """Versions of the libraries that build and run candidates."""
    source_code: str | None = None
    """Digest of the source's code, where passes may use it."""
    threads: int = 1
    """Threads that one call will have: some products are compiled for them."""
    _files: dict[str, str] = field(default_factory=dict)

    def build_key(self, recipe: tuple[PluginConfig, ...]) -> str:
        """Return the key of what a recipe makes of the source, whatever runs it."""
        return json_digest(
            {
                "source": self.source,
                "calibration": self.calibration,
                "seed": self.seed,
                "tools": self.tools,
                "recipe": [self._described(PASSES, step) for step in recipe],
                **({"source_code": self.source_code} if self.source_code else {}),
                **({"threads": self.threads} if self.threads != 1 else {}),
            }
        )

    def candidate(self, recipe: tuple[PluginConfig, ...], runtime: PluginConfig) -> Candidate:
        """Return the candidate with its id."""
        described = {"build": self.build_key(recipe), "runtime": self._described(RUNTIMES, runtime)}
        return Candidate(id=json_digest(described), recipe=recipe, runtime=runtime)

    def evaluation_key(self, candidate: Candidate, evaluation: str, largest_batch: int) -> str:
        """Return the key of a candidate's predictions on an evaluation set given by digest, up to a batch size."""
        return json_digest({"candidate": candidate.id, "evaluation": evaluation, "largest_batch": largest_batch})

    def _described(self, kind: PluginKind, config: PluginConfig) -> dict[str, object]:
        return {**config.model_dump(), "code": self._code(kind, config.name)}

    def _code(self, kind: PluginKind, name: str) -> str:
        """Digest of a plug-in's source file: a changed pass makes another candidate."""
        key = f"{kind.noun} {name}"
        if key not in self._files:
            file = describe_plugin(kind, name).file
            self._files[key] = file_digest(file) if file else ""
        return self._files[key]
