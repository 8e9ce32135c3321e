"""What can be tuned about the embedded orchestrator."""

from __future__ import annotations

from dataclasses import dataclass, field

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits and delays. All times are seconds, all sizes bytes.

    The defaults are those of an Inngest server, except that nothing is polled.

    Attributes:
        retry_base_s: Delay before the first retry; it doubles with each further attempt.
        retry_max_s: The longest of those delays.
        retry_jitter: How far a delay may be off, as a fraction of itself (0.2: plus or minus 20 %).
        retry_after_min_s: The shortest delay that a function may ask for by `retry-after`.
        retry_after_max_s: The longest delay that a function may ask for by `retry-after`.
        throttle_base_s: Delay before a throttled call (429) is tried again; it doubles each time.
        throttle_max_s: The longest of those delays.
        refused_delay_s: Delay before a refused connection is tried again.
        refused_grace_s: How long refused connections use up no attempt: nothing was started.
        call_timeout_s: The longest that one invocation may take.
        max_concurrent_calls: Calls in flight at once to one HTTP endpoint.
        max_step_bytes: The largest result of one step; above it a checkpoint answers 413.
        max_run_bytes: The largest journal of a run; above it the run fails at the next call.
        max_steps: The steps with which a run fails at its next call.
        trim_bytes: A journal larger than this is left out of the call request (`use_api`).
        max_body_bytes: The largest request body that the API reads.
        max_idle_continuations: Continuations in a row without a new result before the run fails.
        event_id_window_s: How long the id of an event keeps a second event from starting runs.
        endpoint_lease_s: How long nothing may be heard of a request that drives a durable
            endpoint's run, before the endpoint is called to finish it.
        signing_key: Signs the calls of functions; registrations, checkpoints and reads of the API
            must then bear its token (SDK specification, 4.1). None: a development server.
        event_keys: The keys that events may be sent with; empty, any.
        synchronous: SQLite's `synchronous`: `FULL` survives a power cut, `NORMAL` a killed process.
    """

    retry_base_s: float = 5.0
    retry_max_s: float = 3600.0
    retry_jitter: float = 0.2
    retry_after_min_s: float = 1.0
    retry_after_max_s: float = 86400.0
    throttle_base_s: float = 0.5
    throttle_max_s: float = 30.0
    refused_delay_s: float = 0.2
    refused_grace_s: float = 30.0
    call_timeout_s: float = 7200.0
    max_concurrent_calls: int = 100
    max_step_bytes: int = 4 * MEBIBYTE
    max_run_bytes: int = 32 * MEBIBYTE
    max_steps: int = 1_000
    trim_bytes: int = 4 * MEBIBYTE
    max_body_bytes: int = 16 * MEBIBYTE
    max_idle_continuations: int = 100
    event_id_window_s: float = 86400.0
    endpoint_lease_s: float = 20.0
    signing_key: str | None = field(default=None, repr=False)
    event_keys: tuple[str, ...] = field(default=(), repr=False)
    synchronous: str = "FULL"

    def __post_init__(self) -> None:
        if self.synchronous not in {"FULL", "NORMAL", "EXTRA", "OFF"}:
            raise ValueError(
                f"Settings.synchronous must be FULL, NORMAL, EXTRA or OFF, not {self.synchronous!r}"
            )

    def retry_delay(self, attempt: int, chance: float) -> float:
        """Seconds before the attempt after `attempt`; `chance`, from 0 to 1, is for jitter."""
        delay = min(self.retry_max_s, self.retry_base_s * 2.0 ** min(attempt, 30))
        return delay * (1 + self.retry_jitter * (2 * chance - 1))

    def throttle_delay(self, times: int, chance: float) -> float:
        """Seconds before a call that was throttled `times` times is tried again."""
        delay = min(self.throttle_max_s, self.throttle_base_s * 2.0 ** min(times, 30))
        return delay * (1 + self.retry_jitter * (2 * chance - 1))

    def clamp_retry_after(self, seconds: float) -> float:
        """`seconds` within what a function may ask for."""
        return min(self.retry_after_max_s, max(self.retry_after_min_s, seconds))
