"""Raises while it is imported."""

from __future__ import annotations


def configure() -> None:
    """Fail with a frame of its own."""
    raise RuntimeError("the settings are missing")


configure()
