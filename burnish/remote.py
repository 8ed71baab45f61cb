"""One remote side over HTTP: retries what is safe, and turns refusals into errors that say what to do."""

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from burnish.errors import InputError, RemoteError, RemoteUnreachable

_PAUSES_S = (0.2, 0.8)
_CALLER_MUST_CHANGE = (400, 413, 422)
_PASSING = (502, 503, 504)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Remote:
    """A base URL with a name for people, such as ``the control API``."""

    def __init__(self, name: str, base_url: str, timeout_s: float = 60.0, api_key: str | None = None) -> None:
        """Keep the address and the key that opens it; nothing is sent yet."""
        self.base_url = base_url.rstrip("/")
        self._name = name
        # A proxy of the environment cannot reach this machine's loopback.
        outward = urlsplit(base_url).hostname not in _LOOPBACK
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(base_url=self.base_url, timeout=timeout_s, trust_env=outward, headers=headers)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:  # noqa: ANN401
        """Return the JSON that a path answers; tried again when the remote side fails in passing.

        Raises:
            InputError: the remote side says that the call must change.
            RemoteError: it refuses or fails.
        """
        return self._again(self._http.build_request("GET", path, params=dict(params or {})))

    def pages(self, path: str, filters: Mapping[str, str | None]) -> Iterator[Any]:
        """Read a list's pages one after another; a filter that is None is left out.

        Raises:
            InputError: the remote side says that the call must change.
            RemoteError: it refuses or fails.
        """
        asked = {name: value for name, value in filters.items() if value is not None}
        yield (page := self.get(path, asked))
        while page["next"] is not None:
            yield (page := self.get(path, asked | {"cursor": page["next"]}))

    def items(self, path: str, name: str, filters: Mapping[str, str | None]) -> Iterator[Any]:
        """Read the items of a list, which its pages hold under this name; fails as ``pages`` does."""
        return (item for page in self.pages(path, filters) for item in page[name])

    def post(self, path: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Send JSON and return the JSON answered; tried again as ``get`` is, for its key lets it be done once only.

        Raises:
            InputError: the remote side says that the call must change, or JSON has no such value.
            RemoteError: it refuses or fails.
        """
        request = self._with_json("POST", path, body)
        request.headers["Idempotency-Key"] = uuid4().hex
        return self._again(request)

    def ask(self, path: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Send JSON to what knows no keys and return the JSON answered; only a refused connection is tried again.

        Raises:
            InputError: the remote side says that the call must change, or JSON has no such value.
            RemoteError: it refuses or fails.
        """
        return self._change(self._with_json("POST", path, body))

    def put(self, path: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Put JSON and return the JSON answered; only a connection that was refused is tried again.

        Raises:
            InputError: the remote side says that the call must change, or JSON has no such value.
            RemoteError: it refuses or fails.
        """
        return self._change(self._with_json("PUT", path, body))

    def delete(self, path: str, params: Mapping[str, str]) -> Any:  # noqa: ANN401
        """Delete what is at a path and return the JSON answered; only a connection that was refused is tried again.

        Raises:
            InputError: the remote side says that the call must change.
            RemoteError: it refuses or fails.
        """
        return self._change(self._http.build_request("DELETE", path, params=dict(params)))

    def _with_json(self, method: str, path: str, body: Mapping[str, Any]) -> httpx.Request:
        try:
            return self._http.build_request(method, path, json=dict(body))
        except ValueError as error:
            raise InputError(f"{self._name} cannot be sent NaN or an infinity, which JSON has not: {error}") from error

    def _again(self, request: httpx.Request) -> Any:  # noqa: ANN401
        for pause in _PAUSES_S:
            try:
                response = self._http.send(request)
            except httpx.TransportError:
                time.sleep(pause)
                continue
            if not _passes(response):
                return self._json(response)
            time.sleep(pause)
        return self._json(self._send(request))

    def _change(self, request: httpx.Request) -> Any:  # noqa: ANN401
        for pause in _PAUSES_S:
            try:
                return self._json(self._send(request))
            except RemoteUnreachable:
                time.sleep(pause)
        return self._json(self._send(request))

    def call(self, method: str, path: str, headers: Mapping[str, str], body: Iterable[bytes] = ()) -> httpx.Response:
        """Make one call with headers of its own, its body streamed, and return the answer; never tried again.

        Raises:
            InputError: the remote side says that the call must change.
            RemoteError: it refuses or fails.
        """
        content = body or None
        return self._accepted(
            self._send(self._http.build_request(method, path, content=content, headers=dict(headers)))
        )

    def _send(self, request: httpx.Request) -> httpx.Response:
        try:
            return self._http.send(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            message = (
                f"{self._name} does not answer at {self.base_url} ({error}); is the stack up? try `burnish status`"
            )
            raise RemoteUnreachable(message) from error
        except httpx.TransportError as error:
            raise RemoteError(f"{self._name} at {self.base_url} broke off: {error!r}") from error

    def _json(self, response: httpx.Response) -> Any:  # noqa: ANN401
        try:
            return self._accepted(response).json()
        except ValueError as error:
            raise RemoteError(f"{self._name} answered what is not JSON", status=response.status_code) from error

    def _accepted(self, response: httpx.Response) -> httpx.Response:
        if response.is_success:
            return response
        status, detail = response.status_code, _detail(response)
        if status in _CALLER_MUST_CHANGE:
            raise InputError(detail)
        raise RemoteError(f"{self._name} answered {status}: {detail}", status=status)


def _passes(response: httpx.Response) -> bool:
    """True if the same request may be answered otherwise in a moment; 409 then is its first try, still under way."""
    return response.status_code in _PASSING or (response.status_code == 409 and "retry-after" in response.headers)


def _detail(response: httpx.Response) -> str:
    """The message of a JSON problem or of an Open Inference Protocol error; else the body's beginning."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        for key in ("detail", "error"):
            if isinstance(body.get(key), str):
                return str(body[key])
    return response.text[:500] or response.reason_phrase
