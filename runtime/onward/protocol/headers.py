"""HTTP header names of the protocol (SDK specification, 4.1), in lower case."""

from __future__ import annotations

SDK = "x-inngest-sdk"
FRAMEWORK = "x-inngest-framework"
REQUEST_VERSION = "x-inngest-req-version"
NO_RETRY = "x-inngest-no-retry"
RETRY_AFTER = "retry-after"
SIGNATURE = "x-inngest-signature"
SERVER_KIND = "x-inngest-server-kind"
EXPECTED_SERVER_KIND = "x-inngest-expected-server-kind"
SYNC_KIND = "x-inngest-sync-kind"
ENV = "x-inngest-env"
PLATFORM = "x-inngest-platform"
GENERATION_ID = "x-inngest-generation-id"
STEP_ID = "x-inngest-step-id"
JOB_ID = "x-inngest-job-id"
EVENT_ID_SEED = "x-inngest-event-id-seed"
REQUEST_ID = "x-request-id"
RUN_ID = "x-run-id"
FORCE_STEP_PLAN = "x-inngest-force-step-plan"

#: The attempt of a call to a durable endpoint, from 0: the embedded orchestrator's own.
ATTEMPT = "x-onward-attempt"
TRACE_PARENT = "traceparent"

#: The version of the execution model that Onward answers with.
EXECUTION_VERSION = "2"
