"""The fingerprint of a step: it changes when the code or the libraries that compute the step's result change.

What cannot change a result is left out, so that nobody trains again for it: docstrings, comments and formatting, the
words of errors and log lines, descriptions and defaults of settings (a default is written into the step's own
parameter), and the modules that move files, log and report.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Files are fetched by digest and checked: whatever moves them, the same bytes arrive.
NOT_COMPUTING = ("components.errors", "components.storage", "components.runtime")
# Distributions whose version can change a result.
COMPUTING = (
    "accelerate", "bitsandbytes", "datasets", "gguf", "jinja2", "llama-cpp-python", "numpy", "peft", "pyarrow", "rensa",
    "safetensors", "sentencepiece", "tiktoken", "tokenizers", "torch", "transformers", "trl",
)  # fmt: skip
ASSETS = ("*.jinja", "*.js")

_MODULE = re.compile(r"components(\.\w+)+")


def code_fingerprint(module: str, versions: Mapping[str, str]) -> str:
    """16 hexadecimal digits over the code that ``module`` leads to in ``components``, and over ``versions``.

    ``versions`` are those of the libraries, by distribution: see ``installed_versions`` and
    ``pipelines.graph.images.locked_versions``.
    """
    digest = hashlib.sha256()
    for path in _reachable(module):
        code = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            code = _computing_code(code, is_config=path.name == "config.py")
        digest.update(path.name.encode() + b"\0" + code.encode() + b"\0")
    for name in sorted(set(versions).intersection(COMPUTING)):
        digest.update(f"{name}=={versions[name]}\0".encode())
    return digest.hexdigest()[:16]


def installed_versions() -> dict[str, str]:
    """The versions of the computing libraries that this Python has."""
    found = {}
    for name in COMPUTING:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def files_of(part: str) -> list[Path]:
    """Every file that ``components/<part>`` needs to run: its folder, and the modules that it leads to."""
    folder = ROOT / "components" / part
    own = [path for kind in ("*.py", *ASSETS) for path in folder.rglob(kind)]
    found = set(own).union(*(_closure(path) for path in own if path.suffix == ".py"))
    packages = {parent / "__init__.py" for path in found for parent in path.parents if parent.is_relative_to(ROOT)}
    return sorted(found.union(path for path in packages if path.is_file()))


def _reachable(module: str) -> list[Path]:
    """The files behind a step's module that can change its result, and the templates beside them."""
    start = _file_of(module)
    assert start is not None, module
    return sorted(_closure(start, NOT_COMPUTING))


def _closure(start: Path, without: tuple[str, ...] = ()) -> set[Path]:
    """A file, every file of ``components`` that it imports or starts as a process, and templates beside them."""
    waiting, seen = [start], set[Path]()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in _modules_in(path.read_text(encoding="utf-8")):
            imported = _file_of(name)
            if imported is not None and not name.startswith(without or ("\0",)):
                waiting.append(imported)
    return seen.union(asset for path in seen for kind in ASSETS for asset in path.parent.glob(kind))


def _file_of(module: str) -> Path | None:
    """The file of a module, or what ``python -m`` runs of a package; None for any other name."""
    path = ROOT / Path(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__main__.py"):
        if file.is_file():
            return file
    return None


@cache
def _modules_in(source: str) -> frozenset[str]:
    """The modules of ``components`` that a source imports, or names as text: it may start one as a process."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
    return frozenset(name for name in names if _MODULE.fullmatch(name))


@cache
def _computing_code(source: str, *, is_config: bool) -> str:
    """A module without what cannot change a result, in one normal form."""
    tree = _WithoutWords(is_config=is_config).visit(ast.parse(source))
    return ast.unparse(ast.fix_missing_locations(tree))


class _WithoutWords(ast.NodeTransformer):
    """Takes out docstrings, the texts of errors and log lines, descriptions, and the defaults of a config's fields."""

    def __init__(self, *, is_config: bool) -> None:
        self._is_config = is_config

    def visit_Module(self, node: ast.Module) -> ast.AST:
        return self._without_docstring(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._without_docstring(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        if self._is_config:
            for statement in node.body:
                if isinstance(statement, ast.AnnAssign) and statement.value is not None:
                    statement.value = ast.Constant(...)
        return self._without_docstring(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return _WithoutTexts().generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return ast.Pass() if _is_log_line(node.value) else self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        if node.arg == "description":
            node.value = ast.Constant("")
        return self.generic_visit(node)

    def _without_docstring(self, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)


class _WithoutTexts(ast.NodeTransformer):
    """Empties every text."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("")


def _is_log_line(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
    )
