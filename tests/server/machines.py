"""One run's state machine, and short ways to drive it."""

from __future__ import annotations

from typing import Any

from onward_server.answers import Answer, interpret
from onward_server.model import Effects, Job, Status
from onward_server.run_state import RunState
from onward_server.settings import Settings
from tests.server.fakes import Ids, step_id


class Machine:
    """A run and short ways to drive it."""

    def __init__(self, max_attempts: int = 3, **settings: Any) -> None:
        self.ids = Ids()
        self.run = RunState(
            run_id="RUN",
            function_id="app-f",
            event_id="E",
            event_names="app/f",
            events='[{"name":"app/f","data":{"id":7}}]',
            settings=Settings(**settings),
            max_attempts=max_attempts,
            started_ms=self.ids.ms,
        )
        self.last = self.run.begin(self.ids.now())

    @property
    def job(self) -> Job:
        """The one call in flight."""
        [job] = [job for job in self.run.jobs.values() if job.in_flight]
        return job

    def flying(self, name: str) -> Job:
        [job] = [job for job in self.run.jobs.values() if job.target == step_id(name)]
        return job

    def answer(self, answer: Answer, job: Job | None = None) -> Effects:
        job = job or self.job
        outcome = interpret(answer, self.ids.ms)
        self.last = self.run.answer(job.id, job.request_id, outcome, self.ids.now())
        return self.last

    def wait(self, ms: int, key: str) -> Effects:
        self.ids.ms += ms
        self.last = self.run.due(key, self.ids.now())
        return self.last

    def owed(self) -> bool:
        """Whether a call is owed that is not made yet."""
        return self.run.redo is not None

    @property
    def error(self) -> str:
        assert self.run.status is Status.FAILED
        return self.run.output
