"""The list of steps, and what follows from it."""

from __future__ import annotations

from importlib import import_module
from types import SimpleNamespace

import pytest

from components.errors import RecipeError
from pipelines.config.figures import describe_any, describe_evaluation, describe_quantization
from pipelines.config.recipe import Recipe
from pipelines.config.steps import RUN_STEPS, SECTIONS, STEPS, SWEEP_STEPS, Step, names_of, step_of_task
from pipelines.config.sweep import LATER
from pipelines.graph import images
from pipelines.graph.placement import StepPlacer
from pipelines.resolve.resolved_recipe import ResolvedRecipe
from tests.conftest import ROOT


def test_every_step_is_a_component_of_that_name_in_an_image_that_is_built():
    for step in STEPS.values():
        component = getattr(import_module(f"components.{step.name}.component"), step.name)
        assert component.name == step.name.replace("_", "-")
        assert (ROOT / "images" / images.image_of(step) / "Dockerfile").is_file()
        assert step.name in images.images()[images.image_of(step)].parts


def test_every_section_is_a_key_of_a_recipe_and_a_parameter_of_the_pipeline():
    assert set(SECTIONS) < set(Recipe.model_fields)
    assert set(ResolvedRecipe.model_fields) == {"name", "base_model", *SECTIONS}


def test_a_section_beside_split_and_train_changes_no_trial():
    assert set(SECTIONS) - set(LATER) == {"split", "train"}


def test_kept_files_of_a_run_have_names_of_their_own():
    for steps in (RUN_STEPS, SWEEP_STEPS):
        kept = [name for step in steps for name in step.kept.values()]
        assert len(kept) == len(set(kept))


def test_a_component_in_an_unknown_image_is_named(monkeypatch):
    monkeypatch.setattr(images, "image_of", lambda step: "nowhere")
    images.images.cache_clear()
    try:
        with pytest.raises(RecipeError, match="nowhere"):
            images.images()
    finally:
        images.images.cache_clear()


@pytest.mark.parametrize(
    ("task", "step"), [("train-lora", "train_lora"), ("split-data-2", "split_data"), ("gate", "gate")]
)
def test_a_task_is_of_the_step_whose_name_it_has_without_its_number(task, step):
    assert step_of_task(task) == step


def test_a_step_without_a_description_shows_its_figures_by_name():
    assert Step("new").describe is describe_any
    assert describe_any({"rows": 12.0, "share": 0.123456}) == ["rows 12, share 0.1235"]
    assert describe_any({}) == []


def test_an_evaluation_shows_only_what_was_measured():
    losses = {"base_test_loss": 4.0, "tuned_test_loss": 1.0, "base_test_perplexity": 54.6, "tuned_test_perplexity": 2.7}
    assert describe_evaluation(losses) == ["test: loss 4.0000 → 1.0000 (-75.0 %), perplexity 54.6 → 2.7"]
    assert describe_evaluation({"tuned_seconds_per_answer": 2.5, "tuned_tokens_per_second": 20}) == [
        "2.50 s an answer, 20 tokens/s before quantization"
    ]


def test_quantization_shows_seconds_only_where_prompts_were_answered():
    cost = {"perplexity_increase": 0.05, "kl_divergence": 0.031, "same_top_token": 0.919, "measured_tokens": 3580}
    (line,) = describe_quantization(cost)
    assert "+5.00 %" in line
    assert "91.9 % of 3580" in line
    speed = {"quantized_seconds_per_answer": 1, "quantized_first_token_seconds": 0.2, "n_threads": 2}
    assert len(describe_quantization({**cost, **speed, "quantized_tokens_per_second": 30})) == 2


def test_names_keep_the_order_of_the_steps():
    assert names_of((Step("b"), Step("a"))) == ("b", "a")


def test_what_a_step_keeps_is_an_output_of_its_component():
    for step in STEPS.values():
        component = getattr(import_module(f"components.{step.name}.component"), step.name)
        kept = {output.partition("/")[0] for output in step.kept}
        assert kept <= set(component.component_spec.outputs or {}), step.name


def test_a_step_whose_call_is_forgotten_is_named():
    with pytest.raises(ValueError, match=r"gate: stands in pipelines/config/steps\.py"):
        StepPlacer(None).require_all([Step("gate")])


def test_a_component_without_code_is_named():
    gate = SimpleNamespace(name="gate", component_spec=SimpleNamespace(inputs={"config": None}))
    with pytest.raises(TypeError, match=r"components/gate/component\.py: .*code: str"):
        StepPlacer(None).add(gate, config={})


def test_a_component_of_another_name_is_named(monkeypatch):
    monkeypatch.delattr(import_module("components.gate.component"), "gate")
    with pytest.raises(RecipeError, match=r"components/gate/component\.py: has no component gate"):
        images.image_of(Step("gate"))
