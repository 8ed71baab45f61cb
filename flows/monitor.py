"""Flow: drift reports of what serves, from the requests that were captured."""

from prefect import flow, get_run_logger

from flows import pages, wiring
from flows.settings import StackSettings
from registry.errors import BurnishError, InputError, RegistryError
from registry.ledger.ledger import Ledger
from registry.records.observation import DriftReport
from registry.records.tenant import QualifiedName
from tasks.observe import compare_with_evaluation_set, keep_report, read_captured


@flow(name="monitor", flow_run_name="monitor {model}")
async def monitor(model: QualifiedName | None = None) -> tuple[DriftReport, ...]:
    """Make a drift report for the live version of a model, or of every model.

    Args:
        model: the model's name; none means every model that is live. A model without enough captured requests is
            left out and named when every model is asked for, and an error when it was asked for by name.
    """
    settings = StackSettings()
    ledger = wiring.ledger(settings)
    try:
        names = (model,) if model else tuple(route.model for route in ledger.routes())
        reports, failed = [], []
        for name in names:
            try:
                reports.append(await _report(settings, ledger, name))
            except InputError as error:
                if model:
                    raise
                get_run_logger().warning("%s is left out: %s", name, error)
            except BurnishError as error:
                if model:
                    raise
                failed.append(f"{name}: {error}")
        if failed:  # only now: one tenant's model keeps no other from its report
            raise RegistryError(f"made {len(reports)} reports; none of {'; '.join(failed)}")
        return tuple(reports)
    finally:
        ledger.close()


async def _report(settings: StackSettings, ledger: Ledger, model: str) -> DriftReport:
    artifacts, store = wiring.artifacts(settings), wiring.model_store(settings)
    route = ledger.route(model)
    if route is None:
        raise InputError(f"nothing of {model!r} is live, so there is nothing to compare with; push it first")
    window = await read_captured(settings.capture_folder, model, route.champion)
    version = store.version(model, route.champion)
    with wiring.workspace(settings, f"drift-{model}") as folder:
        report = await compare_with_evaluation_set(version, window, artifacts, folder)
    await keep_report(report, artifacts, store, ledger)
    url = pages.page_url(settings.control_url, model, "models/{model}/drift/report")
    await pages.show_link("drift", model, url, _line(report))
    return report


def _line(report: DriftReport) -> str:
    verdict = "drift found" if report.drifted else "no drift"
    return f"{report.model} version {report.version}: {verdict} in {report.samples} samples"
