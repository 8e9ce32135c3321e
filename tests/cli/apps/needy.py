"""Needs a package that is not installed."""

from __future__ import annotations

import onward_needs_this  # type: ignore[import-not-found]  # noqa: F401
