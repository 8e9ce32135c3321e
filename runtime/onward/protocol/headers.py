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
GENERATION_ID = "x-inngest-generation-id"
STEP_ID = "x-inngest-step-id"
JOB_ID = "x-inngest-job-id"
REQUEST_ID = "x-request-id"
TRACE_PARENT = "traceparent"

#: The version of the execution model that Onward answers with.
EXECUTION_VERSION = "2"
