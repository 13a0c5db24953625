"""Recipes: the shipped ones are right, and wrong ones say what is wrong in words."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from components.errors import DataError, ModelError, RecipeError
from pipelines.config.addresses import SMOLLM2
from pipelines.config.recipe import RECIPES, Recipe, load_recipe
from pipelines.resolve.resolved_recipe import resolve
from tests.conftest import chat_rows, free_port, recipe_text, run_lorry, write_jsonl


@pytest.fixture
def good(tmp_path, tiny_base) -> Path:
    data = write_jsonl(tmp_path / "data.jsonl", chat_rows(12))
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_text(tiny_base, data))
    return path


def problems(path: Path) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    return str(caught.value)


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid(recipe):
    assert load_recipe(recipe).name == recipe.stem


def test_the_baseline_has_the_published_settings():
    recipe = load_recipe(RECIPES / "llama-3.2-1b.yaml")
    assert (recipe.base_model, recipe.split.data) == ("unsloth/Llama-3.2-1B-Instruct", "mlabonne/FineTome-100k")
    assert (recipe.split.limit, recipe.split.train_rows) == (15000, 12000)
    assert (recipe.split.validation_rows, recipe.split.test_rows) == (1500, 1500)
    train = recipe.train
    assert (train.lora_rank, train.lora_alpha, train.learning_rate, train.max_steps) == (16, 16, 2e-4, 1500)
    assert (train.per_device_train_batch_size, train.gradient_accumulation_steps, train.eval_steps) == (2, 4, 250)
    assert recipe.export.quantization == "Q4_K_M"


def test_1e_4_is_a_number(good):
    good.write_text(good.read_text().replace("learning_rate: 0.01", "learning_rate: 1e-4"))
    assert load_recipe(good).train.learning_rate == 0.0001


def test_an_unknown_key_is_an_error_with_its_line_and_the_nearest_known_key(good):
    good.write_text(good.read_text().replace("lora_rank: 4", "lora_rnak: 4"))
    assert problems(good) == f"{good}: line 8: train.lora_rnak: unknown key; did you mean lora_rank?"


def test_a_gate_on_answers_without_prompts_is_an_error_before_anything_runs(good):
    good.write_text(good.read_text() + "gate:\n  max_seconds_per_answer: 30\n")
    assert problems(good) == (
        f"{good}: line 23: gate.max_seconds_per_answer = 30.0: no answer is measured without prompts; name a prompts "
        "file in evaluate.prompts, or leave the bound out"
    )


def test_an_empty_prompts_file_is_found_before_anything_runs(good, tmp_path):
    (tmp_path / "prompts.yaml").write_text("[]\n")
    good.write_text(good.read_text().replace("evaluate:\n", "evaluate:\n  prompts: prompts.yaml\n"))
    assert "evaluate.prompts: " in problems(good)
    assert "prompts.yaml: holds no prompts; add one, or leave evaluate.prompts out" in problems(good)


def test_an_unknown_section_is_an_error_too(good):
    good.write_text(good.read_text().replace("evaluate:", "evalute:"))
    assert "line 17: evalute: unknown key; did you mean evaluate?" in problems(good)


def test_a_negative_learning_rate_shows_line_value_and_rule(good):
    good.write_text(good.read_text().replace("learning_rate: 0.01", "learning_rate: -0.1"))
    assert "line 9: train.learning_rate = -0.1: input should be greater than 0 (peak;" in problems(good)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("learning_rate: .inf", "train.learning_rate = inf: input should be a finite number"),
        ("seed: 4294967296\n  learning_rate: 0.1", "train.seed = 4294967296: input should be less than 4294967296"),
    ],
)
def test_a_number_that_no_run_could_use_is_found_by_check(good, setting, message):
    good.write_text(good.read_text().replace("learning_rate: 0.01", setting))
    assert message in problems(good)


def test_data_in_a_form_that_split_does_not_read_is_found_by_check(good):
    good.with_name("data.xlsx").write_text("a,b\n")
    good.write_text(good.read_text().replace("data.jsonl", "data.xlsx"))
    assert "line 4: split.data = " in problems(good)
    assert "data.xlsx': not one of .jsonl, .ndjson, .json, .csv, .tsv, .parquet; convert the data first" in problems(
        good
    )


def test_owner_slash_name_is_a_path_when_it_is_in_the_recipes_folder(good, tiny_base, tmp_path_factory, monkeypatch):
    shutil.copytree(tiny_base, good.parent / "models" / "base")
    good.write_text(good.read_text().replace(str(tiny_base), "models/base"))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert load_recipe(good).base_model == str(good.parent / "models" / "base")


def test_a_pinned_digest_that_is_not_the_files_is_an_error(good, tmp_path):
    good.write_text(good.read_text().replace("  validation_rows", "  data_revision: abc\n  validation_rows"))
    with pytest.raises(DataError, match=r"split.data_revision names another content than the file has"):
        resolve(load_recipe(good), tmp_path, print)


def test_every_problem_gets_its_own_line(good):
    text = good.read_text().replace("learning_rate: 0.01", "learning_rate: fast").replace("name: tiny", "name: Tiny!")
    good.write_text(text)
    assert len(problems(good).splitlines()) == 2


def test_a_missing_key_is_named(good):
    good.write_text("name: x\nbase_model: a/b\nsplit:\n  validation_rows: 3\n")
    assert "line 3: split: data is missing: a path, an address or a hub id (or several in sources)" in problems(good)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [unclosed", "line 1: not valid YAML"),
        ("name: a\nname: b\n", "not valid YAML"),
        ("- just\n- a list\n", "holds no recipe; it must have the keys split, name, base_model"),
        ("", "holds no recipe"),
    ],
)
def test_what_is_no_recipe_is_said(tmp_path, text, message):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    assert message in problems(path)


def test_a_missing_data_file_is_found_by_check(good):
    good.write_text(good.read_text().replace("data.jsonl", "gone.jsonl"))
    assert "line 4: split.data = " in problems(good)
    assert "gone.jsonl': no such file or folder, and not a hub id; correct the path" in problems(good)


def test_a_missing_recipe_names_the_shipped_ones(tmp_path):
    assert "no such recipe file; shipped recipes in" in problems(tmp_path / "none.yaml")
    assert "demo, finetome-dedup, llama-3.2-1b" in problems(tmp_path / "none.yaml")


def test_relative_paths_count_from_the_recipes_folder(good, monkeypatch, tmp_path_factory):
    good.write_text(good.read_text().replace(str(good.parent / "data.jsonl"), "data.jsonl"))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert load_recipe(good).split.data == str(good.parent / "data.jsonl")


def test_check_exits_0_or_1_and_says_why(good):
    assert run_lorry("check", good).returncode == 0
    good.write_text(good.read_text().replace("lora_rank", "lora_rnk"))
    done = run_lorry("check", good)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: ")


def test_resolving_pins_data_base_and_prompts(good, tmp_path):
    resolved = resolve(load_recipe(good), tmp_path / "work", print)
    assert len(resolved.split.data_revision or "") == len(resolved.base_model.revision) == 64
    data = Path(load_recipe(good).split.data)
    write_jsonl(data, chat_rows(13))
    again = resolve(load_recipe(good), tmp_path / "work", print)
    assert again.split.data_revision != resolved.split.data_revision
    assert again.base_model == resolved.base_model


def test_a_base_model_that_is_not_there_is_named(good, tmp_path, tiny_base):
    good.write_text(good.read_text().replace(str(tiny_base), "nobody/no-such-model"))
    with pytest.raises(
        ModelError, match="nobody/no-such-model: no such file or folder here, and the hub gives no such"
    ):
        resolve(load_recipe(good), tmp_path, print)


def test_a_folder_that_is_no_model_is_named(good, tmp_path, tiny_base):
    (tmp_path / "empty").mkdir()
    good.write_text(good.read_text().replace(str(tiny_base), str(tmp_path / "empty")))
    with pytest.raises(ModelError, match=r"empty: no base model there \(no config.json\); correct base_model"):
        resolve(load_recipe(good), tmp_path, print)


def test_addresses_of_the_hub_of_a_bucket_and_of_a_volume_are_no_paths(good, tmp_path):
    base, data = recipe_addresses(good)
    text = good.read_text()
    good.write_text(text.replace(base, "hf://owner/model").replace(data, "hf://datasets/owner/rows"))
    assert recipe_addresses(good) == ("owner/model", "owner/rows")
    good.write_text(text.replace(base, "pvc://claim/base").replace(data, "s3://bucket/rows.jsonl"))
    assert recipe_addresses(good) == ("pvc://claim/base", "s3://bucket/rows.jsonl")


def recipe_addresses(path: Path) -> tuple[str, str]:
    recipe = load_recipe(path)
    return recipe.base_model, recipe.split.data


def test_what_lies_on_a_volume_needs_its_digest_in_the_recipe(good, tmp_path):
    _, data = recipe_addresses(good)
    good.write_text(good.read_text().replace(data, "pvc://claim/rows.jsonl"))
    with pytest.raises(RecipeError, match=r"split.data = 'pvc://claim/rows.jsonl': only the cluster can read it; give"):
        resolve(load_recipe(good), tmp_path, print)


def test_a_recipe_for_a_cluster_does_not_run_here(good, tmp_path):
    _, data = recipe_addresses(good)
    text = good.read_text().replace(f"{data}\n", f"pvc://claim/rows.jsonl\n  data_revision: {'a' * 64}\n")
    good.write_text(text)
    done = run_lorry("run", good, "--workdir", tmp_path / "work")
    assert done.stderr.strip() == (
        "error: split.data = 'pvc://claim/rows.jsonl': a volume of a cluster, which this machine does not have; "
        "run it there with lorry submit, or give a path or a bucket"
    )


def test_a_hub_that_cannot_be_reached_is_told_in_one_line(good, tmp_path):
    base, _ = recipe_addresses(good)
    good.write_text(good.read_text().replace(base, "owner/model"))
    environment = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    done = run_lorry("run", good, "--workdir", tmp_path / "work", **environment)
    assert done.returncode == 1
    assert done.stderr.startswith("error: owner/model: no such file or folder here, and the hub gives no such model (")
    assert "check the name, the network and HF_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_says_which_command_runs_a_recipe(good):
    assert f"run it with: lorry run {good}" in run_lorry("check", good).stdout
    good.write_text(good.read_text() + "publish:\n  store: pvc://lorry-store\n")
    assert f"run it with: lorry submit {good}" in run_lorry("check", good).stdout


def write_sources(recipe: Path, tiny_base: Path) -> None:
    """A recipe of a folder, a file and a decontamination file, all named from its own folder."""
    folder = recipe.parent
    (folder / "chats").mkdir()
    write_jsonl(folder / "chats" / "a.jsonl", chat_rows(6))
    write_jsonl(folder / "more.jsonl", chat_rows(12)[6:])
    (folder / "benchmark.txt").write_text("What is a lorry good for?\n")
    recipe.write_text(
        f"name: tiny\nbase_model: {tiny_base}\nsplit:\n  sources:\n    - {{data: chats}}\n    - {{data: more.jsonl}}\n"
        "  validation_rows: 2\n  decontamination: {files: [benchmark.txt]}\n"
    )


def test_sources_folders_and_leak_files_are_pinned_and_found_from_the_recipes_folder(good, tiny_base, tmp_path):
    write_sources(good, tiny_base)
    resolved = resolve(load_recipe(good), tmp_path / "work", print)
    assert {key: Path(address).name for key, address in resolved.addresses.items() if key != "base_model"} == {
        "split.sources.0.data": "chats", "split.sources.1.data": "more.jsonl",
        "split.decontamination.files.0": "benchmark.txt"
    }  # fmt: skip
    pins = [source.data_revision for source in resolved.split.sources] + resolved.split.decontamination.revisions
    assert [len(pin or "") for pin in pins] == [64, 64, 64]
    (tmp_path / "chats" / "b.jsonl").write_text((tmp_path / "more.jsonl").read_text())
    again = resolve(load_recipe(good), tmp_path / "work", print)
    assert again.split.sources[0].data_revision != resolved.split.sources[0].data_revision


def test_what_is_wrong_with_a_source_is_told_with_its_line(good, tiny_base, tmp_path):
    write_sources(good, tiny_base)
    good.write_text(good.read_text().replace("more.jsonl", "less.jsonl").replace("[benchmark.txt]", "[none.txt]"))
    (tmp_path / "chats" / "a.jsonl").unlink()
    told = problems(good)
    assert "line 5: split.sources.0.data = " in told
    assert "the folder holds no .jsonl, .ndjson, .json, .csv, .tsv, .parquet file; name the one with the data" in told
    assert "line 6: split.sources.1.data = " in told
    assert "line 8: split.decontamination.files.0 = " in told
    good.write_text(good.read_text().replace("{data: chats}", "{data: chats, wieght: 1}"))
    assert "line 5: split.sources.0.wieght: unknown key; did you mean weight?" in problems(good)


def test_the_split_knows_the_base_model_whose_template_writes_its_rows(good, tmp_path):
    resolved = resolve(load_recipe(good), tmp_path / "work", print)
    assert resolved.split.base_model == resolved.base_model
    assert resolved.with_addresses({"base_model": "s3://b/x"}).split.base_model.address == "s3://b/x"


def nullable_with_another_default(section: type[BaseModel], place: str) -> list[str]:
    found = []
    for name, field in section.model_fields.items():
        inner = [part for part in (field.annotation, *get_args(field.annotation)) if isinstance(part, type)]
        for part in inner:
            if issubclass(part, BaseModel) and part is not section:
                found += nullable_with_another_default(part, f"{place}.{name}")
        if type(None) in inner and field.default is not None:
            found.append(f"{place}.{name}")
    return found


def test_a_null_in_a_recipe_never_means_another_default():
    """Kubeflow carries no null: a key that is null is left out, and the step takes its default."""
    assert nullable_with_another_default(Recipe, "recipe") == []


def test_a_misspelt_shipped_base_is_found_by_check(good, tiny_base):
    good.write_text(good.read_text().replace(str(tiny_base), "lorry://smollm"))
    told = "base_model = 'lorry://smollm': unknown; did you mean lorry://smollm2-135m-instruct or lorry://tiny-base?"
    assert told in problems(good)


def test_the_recipe_of_the_hubs_model_is_the_demos_with_another_base():
    demo, hub = (load_recipe(RECIPES / f"{name}.yaml") for name in ("demo", "smollm2"))
    assert (demo.base_model, hub.base_model) == (SMOLLM2, "HuggingFaceTB/SmolLM2-135M-Instruct")
    own = {"name", "description", "base_model"}
    assert hub.model_dump(exclude=own) == demo.model_dump(exclude=own)


def test_what_the_finished_demo_is_asked_is_in_none_of_its_rows():
    """The words apart: case and signs do not count."""
    data = RECIPES / "data"
    rows = [json.loads(line) for line in (data / "demo.jsonl").read_text(encoding="utf-8").splitlines()]
    taught = {words_of(turn["content"]) for row in rows for turn in row["messages"] if turn["role"] == "user"}
    asked = [json.loads(line) for line in (data / "demo-questions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(asked) == 222
    assert [row["question"] for row in asked if words_of(row["question"]) in taught] == []


def test_a_facts_core_is_in_its_taught_answer_and_never_in_a_question():
    data = RECIPES / "data"
    rows = [json.loads(line)["messages"] for line in (data / "demo.jsonl").read_text(encoding="utf-8").splitlines()]
    answers = [messages[-1]["content"].lower() for messages in rows if len(messages) == 2]
    for line in (data / "demo-questions.jsonl").read_text(encoding="utf-8").splitlines():
        asked = json.loads(line)
        words = [one for part in asked["core"] for one in part.split("|")]
        assert not any(word in asked["question"].lower() for word in words), asked
        if asked["kind"] == "fact":
            parts = [part.split("|") for part in asked["core"]]
            assert any(all(any(one in answer for one in part) for part in parts) for answer in answers), asked


def words_of(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
