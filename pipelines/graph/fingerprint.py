"""The fingerprint of a step: it changes when the code or the libraries that compute the step's result change.

The code is that of the modules which the step imports, in normal form (``pipelines.config.normal_code``), without
those that move files, log and report: they change no result, so nobody trains again for them.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipelines.config.normal_code import normal_code

ROOT = Path(__file__).parents[2]
# Files are fetched by digest and checked: whatever moves them, the same bytes arrive.
NOT_COMPUTING = ("components.errors", "components.storage", "components.runtime")
# Libraries whose version can change a result, by the name under which they are imported: the distribution.
COMPUTING = {
    "accelerate": "accelerate", "bitsandbytes": "bitsandbytes", "datasets": "datasets", "gguf": "gguf",
    "jinja2": "jinja2", "llama_cpp": "llama-cpp-python", "numpy": "numpy", "peft": "peft", "pyarrow": "pyarrow",
    "rensa": "rensa", "safetensors": "safetensors", "sentencepiece": "sentencepiece", "tiktoken": "tiktoken",
    "tokenizers": "tokenizers", "torch": "torch", "transformers": "transformers", "trl": "trl",
}  # fmt: skip
# What those compute with themselves, whether or not a step imports it as well.
BEHIND = {
    "torch": ("numpy",),
    "transformers": ("jinja2", "numpy", "safetensors", "sentencepiece", "tiktoken", "tokenizers"),
    "trl": ("accelerate", "datasets"),
}
ASSETS = ("*.jinja", "*.js")

_MODULE = re.compile(r"components(\.\w+)+")


def code_fingerprint(module: str, versions: Mapping[str, str]) -> str:
    """16 hexadecimal digits over the code that ``module`` leads to in ``components``, and over ``versions``.

    ``versions`` are those of the libraries where the step runs, by distribution; of these the ones count that the code
    imports.
    """
    digest = hashlib.sha256()
    libraries: set[str] = set()
    for path in _reachable(module):
        code = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            libraries.update(_libraries_in(code))
            code = normal_code(code, is_config=path.name == "config.py")
        digest.update(path.name.encode() + b"\0" + code.encode() + b"\0")
    for name in sorted(libraries.intersection(versions)):
        digest.update(f"{name}=={versions[name]}\0".encode())
    return digest.hexdigest()[:16]


@cache
def _libraries_in(source: str) -> frozenset[str]:
    """The distributions of the computing libraries that a source imports, and of those behind them."""
    names = {name.partition(".")[0] for name in _imports_in(source)}.intersection(COMPUTING)
    return frozenset(COMPUTING[name] for name in names).union(*(BEHIND.get(name, ()) for name in names))


def installed_versions() -> dict[str, str]:
    """The versions of the computing libraries that this Python has."""
    found = {}
    for name in COMPUTING.values():
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
    texts = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    names = _imports_in(source).union(text for text in texts if isinstance(text, str))
    return frozenset(name for name in names if _MODULE.fullmatch(name))


@cache
def _imports_in(source: str) -> frozenset[str]:
    """The dotted names of everything that a source imports when it runs; types alone are not imported then."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(names)
