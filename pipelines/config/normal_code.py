"""Code in a normal form, without what cannot change a result: two sources that compute the same have one form.

Left out: docstrings, comments and formatting, the texts of errors and log lines, descriptions of settings and, in a
``config.py``, their defaults (a default is written into the parameter of a step).
"""

from __future__ import annotations

import ast
from functools import cache


@cache
def normal_code(source: str, *, is_config: bool = False) -> str:
    """The normal form of a Python module; it is the same under every version of Python that can read the source."""
    return _text_of(_WithoutWords(is_config=is_config).visit(ast.parse(source)))


def _text_of(node: object) -> str:
    # ast.dump and ast.unparse write the same tree otherwise in another version of Python; new fields are empty there.
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value not in (None, []))
        return f"{type(node).__name__}({','.join(f'{name}={_text_of(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_text_of, node))}]"
    return repr(node)


class _WithoutWords(ast.NodeTransformer):
    """Takes out what the module's docstring names."""

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
        if isinstance(node.exc, ast.Call):
            node.exc.args = [argument for argument in node.exc.args if not _is_text(argument)]
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return ast.Pass() if _is_log_line(node.value) else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if isinstance(node.func, ast.Name) and node.func.id == "Field":
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]
        return self.generic_visit(node)

    def _without_docstring(self, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return self.generic_visit(node)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_log_line(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
    )
