"""The wire: call requests, responses, checkpoints, registration, headers. Pure functions, no IO."""
