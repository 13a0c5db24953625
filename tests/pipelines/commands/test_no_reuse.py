"""The values of ``--no-reuse``."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from components.errors import RecipeError
from pipelines.commands.no_reuse import CommandWithNoReuse, NoReuse, steps_without_reuse

STEPS = ("split_data", "train_lora", "export_gguf")

app = typer.Typer()


@app.command(cls=CommandWithNoReuse)
def run(document: str, no_reuse: NoReuse = None, pool: str = "") -> None:
    print(document, no_reuse, pool)


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        (None, ()),
        ("all", STEPS),
        ("train_lora", ("train_lora",)),
        ("Train-LoRA, export_gguf,", ("train_lora", "export_gguf")),
        ("train_lora,all", STEPS),
    ],
)
def test_steps_are_named_as_people_write_them(given, steps):
    assert steps_without_reuse(given, STEPS) == steps


@pytest.mark.parametrize(
    ("given", "facts"),
    [
        ("train", ("--no-reuse train", "did you mean train_lora?")),
        ("zzz", ("--no-reuse zzz", "split_data, train_lora, export_gguf")),
        (" , ", ("names no step", "split_data, train_lora, export_gguf")),
    ],
)
def test_what_is_no_step_is_refused_with_those_that_are(given, facts):
    with pytest.raises(RecipeError) as caught:
        steps_without_reuse(given, STEPS)
    assert all(fact in str(caught.value) for fact in facts)


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["a.yaml"], "a.yaml None "),
        (["a.yaml", "--no-reuse"], "a.yaml all "),
        (["--no-reuse", "train_lora", "a.yaml"], "a.yaml train_lora "),
        (["a.yaml", "--no-reuse", "--pool", "t4"], "a.yaml all t4"),
    ],
)
def test_the_flag_stands_with_and_without_a_value(arguments, printed):
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout == printed + "\n"


def test_a_document_behind_the_flag_is_no_step(tmp_path):
    document = tmp_path / "recipe.yaml"
    document.touch()
    done = CliRunner().invoke(app, ["--no-reuse", str(document)])
    assert done.stdout == f"{document} all \n"
