"""Starts and finds flow runs through Prefect's HTTP API."""

from typing import Any

import httpx

from flows.api_bodies import FlowRun
from registry.errors import InputError, TransientError

_REFUSED_PARAMETERS = (400, 409, 422)


class Unanswered(TransientError):
    """Prefect was asked and has not answered: what it was asked for may be done all the same."""


class Deployments:
    """The served deployments; a flow and its deployment have the same name."""

    def __init__(self, http: httpx.Client) -> None:
        """Use a client whose base URL is the Prefect server's."""
        self._http = http

    def start(self, name: str, parameters: dict[str, Any], *, key: str | None = None) -> FlowRun:
        """Start a deployment; the same key again finds the run that was started with it.

        Raises:
            Unanswered: Prefect may start the run.
            TransientError: Prefect cannot be asked, or the deployment is not served yet.
            InputError: Prefect refuses the parameters.
        """
        found = self._call("GET", f"/api/deployments/name/{name}/{name}")
        if found.status_code == 404:
            raise TransientError(f"Prefect does not know the deployment {name}/{name} yet; is the runner up?")
        deployment = self._body(found)["id"]
        started = self._call(
            "POST",
            f"/api/deployments/{deployment}/create_flow_run",
            {"parameters": parameters, "idempotency_key": key},
        )
        if started.status_code in _REFUSED_PARAMETERS:
            raise InputError(f"the deployment {name}/{name} refuses its parameters: {started.text[:500]}")
        return self._flow_run(self._body(started))

    def find(self, *, run_id: str | None, key: str) -> FlowRun | None:
        """Find a run by its id, or by the key that it was started with.

        Raises:
            TransientError: Prefect does not answer.
        """
        wanted: dict[str, Any] = {"operator": "or_", "idempotency_key": {"any_": [key]}}
        if run_id is not None:
            wanted["id"] = {"any_": [run_id]}
        runs = self._body(self._call("POST", "/api/flow_runs/filter", {"flow_runs": wanted, "limit": 1}))
        return self._flow_run(runs[0]) if runs else None

    def cancel(self, run: FlowRun) -> str:
        """Ask Prefect to cancel a run; return the type of the state that it is in then.

        Raises:
            TransientError: Prefect does not answer.
        """
        wanted = {"type": "CANCELLING", "name": "Cancelling", "message": "asked for at the control API"}
        answered = self._body(self._call("POST", f"/api/flow_runs/{run.id}/set_state", {"state": wanted}))
        return str((answered["state"] or {}).get("type", run.state_type))

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        try:
            return self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            asked = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
            kind = Unanswered if asked else TransientError
            raise kind(f"Prefect does not answer at {self._http.base_url}: {error}") from error

    def _body(self, response: httpx.Response) -> Any:  # noqa: ANN401
        if not response.is_success:
            path = response.request.url.path
            raise TransientError(f"Prefect answered {response.status_code} to {path}: {response.text[:500]}")
        return response.json()

    def _flow_run(self, run: dict[str, Any]) -> FlowRun:
        base = str(self._http.base_url).rstrip("/")
        return FlowRun(
            id=run["id"],
            name=run["name"],
            state=run["state_name"] or "",
            state_type=run["state_type"] or "",
            url=f"{base}/runs/flow-run/{run['id']}",
        )
