"""Node and the TypeScript SDK, or a skip that says how to get them."""

from __future__ import annotations

import pytest

from tools import node_sdk

FOLDER = node_sdk.FOLDER


def node_with_sdk() -> str:
    """The path of a Node that is new enough, with the SDK installed; else skip."""
    try:
        return node_sdk.node_with_sdk()
    except node_sdk.NodeUnavailableError as error:
        pytest.skip(str(error))
