"""Every pipeline document that Lorry compiles passes each parameter a value of the type that it declares."""

from pathlib import Path

import pytest
from kfp import components, dsl
from kfp.compiler import Compiler

from components.artifacts.contracts import BaseModelRef
from components.promote_trials.config import HalvingConfig
from pipelines.config.recipe import RECIPES, Recipe, load_recipe
from pipelines.config.sweep import load_sweep
from pipelines.graph.finetune import compile_finetune
from pipelines.graph.placement import CHECKPOINTS
from pipelines.graph.sweep import compile_sweep
from pipelines.resolve import trials
from pipelines.resolve.resolved_recipe import ResolvedRecipe
from tests.conftest import ROOT
from tests.pipelines.cluster.kubeflow_driver import mismatches

SHIPPED = [*sorted(RECIPES.glob("*.yaml")), ROOT / "tests" / "data" / "tiny.yaml"]
SWEEPS = sorted((RECIPES / "sweeps").glob("*.yaml"))


def pinned(recipe: Recipe) -> ResolvedRecipe:
    """The recipe with a base model that nobody looked up: no hub is here, and the types are the same."""
    base = BaseModelRef(address=recipe.base_model, revision="0" * 40, weight_bytes=1)
    sections = ("name", "split", "train", "evaluate", "export", "evaluate_gguf", "gate", "publish")
    return ResolvedRecipe(base_model=base, **{name: getattr(recipe, name) for name in sections})


@pytest.mark.parametrize("on_a_cluster", [False, True], ids=["here", "on a cluster"])
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_recipes_document_passes_what_each_step_declares(path, on_a_cluster, tmp_path):
    recipe = load_recipe(path)
    document = tmp_path / "finetune.yaml"
    measures = recipe.split.quality.measures_perplexity
    compile_finetune(document, recipe.placement if on_a_cluster else None, split_with_model=measures)
    assert mismatches(document, pinned(recipe).arguments(CHECKPOINTS), {}) == []
    assert components.load_component_from_file(str(document)).component_spec.name == "finetune"


@pytest.mark.parametrize("rungs", [1, 2, 3])
@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweeps_document_passes_what_each_step_declares(path, rungs, tmp_path, monkeypatch):
    loaded = load_sweep(path)
    monkeypatch.setattr(trials, "resolve", lambda recipe, *_: pinned(recipe))
    resolved = trials.resolve_sweep(
        loaded, tmp_path, print, check_bases=lambda uses: None, relocate=lambda recipe: recipe
    )
    fractions = [1.0] if rungs == 1 else HalvingConfig(rungs=rungs).fractions
    document = tmp_path / "sweep.yaml"
    compile_sweep(document, fractions, placement=loaded.base.placement, split_with_model=resolved.split_with_model)
    # Both give items of the trials.
    outputs = dict.fromkeys(("promote-trials", "compare-runs"), resolved.trials)
    assert mismatches(document, resolved.arguments(CHECKPOINTS), outputs) == []
    assert components.load_component_from_file(str(document)).component_spec.name == "sweep"


def test_the_walk_finds_what_a_real_driver_refused(tmp_path):
    """The item of a loop over ``list`` arrives as text; so ended the first sweep on a real Kubeflow."""

    @dsl.component(base_image="lorry/data")
    def takes(config: dict, rank: int) -> None:
        """Nothing."""

    def document(name: str, of: type) -> Path:
        @dsl.pipeline(name=name)
        def loops(splits: of) -> None:
            with dsl.ParallelFor(splits) as split:
                takes(config=split, rank=split.rank)

        Compiler().compile(loops, str(tmp_path / f"{name}.yaml"))
        return tmp_path / f"{name}.yaml"

    right, wrong = {"splits": [{"rank": 4}]}, {"splits": [{"rank": "4"}]}
    refused = "root/for-loop-1[0]/takes: input parameter config type mismatch: expect STRUCT, got str"
    assert mismatches(document("plain", list), right, {}) == [refused]
    assert mismatches(document("typed", list[dict]), right, {}) == []
    (told,) = mismatches(document("typed", list[dict]), wrong, {})
    assert told.endswith("input parameter rank type mismatch: expect NUMBER_INTEGER, got str")
    (told,) = mismatches(document("typed", list[dict]), {"splits": "[]"}, {})[:1]
    assert told == "root: input parameter splits type mismatch: expect LIST, got str"
