"""From `MODULE:APP` on the command line to the app object."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onward_deploy.errors import UsageError

if TYPE_CHECKING:
    from types import ModuleType

    from onward import App

DEFAULT_ATTRIBUTE = "app"


@dataclass(frozen=True, slots=True)
class Target:
    """`module` is a dotted name, or the path of a file; `attribute` the app's name in it."""

    module: str
    attribute: str = DEFAULT_ATTRIBUTE

    @property
    def is_file(self) -> bool:
        """Whether `module` is a path and not a dotted name."""
        return self.module.endswith(".py") or "/" in self.module or "\\" in self.module

    def __str__(self) -> str:
        return f"{self.module}:{self.attribute}"


def parse_target(text: str) -> Target:
    """`package.module:app`, `path/to/file.py:app`, or either without `:app`.

    Raises UsageError for anything else.
    """
    module, colon, attribute = text.rpartition(":")
    # The colon of a Windows drive is followed by a path, and no attribute is one.
    if not colon or "/" in attribute or "\\" in attribute:
        module, attribute = text, DEFAULT_ATTRIBUTE
    target = Target(module, attribute)
    names = [attribute] if target.is_file else [*module.split("."), attribute]
    if not module or not all(name.isidentifier() for name in names):
        raise UsageError(
            f"{text!r} does not name an app. Write MODULE:APP, such as `orders.main:app`, or"
            " FILE:APP, such as `orders/main.py:app`; `:app` may be left out."
        )
    return target


def load_app(target: Target) -> App:
    """Import `target`'s module and take the app from it.

    Raises UsageError when the module is not there, raises while it is imported (`details` is its
    traceback, from its own first line on), or has no such app.
    """
    module = _import_file(target) if target.is_file else _import_name(target)
    return _app_in(module, target)


def load_app_here(target: Target, dev_server: str) -> App:
    """`load_app`, for the process that runs it beside the orchestrator at `dev_server`.

    That one is used whatever the app was given, and what functions log is shown, at INFO and above,
    unless the app configures logging itself.
    """
    app = load_app(target)
    app.use_dev_server(dev_server)
    logger = logging.getLogger("onward.run")
    if not logger.hasHandlers():
        logging.basicConfig(format="%(levelname)s %(message)s")
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.INFO)
    return app


def _import_file(target: Target) -> ModuleType:
    path = Path(target.module).resolve()
    if not path.is_file():
        raise UsageError(
            f"There is no file {target.module!r} (looked for {path}). Give a path relative to the"
            f" current directory, {Path.cwd()}."
        )
    # A file inside a package is imported by its dotted name, so that its relative imports work.
    root, parts = path.parent, [path.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    if parts[-1] == "__init__":
        parts.pop()
    _put_first(root)
    name = ".".join(parts)
    if name not in sys.modules and len(parts) == 1:
        return _import_lone_file(path, name, target)
    return _importing(name, target)


def _import_lone_file(path: Path, name: str, target: Target) -> ModuleType:
    """By location: a file `json.py`, or one with a dash in its name, is imported all the same."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{target.module!r} is not a Python file: its name must end in `.py`.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _import_failed(target, error) from error
    return module


def _import_name(target: Target) -> ModuleType:
    _put_first(Path.cwd())
    return _importing(target.module, target)


def _importing(name: str, target: Target) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(
                f"There is no module {error.name!r}. `{target}` was looked for in {Path.cwd()} and"
                f" in the packages of {sys.executable}. A path works too:"
                f" `{name.replace('.', '/')}.py:{target.attribute}`."
            ) from None
        raise _import_failed(target, error) from error
    except Exception as error:
        raise _import_failed(target, error) from error


def _put_first(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _import_failed(target: Target, error: Exception) -> UsageError:
    hint = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = f" Install what provides {error.name!r} into {sys.executable}'s environment."
    return UsageError(
        f"{target.module} could not be imported: {type(error).__name__}:"
        f" {str(error).rstrip('.')}.{hint}",
        details=users_traceback(error),
    )


def users_traceback(error: BaseException) -> str:
    """`error`'s traceback without the frames that imported the user's module."""
    ours = (__file__, "<frozen importlib")
    frame = error.__traceback__
    while frame and frame.tb_frame.f_code.co_filename.startswith(
        (*ours, importlib.__file__ or "importlib")
    ):
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame)).rstrip()


def _app_in(module: ModuleType, target: Target) -> App:
    from onward import App

    found: Any = getattr(module, target.attribute, None)
    if isinstance(found, App):
        return found
    apps = [name for name, value in vars(module).items() if isinstance(value, App)]
    if apps:
        fix = f"It has {_listed(apps)}: write `{target.module}:{apps[0]}`."
    else:
        fix = 'It has no app at all: `app = onward.App("my-app")` makes one.'
    what = (
        f"no {target.attribute!r}"
        if found is None
        else f"{target.attribute!r}, but that is a {type(found).__name__} and not an onward.App"
    )
    raise UsageError(f"{target.module} has {what}. {fix}")


def _listed(names: list[str]) -> str:
    return ("the app " if len(names) == 1 else "the apps ") + ", ".join(map(repr, names))
