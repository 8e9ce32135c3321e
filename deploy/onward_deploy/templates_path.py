"""Where the project templates lie: in the installed package, or in the checkout."""

from __future__ import annotations

from pathlib import Path

from onward_deploy.errors import UsageError


def templates_path(name: str = "") -> Path:
    """Return the folder of all templates, or of the one called `name`.

    Raises:
        UsageError: There is no such template; the message lists those that there are. Or the
            installation lacks them altogether.
    """
    here = Path(__file__).resolve().parent
    # The wheel carries the folder inside the package; a checkout has it at its top.
    root = next(
        (p for p in (here / "templates", here.parents[1] / "templates") if p.is_dir()), None
    )
    if root is None:
        raise UsageError(
            "The project templates are missing from this installation of Onward. Reinstall it: "
            "pip install --force-reinstall 'onward[deploy]'"
        )
    if not name:
        return root
    known = template_names()
    if name not in known:
        raise UsageError(f"There is no template {name!r}. There are: {', '.join(known)}.")
    return root / name


def template_names() -> list[str]:
    """Return the names of all templates, sorted."""
    return sorted(folder.name for folder in templates_path().iterdir() if folder.is_dir())
