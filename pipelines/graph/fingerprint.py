"""A fingerprint of the code that a step runs: changed code runs again, other code's changes do not matter."""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def code_fingerprint(part: str) -> str:
    """16 hexadecimal digits over ``components/<part>`` and every module of ``components`` that it leads to."""
    digest = hashlib.sha256()
    for path in files_of(part):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def files_of(part: str) -> list[Path]:
    """The files of ``components/<part>`` and every module of ``components`` that they lead to."""
    folder = ROOT / "components" / part
    waiting = sorted(path for kind in ("*.py", "*.jinja", "*.js") for path in folder.glob(kind))
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        waiting.extend(_imported(path))
    return sorted(seen)


def _imported(path: Path) -> list[Path]:
    """The files of ``components`` that a file imports by absolute name."""
    if path.suffix != ".py":
        return []
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    files = (ROOT / Path(*name.split(".")).with_suffix(".py") for name in names if name.startswith("components."))
    return [file for file in files if file.is_file()]
