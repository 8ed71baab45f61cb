"""Metrics of all engine workers in one place: what each tells, put together by family, each sample under its worker.

The operator sees all of it; a tenant sees the figures of its own models, under the names that it gives them.
"""

from collections.abc import Iterable

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from flows.api_auth import Operator, Who, needs
from flows.api_platform import Stack
from registry.records.tenant import Scope

router = APIRouter()
tenant_router = APIRouter(tags=["usage"])

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_UP = "burnish_worker_up"


@router.get("/metrics", response_class=PlainTextResponse, include_in_schema=False)
def metrics(platform: Stack, who: Operator) -> PlainTextResponse:
    """Tell the operator the metrics of every worker in Prometheus' text format; one that does not answer is down."""
    return PlainTextResponse(merge(platform.workers.metrics()), media_type=MEDIA_TYPE)


@tenant_router.get("/metrics", response_class=PlainTextResponse, dependencies=[needs(Scope.DEPLOY, Scope.ADMIN)])
def tenant_metrics(platform: Stack, who: Who) -> PlainTextResponse:
    """Tell a tenant the metrics of its own models in every worker that answers, in Prometheus' text format."""
    scrapes = platform.workers.metrics()
    own = (None if scrape is None else _of_tenant(scrape, who.tenant) for scrape in scrapes)
    return PlainTextResponse(merge(own), media_type=MEDIA_TYPE)


def _of_tenant(scrape: str, tenant: str) -> str:
    """Leave of a scrape the samples of a tenant's models; their label ``model`` is the tenant's own name already."""
    label, blocks = f',tenant="{tenant}"', []
    for block in scrape.split("# HELP ")[1:]:
        text, kind, *samples = block.splitlines()
        own = [sample.replace(label, "", 1) for sample in samples if label in sample]
        if own:
            blocks += [f"# HELP {text}", kind, *own, ""]
    return "\n".join(blocks)


def merge(scrapes: Iterable[str | None]) -> str:
    """Put scrapes together: the lines of one family stand together, as the format demands.

    Args:
        scrapes: by worker; None for one that did not answer.
    """
    up = [f"# HELP {_UP} 1 if the worker told its metrics.", f"# TYPE {_UP} gauge"]
    families: dict[str, list[str]] = {}
    for worker, scrape in enumerate(scrapes):
        up.append(f'{_UP}{{worker="{worker}"}} {int(scrape is not None)}')
        for block in (scrape or "").split("# HELP ")[1:]:
            family, _, rest = block.partition(" ")
            text, kind, *samples = rest.splitlines()
            families.setdefault(family, [f"# HELP {family} {text}", kind]).extend(samples)
    return "\n".join([*up, *(line for lines in families.values() for line in lines), ""])
