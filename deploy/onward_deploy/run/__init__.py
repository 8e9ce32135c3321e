"""`onward run`: one run, in worker processes that are killed at the limit as a platform would."""
