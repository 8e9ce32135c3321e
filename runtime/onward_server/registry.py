"""The registered apps, their functions, and how each is called."""

from __future__ import annotations

from collections.abc import Mapping

from onward.errors import ConfigurationError
from onward_server.identifiers import stable_uuid
from onward_server.invokers import Invoker, make_invoker
from onward_server.registration import FunctionConfig, Registration
from onward_server.settings import Settings

_DEFAULT_ATTEMPTS = 4


class Registry:
    """Functions by their composite ids (`app-function`), and the invokers of their addresses."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._functions: dict[str, FunctionConfig] = {}
        self._invokers: dict[str, Invoker] = {}
        #: Each app's URL and registration, as JSON text.
        self.apps: dict[str, tuple[str, str]] = {}

    @property
    def functions(self) -> Mapping[str, FunctionConfig]:
        """Every registered function."""
        return self._functions

    def find(self, id_: str) -> FunctionConfig | None:
        """The function with the composite id or the UUID `id_`."""
        found = self._functions.get(id_)
        if found is not None:
            return found
        return next((f for f in self._functions.values() if f.fn_id == id_), None)

    def known(self) -> str:
        """The registered ids, for people."""
        return ", ".join(sorted(self._functions)) or "none"

    def max_attempts(self, function_id: str) -> int:
        """How often a call of the function is tried."""
        function = self._functions.get(function_id)
        return function.max_attempts if function else _DEFAULT_ATTEMPTS

    def app_id(self, function_id: str) -> str:
        """The UUID of the app of the function; empty where it is not registered any more."""
        function = self._functions.get(function_id)
        return stable_uuid("app", function.app) if function else ""

    def check(self, parsed: Registration, invoker: Invoker | None) -> None:
        """Raises ConfigurationError for what cannot be told apart, or be called.

        That is an id that a function of another app has, and an address that no invoker knows.
        """
        for function in parsed.functions:
            known = self._functions.get(function.id)
            if known is not None and known.app != parsed.app:
                raise ConfigurationError(
                    f"The registration of app {parsed.app!r} is refused: the app {known.app!r} has"
                    f" a function {function.id!r} too. An id joins app and function by '-', so that"
                    " 'a' with 'b-c' and 'a-b' with 'c' are the same: give one another id."
                )
            if invoker is not None:
                continue
            self._make(function.url)

    def adopt(self, parsed: Registration, invoker: Invoker | None) -> dict[str, Invoker]:
        """Takes in an app in place of what it was. Returns who calls which function."""
        kept = {function.id for function in parsed.functions}
        for id_, function in list(self._functions.items()):
            if function.app == parsed.app and id_ not in kept:
                del self._functions[id_]
        chosen: dict[str, Invoker] = {}
        for function in parsed.functions:
            self._functions[function.id] = function
            found = invoker or self._invoker_for(function.url)
            if found is not None:
                chosen[function.id] = found
        return chosen

    def _invoker_for(self, url: str) -> Invoker | None:
        if url not in self._invokers:
            try:
                made = self._make(url)
            except ConfigurationError:
                return None  # registered with an invoker of its own, in an earlier process
            self._invokers[url] = made
        return self._invokers[url]

    def _make(self, url: str) -> Invoker:
        settings = self._settings
        return make_invoker(
            url, concurrency=settings.max_concurrent_calls, signing_key=settings.signing_key
        )

    async def close(self) -> None:
        """Closes the connections of the invokers that were made here."""
        for invoker in {id(i): i for i in self._invokers.values()}.values():
            close = getattr(invoker, "aclose", None)
            if close is not None:
                await close()
