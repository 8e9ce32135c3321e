"""`python -m onward_deploy` is `onward`."""

from __future__ import annotations

from onward_deploy.cli import main

if __name__ == "__main__":
    main()
