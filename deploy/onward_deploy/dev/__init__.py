"""`onward dev`: the embedded orchestrator beside the served app."""
