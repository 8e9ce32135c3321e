from __future__ import annotations

import pytest

# Scenarios assert outside of test modules, and say as much when they fail.
pytest.register_assert_rewrite("tests.sdks.scenarios", "tests.sdks.suite")
