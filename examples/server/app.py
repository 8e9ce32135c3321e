"""A long-running server: nothing ends an invocation, so one of them does the whole job.

    uvicorn examples.server.app:asgi --port 8000

serves the app beside an orchestrator (`onward dev`, or an Inngest server); to try the function
without either:

    onward run examples/server/app.py:app find_duplicates --data '{"root": "."}'

It finds the files with equal content under a directory of the server. `max_runtime="0"` sets no
limit of its own, and five results wait for a checkpoint, 30 seconds at the longest: what a restart
of the server costs is at most that. The checkpoints are what makes a deployment in the middle of
the job harmless.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onward
import onward.asgi

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

app = onward.App("server")


@dataclass(frozen=True)
class Listing:
    """How many files there are, and the size of each that shares it with another one."""

    files: int
    sizes: dict[str, int]


@dataclass(frozen=True)
class Duplicates:
    """What was found. `unreadable` files went away, or may not be read."""

    files: int
    hashed: int
    wasted_bytes: int
    groups: list[list[str]]
    unreadable: list[str]


@app.function(
    "find_duplicates",
    trigger=onward.Event("files/duplicates.requested"),
    checkpointing=onward.Checkpointing(max_runtime="0", buffered_steps=5, max_interval="30s"),
)
async def find_duplicates(ctx: onward.Context) -> Duplicates:
    """Compare the files under `root` by SHA-256, `batch` files a step (50 by default)."""
    root, batch = _asked(ctx.event.data)
    # The directory may change while the job runs; the list in the journal does not.
    listing = await ctx.step.run("list", list_files, root)
    candidates = list(listing.sizes)
    digests: dict[str, str | None] = {}
    for start in range(0, len(candidates), batch):
        names = candidates[start : start + batch]
        # A blocking body in an async function runs on a worker thread; other calls go on meanwhile.
        digests |= await ctx.step.run(f"hash from {start}", hash_files, root, names)
    groups = await ctx.step.run("compare", compare, digests)
    return Duplicates(
        files=listing.files,
        hashed=len(candidates),
        wasted_bytes=sum(listing.sizes[group[0]] * (len(group) - 1) for group in groups),
        groups=groups,
        unreadable=[name for name, digest in digests.items() if digest is None],
    )


asgi = onward.asgi.serve(app)


def list_files(root: str) -> Listing:
    """Size all files under `root` that are not empty; only those of one size can be equal."""
    if not Path(root).is_dir():
        raise onward.NonRetriableError(f"root: {root!r} is no directory on this server")
    found = (path for path in Path(root).rglob("*") if path.is_file() and not path.is_symlink())
    sizes = {path.relative_to(root).as_posix(): path.stat().st_size for path in sorted(found)}
    shared = Counter(size for size in sizes.values() if size)
    return Listing(len(sizes), {name: size for name, size in sizes.items() if shared[size] > 1})


def hash_files(root: str, names: Iterable[str]) -> dict[str, str | None]:
    """The SHA-256 of each file, or None for one that cannot be read."""
    return {name: _digest(Path(root, name)) for name in names}


def compare(digests: Mapping[str, str | None]) -> list[list[str]]:
    """Group the files by digest; the groups of one are left out."""
    groups: dict[str, list[str]] = {}
    for name, digest in digests.items():
        if digest is not None:
            groups.setdefault(digest, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _digest(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _asked(data: Mapping[str, Any]) -> tuple[str, int]:
    root, batch = data.get("root"), data.get("batch", 50)
    if not isinstance(root, str) or not root:
        raise onward.NonRetriableError(f"root: give a directory on this server, not {root!r}")
    if type(batch) is not int or batch < 1:
        raise onward.NonRetriableError(f"batch: give 1 or more files a step, not {batch!r}")
    return root, batch
