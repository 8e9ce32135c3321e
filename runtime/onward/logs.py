"""The loggers of Onward and of a run."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

#: What Onward itself has to say.
runtime = logging.getLogger("onward")


class _RunLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds the run to each record, and drops what a replay would log again."""

    def __init__(self, logger: logging.Logger, extra: dict[str, Any], driver: Any) -> None:
        super().__init__(logger, extra)
        self._driver = driver

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the standard library's name
        return not self._driver.replaying and super().isEnabledFor(level)

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        extra = {**(self.extra or {}), "step_id": self._driver.step_here}
        kwargs["extra"] = {**extra, **(kwargs.get("extra") or {})}
        return msg, kwargs


def run_logger(run_id: str, function_id: str, driver: Any) -> logging.LoggerAdapter[logging.Logger]:
    """The logger `onward.run`; records have `run_id`, `function_id`, and `step_id` (or `""`)."""
    extra = {"run_id": run_id, "function_id": function_id}
    return _RunLogger(logging.getLogger("onward.run"), extra, driver)
