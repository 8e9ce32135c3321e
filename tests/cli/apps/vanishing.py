"""Ends the process while it is imported."""

from __future__ import annotations

import os
import sys

sys.stderr.write("going, going\n")
sys.stderr.flush()
os._exit(7)
