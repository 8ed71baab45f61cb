"""The child process that imports plug-ins to say what they are."""

from pathlib import Path
from typing import Any

from registry.errors import PluginUnavailable
from registry.plugins import PASSES, RUNTIMES, usable_plugin
from serving.runtime import Runtime
from tasks.optimizer.base import Pass
from tasks.optimizer.catalogue import Catalogue, CatalogueJob, Knob, PassDescription, RuntimeDescription
from tasks.optimizer.features import source_features
from tasks.optimizer.isolation import answer
from tasks.optimizer.repair import EXCLUDED_LAYERS


def describe_plugins(job_json: dict[str, Any], _workspace: Path) -> dict[str, Any]:
    """Import the plug-ins that a ``CatalogueJob`` names; the value is a ``Catalogue``."""
    job = CatalogueJob.model_validate(job_json)
    passes: dict[str, PassDescription] = {}
    runtimes: dict[str, RuntimeDescription] = {}
    missing_passes: dict[str, str] = {}
    missing_runtimes: dict[str, str] = {}
    for name in job.passes:
        try:
            passes[name] = _pass(name)
        except PluginUnavailable as error:
            missing_passes[name] = str(error)
    for name in job.runtimes:
        try:
            runtimes[name] = _runtime(name)
        except PluginUnavailable as error:
            missing_runtimes[name] = str(error)
    return Catalogue(
        passes=passes,
        runtimes=runtimes,
        missing_passes=missing_passes,
        missing_runtimes=missing_runtimes,
        features=source_features(job.source.artifact) if job.source else None,
    ).model_dump(mode="json")


def _pass(name: str) -> PassDescription:
    plugin = usable_plugin(PASSES, name, Pass)  # type: ignore[type-abstract]
    return PassDescription(
        name=name,
        stage=plugin.stage,
        consumes=plugin.consumes,
        produces=plugin.produces,
        suits=plugin.suits,
        needs_calibration=plugin.needs_calibration,
        needs_source_code=plugin.needs_source_code,
        leaves_layers=EXCLUDED_LAYERS in plugin.model_fields,
        knobs=_knobs(plugin),
    )


def _runtime(name: str) -> RuntimeDescription:
    plugin = usable_plugin(RUNTIMES, name, Runtime)  # type: ignore[type-abstract]
    return RuntimeDescription(name=name, consumes=plugin.consumes, knobs=_knobs(plugin))


def _knobs(plugin: type[Pass] | type[Runtime]) -> dict[str, Knob]:
    return {
        name: Knob(default=plugin.model_fields[name].default, values=values)
        for name, values in plugin.search_values().items()
    }


if __name__ == "__main__":
    answer(describe_plugins)
