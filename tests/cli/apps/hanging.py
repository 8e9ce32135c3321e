"""Never ends being imported."""

from __future__ import annotations

import sys
import time

sys.stdout.write("importing for ever\n")
sys.stdout.flush()
while True:
    time.sleep(60)
