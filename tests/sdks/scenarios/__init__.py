"""Importing this package fills the catalogue."""

from __future__ import annotations

from tests.sdks.scenarios import branches, configured, endpoints, errors, events, invoking, steps

__all__ = ["branches", "configured", "endpoints", "errors", "events", "invoking", "steps"]
