"""A client of an orchestrator's HTTP API: events and runs, as an Inngest server has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

from onward.settings import DEV_SERVER, resolve_settings
from onward_deploy.errors import ServerError, UnreachableError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

TIMEOUT_S = 15.0
#: What a dev server takes for an event key; it accepts any.
ANY_KEY = "dev"

_ADDRESSES = (
    "INNGEST_DEV",
    "INNGEST_BASE_URL",
    "INNGEST_API_BASE_URL",
    "INNGEST_EVENT_API_BASE_URL",
)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_OK, _UNAUTHORIZED, _NOT_FOUND, _NOT_ALLOWED, _FIRST_ERROR = 200, 401, 404, 405, 400


@dataclass(frozen=True, slots=True)
class Address:
    """Where the orchestrator takes events and answers questions, and who asks."""

    events_url: str
    api_url: str
    event_key: str = ANY_KEY
    signing_key: str | None = None
    env: str | None = None


def resolve_address(
    environment: Mapping[str, str], *, url: str | None = None, key: str | None = None
) -> Address:
    """`url` and `key`, else what `environment` says, else `onward dev`'s own address.

    Raises UsageError for a `url` that is none, ConfigurationError for one in the environment.
    """
    if url is not None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(f"--url is {url!r}, which is no URL. Write such as {DEV_SERVER}.")
        kept = {name: value for name, value in environment.items() if name not in _ADDRESSES}
        settings = resolve_settings(kept, url.rstrip("/"))
    elif any(environment.get(name) for name in _ADDRESSES):
        settings = resolve_settings(environment)
    else:
        settings = resolve_settings(environment, DEV_SERVER)
    return Address(
        settings.events_url,
        settings.api_url,
        key or settings.event_key or ANY_KEY,
        settings.signing_key,
        settings.env,
    )


class Client:
    """Requests to the orchestrator at `address`; `with` closes its connections.

    Every method raises UnreachableError when nothing answers, and ServerError with the
    orchestrator's own words when it refuses.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._clients: dict[bool, httpx.Client] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients.values():
            client.close()

    def send(self, event: dict[str, Any]) -> list[str]:
        """Send one event. Returns the ids that the orchestrator gave it."""
        path = f"/e/{quote(self.address.event_key, safe='')}"
        value = self._ask("POST", self.address.events_url + path, json=event)
        return [str(id_) for id_ in value.get("ids", ())]

    def runs_of(self, event_id: str) -> list[dict[str, Any]]:
        """The runs that an event started."""
        path = f"/v1/events/{quote(event_id, safe='')}/runs"
        return list(self._api("GET", path).get("data") or ())

    def runs(self, limit: int) -> list[dict[str, Any]]:
        """The newest runs, `limit` at most.

        A server that lists no runs is asked for its newest events, and for the runs of each.
        """
        try:
            value = self._api("GET", f"/v1/runs?limit={limit}")
        except _AbsentError:
            events = self._api("GET", f"/v1/events?limit={limit}").get("data") or ()
            found = [run for event in events for run in self.runs_of(event["internal_id"])]
            return found[:limit]
        return list(value.get("data") or ())[:limit]

    def run(self, run_id: str) -> dict[str, Any]:
        """One run: `run_id`, `status`, `function_id`, `run_started_at`, `ended_at`, `output`, …."""
        try:
            value = self._api("GET", f"/v1/runs/{quote(run_id, safe='')}")
        except _AbsentError:
            value = {}
        if not value.get("data"):
            raise ServerError(
                f"{self.address.api_url} knows no run {run_id!r}. `onward runs list` shows those"
                " that it knows."
            )
        run: dict[str, Any] = value["data"]
        return run

    def cancel(self, run_id: str) -> None:
        """Cancel a run."""
        try:
            self._api("DELETE", f"/v1/runs/{quote(run_id, safe='')}")
        except _AbsentError as error:
            raise ServerError(
                f"Run {run_id!r} was not cancelled: {error.message} `onward runs list` shows the"
                " runs that there are."
            ) from None

    def _api(self, method: str, path: str) -> dict[str, Any]:
        headers = {}
        if self.address.signing_key:
            from onward.protocol.signature import bearer_token

            headers["authorization"] = f"Bearer {bearer_token(self.address.signing_key)}"
        if self.address.env:
            headers["x-inngest-env"] = self.address.env
        return self._ask(method, self.address.api_url + path, headers=headers)

    def _client(self, url: str) -> httpx.Client:
        """A client for `url`. Loopback never goes through a proxy."""
        import httpx

        loopback = urlsplit(url).hostname in _LOOPBACK
        if loopback not in self._clients:
            self._clients[loopback] = httpx.Client(timeout=TIMEOUT_S, trust_env=not loopback)
        return self._clients[loopback]

    def _ask(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        import httpx

        try:
            answer = self._client(url).request(method, url, **options)
        except httpx.ConnectError as error:
            raise UnreachableError(
                f"Nothing answers at {_origin(url)} ({error}). Start `onward dev MODULE:APP`, or"
                " say where the orchestrator is: --url, or INNGEST_DEV."
            ) from None
        except httpx.HTTPError as error:
            what = str(error) or type(error).__name__
            raise UnreachableError(
                f"{_origin(url)} did not answer {method} {urlsplit(url).path}: {what}."
            ) from None
        return _value(answer, method, url)


class _AbsentError(ServerError):
    """404 or 405: the thing, or the whole resource, is not there."""


def _value(answer: httpx.Response, method: str, url: str) -> dict[str, Any]:
    status = answer.status_code
    try:
        value = (answer.json() if answer.content.strip() else None) or {}
    except ValueError:
        value = None
    if status < _FIRST_ERROR and not isinstance(value, dict):
        raise ServerError(
            f"{_origin(url)} does not speak the protocol: {method} {urlsplit(url).path} answered"
            f" {answer.text[:80]!r}. Is it an Inngest server or `onward dev`?"
        )
    value = value if isinstance(value, dict) else {}
    words = value.get("error")
    # The reference server answers some refusals with HTTP 200 and the real status in the body.
    status = max(status, value.get("status") or 0) if words else status
    if status < _FIRST_ERROR:
        return value
    request = f"{method} {urlsplit(url).path}"
    message = f"{_origin(url)} refused {request} ({status}): {words or answer.reason_phrase}."
    if status in {_NOT_FOUND, _NOT_ALLOWED}:
        raise _AbsentError(message)
    if status == _UNAUTHORIZED:
        key = "INNGEST_EVENT_KEY" if method == "POST" else "INNGEST_SIGNING_KEY"
        message += f" Set {key} to a key of that environment."
    raise ServerError(message)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
