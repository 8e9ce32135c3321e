from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from onward.config import (
    BALANCED,
    BLENDED,
    HIGH_FREQUENCY,
    HIGH_THROUGHPUT,
    PERFORMANT,
    SAFE,
    Checkpointing,
    resolve_checkpointing,
)
from onward.errors import ConfigurationError, DurationError


def test_the_default_confirms_each_step() -> None:
    it = Checkpointing()
    assert (it.max_runtime, it.buffered_steps, it.max_interval, it.mode) == (
        "auto",
        1,
        0,
        "confirmed",
    )
    assert it.max_runtime_s is None
    assert it.max_interval_s == 0
    assert it == SAFE


@pytest.mark.parametrize(
    ("preset", "runtime", "steps", "interval"),
    [
        (SAFE, None, 1, 0),
        (BLENDED, None, 3, 3),
        (PERFORMANT, None, 1000, 0),
        (HIGH_FREQUENCY, 60, 1, 1),
        (BALANCED, 300, 3, 10),
        (HIGH_THROUGHPUT, 600, 10, 30),
    ],
)
def test_presets(preset: Checkpointing, runtime: float | None, steps: int, interval: float) -> None:
    assert preset.max_runtime_s == runtime
    assert preset.buffered_steps == steps
    assert preset.max_interval_s == interval
    assert preset.mode == "confirmed"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("auto", None),
        ("0", None),
        (0, None),
        (timedelta(0), None),
        ("14m30s", 870),
        (300, 300),
        (timedelta(minutes=5), 300),
    ],
)
def test_max_runtime(value: Any, seconds: float | None) -> None:
    assert Checkpointing(max_runtime=value).max_runtime_s == seconds


def test_values_that_mean_the_same_are_equal() -> None:
    one = Checkpointing(max_runtime="5m", max_interval="10s")
    other = Checkpointing(max_runtime=timedelta(minutes=5), max_interval=10)
    assert one == other
    assert hash(one) == hash(other)
    assert one != Checkpointing(max_runtime="5m")
    assert repr(one) == (
        "Checkpointing(max_runtime='5m', buffered_steps=1, max_interval='10s', mode='confirmed')"
    )


def test_it_is_frozen_and_its_copies_are_checked() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SAFE.buffered_steps = 2  # type: ignore[misc]
    changed = dataclasses.replace(BALANCED, max_interval="1m")
    assert changed.max_interval_s == 60
    assert changed.max_runtime_s == 300
    with pytest.raises(ConfigurationError):
        dataclasses.replace(BALANCED, buffered_steps=0)


@pytest.mark.parametrize("option", ["max_runtime", "max_interval"])
@pytest.mark.parametrize("value", ["5 parsecs", -1, "-5s", True, "", float("nan"), [], "Auto"])
def test_bad_durations(option: str, value: Any) -> None:
    with pytest.raises(DurationError, match=f"^{option} is "):
        Checkpointing(**{option: value})


def test_no_max_runtime_is_written_as_text() -> None:
    with pytest.raises(ConfigurationError, match=r"max_runtime is None\. Write 'auto', '0'"):
        Checkpointing(max_runtime=None)  # type: ignore[arg-type]
    with pytest.raises(DurationError, match="max_interval is None"):
        Checkpointing(max_interval=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [0, -1, True, False, 3.0, "3", None])
def test_bad_buffered_steps(steps: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Checkpointing(buffered_steps=steps)
    assert str(caught.value).startswith(f"buffered_steps is {steps!r}. Write a whole number from 1")


@pytest.mark.parametrize("mode", ["async", "", None, True, ["confirmed"]])
def test_unknown_mode(mode: Any) -> None:
    with pytest.raises(ConfigurationError, match="Write 'confirmed' or 'pipelined'"):
        Checkpointing(mode=mode)


def test_environment_without_our_variables_is_the_default() -> None:
    assert Checkpointing.from_env({}) == SAFE
    assert Checkpointing.from_env({"ONWARD_MODE": "", "ONWARD_BUFFERED_STEPS": " "}) == SAFE


def test_environment() -> None:
    environ = {
        "ONWARD_MAX_RUNTIME": "10m",
        "ONWARD_BUFFERED_STEPS": "10",
        "ONWARD_MAX_INTERVAL": "30s",
        "ONWARD_MODE": "pipelined",
    }
    assert Checkpointing.from_env(environ) == dataclasses.replace(HIGH_THROUGHPUT, mode="pipelined")
    assert Checkpointing.from_env({"ONWARD_MAX_RUNTIME": "0"}).max_runtime_s is None
    assert Checkpointing.from_env({"ONWARD_MAX_INTERVAL": "0"}).max_interval_s == 0


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("ONWARD_MAX_RUNTIME", "5 parsecs", "14m30s"),
        ("ONWARD_MAX_RUNTIME", "300", "'300s' for seconds"),
        ("ONWARD_MAX_INTERVAL", "-5s", "cannot be negative"),
        ("ONWARD_BUFFERED_STEPS", "0", "whole number from 1"),
        ("ONWARD_BUFFERED_STEPS", "-3", "whole number from 1"),
        ("ONWARD_BUFFERED_STEPS", "three", "whole number from 1"),
        ("ONWARD_BUFFERED_STEPS", "1.5", "whole number from 1"),
        ("ONWARD_BUFFERED_STEPS", "1_0", "whole number from 1"),
        ("ONWARD_MODE", "safe", "'confirmed' or 'pipelined'"),
    ],
)
def test_bad_environment_names_the_variable(name: str, value: str, fix: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Checkpointing.from_env({name: value})
    message = str(caught.value)
    assert message.startswith(f"{name} is ")
    assert value in message
    assert fix in message


@pytest.mark.parametrize(
    ("of_app", "of_function", "expected"),
    [
        (True, None, SAFE),
        (None, None, SAFE),
        (False, None, None),
        (BALANCED, None, BALANCED),
        (BALANCED, True, SAFE),
        (BALANCED, False, None),
        (False, True, SAFE),
        (False, BLENDED, BLENDED),
        (True, PERFORMANT, PERFORMANT),
    ],
)
def test_a_function_overrides_its_app(
    of_app: object, of_function: object, expected: Checkpointing | None
) -> None:
    assert resolve_checkpointing(of_app, of_function) == expected


@pytest.mark.parametrize("value", [1, 0, "SAFE", {}, "3s", Checkpointing])
def test_anything_else_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"on the app is not valid\. Write True, False"):
        resolve_checkpointing(value, None)
    with pytest.raises(ConfigurationError, match="on the function is not valid"):
        resolve_checkpointing(True, value)
