"""The notebook for Colab and Kaggle, executed from its first cell to its last."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from tests.conftest import ROOT

NOTEBOOK = ROOT / "notebooks" / "lorry.ipynb"


def read() -> NotebookNode:
    return nbformat.read(NOTEBOOK, 4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(notebook: NotebookNode, tag: str) -> NotebookNode:
    (found,) = [cell for cell in code_cells(notebook) if tag in cell.metadata.get("tags", [])]
    return found


def client_of(notebook: NotebookNode, folder: Path) -> NotebookClient:
    return NotebookClient(notebook, timeout=3000, kernel_name="python3", resources={"metadata": {"path": str(folder)}})


def execute(notebook: NotebookNode, folder: Path) -> list[str]:
    """Execute in ``folder``, where this clone lies as one that the notebook has made; give each cell's text."""
    (folder / "lorry").symlink_to(ROOT)
    client_of(notebook, folder).execute()
    return ["".join(map(text_of, cell.outputs)) for cell in code_cells(notebook)]


def text_of(output: Any) -> str:
    if output.output_type == "stream":
        return str(output.text)
    return "".join(map(str, output.get("data", {}).values()))


def test_there_are_ten_short_cells_without_outputs():
    cells = code_cells(read())
    assert len(cells) == 10
    assert all(len(cell.source.splitlines()) <= 30 and not cell.outputs for cell in cells)


def check(texts: list[str], folder: Path) -> None:
    """What the cells show: install, check, run, answers, an answer of the server, the file, the card."""
    assert f"Lorry is in {folder / 'lorry'}" in texts[1]
    assert "fine; run it with: lorry run" in texts[4]
    assert "publish_model" in texts[5]
    # no moving bars: a notebook would keep each of their lines
    assert "\x1b" not in texts[5]
    assert len(texts[5].splitlines()) < 300
    assert "<table" in texts[6]
    assert texts[7].strip()
    assert re.search(r"model-Q8_0\.gguf: [0-9.]+ MB", texts[8])
    assert "adapter_model.safetensors:" in texts[9]


def test_every_cell_works_with_a_small_recipe(tiny_run, tmp_path):
    notebook = read()
    tagged(notebook, "parameters").source += f"\nWORKDIR = {str(tiny_run.workdir)!r}"
    tagged(notebook, "recipe").source = f"RECIPE = {str(tiny_run.recipe)!r}"
    check(execute(notebook, tmp_path), tmp_path)


SECRETS = {
    "Kaggle": (
        "kaggle_secrets",
        "UserSecretsClient",
        lambda: SimpleNamespace(get_secret=lambda name: f"kaggle {name}"),
    ),
    "Colab": ("google.colab", "userdata", SimpleNamespace(get=lambda name: f"colab {name}")),
}


@pytest.mark.parametrize(("place", "token"), [("Kaggle", "kaggle HF_TOKEN"), ("Colab", "colab HF_TOKEN"), ("", None)])
def test_the_last_cell_reads_the_token_from_the_place_s_secret(place, token, monkeypatch):
    for name in ("HF_TOKEN", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    if place == "Kaggle":
        monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    if place:
        module, name, value = SECRETS[place]
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{name: value}))
    pushed: list[tuple[str, ...]] = []
    kernel: dict[str, Any] = {"os": os, "PLACE": {"env": {}}, "REPOSITORY": "", "lorry": lambda *it: pushed.append(it)}
    exec(code_cells(read())[-1].source, kernel)
    assert kernel["PLACE"]["env"].get("HF_TOKEN") == token
    assert pushed == [("push", "somebody/notebook", "--dry-run")]


@pytest.mark.slow
def test_every_cell_works_as_it_stands(tmp_path):
    texts = execute(read(), tmp_path)
    check(texts, tmp_path)
    assert "Lorry" in texts[7]


def test_a_command_that_fails_ends_the_notebook_with_its_error(tmp_path):
    notebook = read()
    tagged(notebook, "recipe").source = 'RECIPE = Path("my-recipe.yaml").absolute()\nRECIPE.write_text("nome: x")'
    with pytest.raises(CellExecutionError, match="lorry check ended with an error; the line above says what"):
        execute(notebook, tmp_path)
    (check_cell,) = [cell for cell in code_cells(notebook) if cell.source.startswith('lorry("check"')]
    assert "did you mean name?" in "".join(map(text_of, check_cell.outputs))


def test_without_a_clone_and_without_its_address_the_first_cell_is_named(tmp_path):
    with pytest.raises(CellExecutionError, match="set SOURCE in the first cell"):
        client_of(read(), tmp_path).execute()
