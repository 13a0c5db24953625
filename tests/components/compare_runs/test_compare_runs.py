"""The comparison of runs: what is ranked with what, what may be chance, and which model is chosen."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from components.compare_runs.compare import ComparedSet, Comparison, compare
from components.compare_runs.config import CompareConfig
from components.compare_runs.noise import SeedDeviation, noise_of_evaluations, seed_deviation
from components.compare_runs.report import write_reports
from components.compare_runs.report_table import table_of
from components.compare_runs.run_files import read_run
from components.compare_runs.runs import ComparedAnswer, ComparedRun, Point
from components.compare_runs.table_file import read_table
from components.errors import DataError, ModelError
from tests.conftest import ROOT, run_lorry

PUBLISHED = ROOT / "tests" / "data" / "published-runs.csv"


def a_run(name: str, *losses: float, **given) -> ComparedRun:
    """A run that was validated after 10, 20, … steps, a minute each."""
    curve = [Point(step=10 * i, minutes=float(i), loss=loss) for i, loss in enumerate(losses, start=1)]
    settings = {"learning_rate": 1e-3, "lora_rank": 8, **given.pop("settings", {})}
    known = {"measured_on": "rows", "loss_kind": "validation", "base_model": "base", "data": "chats.jsonl"}
    minutes = float(len(losses))
    return ComparedRun(
        name=name, steps=10 * len(losses), settings=settings, curve=curve, minutes=minutes, **{**known, **given}
    )


def compared(*runs: ComparedRun, **config) -> Comparison:
    return compare(runs, CompareConfig(**config))


def only_set(*runs: ComparedRun, **config) -> ComparedSet:
    (one,) = compared(*runs, **config).sets
    return one


@pytest.fixture(scope="module")
def published() -> Comparison:
    return compare(read_table(PUBLISHED), CompareConfig())


def set_with(comparison: Comparison, run: str) -> ComparedSet:
    return next(one for one in comparison.sets if run in one.runs)


def test_published_improvements_over_the_first_run(published):
    improvements = list(set_with(published, "exp1_baseline_60steps").improvements.values())
    expected = [17.3, 20.0, 23.0, 17.7, 21.7, 18.8, 21.1, 24.3]
    assert [100 * value for value in improvements] == pytest.approx(expected, abs=0.06)


def test_published_grid_is_ranked_by_its_last_validation_loss(published):
    grid = set_with(published, "lr_3e-4_r32")
    ranked = [(one.name, one.loss) for one in grid.ranking if one.name != "baseline_3b"]
    assert ranked == [
        ("lr_3e-4_r32", 0.821687),
        ("grid-1b/lr_3e-4", 0.829798),
        ("grid-1b/baseline", 0.8358),
        ("lr_1e-4", 0.848186),
    ]


def test_published_losses_of_the_second_data_set_are_not_ranked_with_the_first(published):
    first, second = set_with(published, "grid-1b/lr_3e-4"), set_with(published, "grid-1b-second-evaluation/lr_3e-4")
    assert not set(first.runs) & set(second.runs)
    assert {one.name for one in second.ranking} == {
        "grid-1b-second-evaluation/lr_3e-4", "grid-1b-second-evaluation/baseline",
    }  # fmt: skip
    assert second.loss_kind == "test"
    assert any("measured in 3 ways" in warning for warning in published.warnings)


def test_published_effects_hold_every_other_setting(published):
    effects = {(e.setting, e.before, e.after): e for e in set_with(published, "exp1_baseline_60steps").effects}
    assert effects["learning_rate", 0.0001, 0.0005].pairs == [("exp5_lr_1e4", "exp6_lr_5e4")]
    assert effects["max_steps", 500, 1000].mean == pytest.approx(0.9068 / 0.9414 - 1)
    assert effects["lora_rank", 8, 32].mean == pytest.approx(0.9286 / 0.9561 - 1)
    # exp9 changed three settings at once: no effect of one of them can be read off it.
    assert not any("exp9_optimal_combination" in pair for effect in effects.values() for pair in effect.pairs)


def test_published_settings_that_the_table_does_not_tell_have_no_effect(published):
    pairs = [pair for effect in set_with(published, "lr_1e-4").effects for pair in effect.pairs]
    assert pairs == [("lr_1e-4", "grid-1b/lr_3e-4")]


def test_published_training_losses_crown_no_winner(published):
    one = set_with(published, "exp1_baseline_60steps")
    assert "whether its lead over" in one.verdict
    assert "is not known: repeat with other values of train.seed" in one.verdict
    assert any("only training losses are known" in warning for warning in published.warnings)


def test_a_lead_that_is_larger_than_the_scatter_wins():
    one = only_set(a_run("a", 1.0, 0.9, 0.8, 0.7), a_run("b", 1.2, 1.1, 1.0, 0.9))
    assert one.verdict.startswith("a is best with 0.7000: b is 0.2000 behind")
    assert not one.ranking[1].tied


def test_a_lead_within_the_scatter_of_the_last_evaluations_is_no_win():
    one = only_set(a_run("a", 1.0, 0.90, 0.94, 0.89), a_run("b", 1.0, 0.94, 0.90, 0.91))
    assert one.verdict.startswith("No winner: a has the lowest loss, 0.8900, but the lead over b is within the noise")
    assert "from the scatter of the last evaluations" in one.verdict
    assert one.ranking[1].tied


def test_one_evaluation_tells_no_noise():
    assert noise_of_evaluations(a_run("a", 1.0), a_run("b", 2.0)) is None
    assert "is more than noise is not known" in only_set(a_run("a", 1.0), a_run("b", 2.0)).verdict


def test_repeated_seeds_are_one_setting_with_a_mean_and_their_spread_is_the_noise():
    same = [a_run(f"a{seed}", loss, seed=seed) for seed, loss in enumerate((0.80, 0.82, 0.84))]
    near = a_run("near", 0.83, seed=0, settings={"lora_rank": 16})
    far = a_run("far", 0.99, seed=0, settings={"lora_rank": 32})
    one = only_set(*same, near, far)
    first, second, third = one.ranking
    assert (first.name, first.loss, first.runs) == ("a0 (3 seeds)", pytest.approx(0.82), ["a0", "a1", "a2"])
    assert second.noise == pytest.approx(4.303 * 0.02 * (1 / 3 + 1) ** 0.5)  # Student's t, two degrees of freedom
    assert (second.tied, third.tied) == (True, False)
    assert second.noise_source == "repeated seeds"


def test_seed_deviation_pools_over_settings():
    assert seed_deviation([[1.0, 3.0], [5.0, 5.0], [7.0]]) == SeedDeviation(1.0, 2)
    assert seed_deviation([[1.0], [2.0]]) is None


def test_runs_that_differ_in_more_than_their_seed_are_no_repeats():
    same = [a_run("a", 0.80, seed=0, identity="rows 1"), a_run("b", 0.90, seed=1, identity="rows 2")]
    assert len(only_set(*same).ranking) == 2
    twice = [a_run("a", 0.80, seed=0), a_run("again", 0.80, seed=0), a_run("c", 0.81, seed=0, settings={"r": 1})]
    assert "is more than noise is not known" in only_set(*twice).verdict


def test_the_best_of_several_seeds_is_the_one_with_the_lowest_loss():
    one = only_set(a_run("a", 0.9, seed=0), a_run("b", 0.7, seed=1))
    assert one.best == "b"


def test_what_halving_gave_up_is_in_no_effect_and_in_no_sentence():
    early = a_run("early", 1.5, stopped_early=True, settings={"lora_rank": 4})
    one = only_set(a_run("a", 1.0, 0.9, 0.8), early)
    assert one.effects == []
    assert one.verdict == "a is the only run with a loss here: 0.8000."


def test_losses_on_other_tokens_are_ranked_apart():
    comparison = compared(a_run("a", 1.0), a_run("b", 0.5, measured_on="other rows"))
    assert [one.runs for one in comparison.sets] == [["a"], ["b"]]
    assert "ranked separately; lorry report --each-on-each measures every model" in comparison.warnings[0]


def test_minutes_of_different_hardware_are_warned_of():
    told = compared(a_run("a", 1.0, hardware="1 x T4"), a_run("b", 0.5, hardware="1 x A100")).warnings
    assert told == ["Minutes and tokens/s are of different hardware and do not compare: 1 x A100; 1 x T4."]
    assert compared(a_run("a", 1.0, hardware="1 x T4"), a_run("b", 0.5, hardware="1 x T4")).warnings == []


def test_at_equal_minutes_a_run_counts_as_far_as_it_came():
    slow, fast = a_run("slow", 1.0, 0.9, 0.5), a_run("fast", 0.8, 0.7)
    assert [one.name for one in only_set(slow, fast).ranking] == ["slow", "fast"]
    ranking = only_set(slow, fast, at_minutes=2.0).ranking
    assert [(one.name, one.loss) for one in ranking] == [("fast", 0.7), ("slow", 0.9)]
    assert only_set(slow, fast, at_minutes=0.5).verdict == "No run has a loss to rank."
    early = a_run("early", 0.4, stopped_early=True)
    (equal,) = compare([slow, fast, early], CompareConfig(equal_minutes=True)).sets
    assert [(one.name, one.loss) for one in equal.ranking][:2] == [("fast", 0.7), ("slow", 0.9)]


def test_a_failed_run_is_a_row_with_its_reason_and_never_ranked():
    failed = a_run("hot", 9.0, status="diverged", reason="training diverged: the loss is nan at step 3")
    comparison = compared(a_run("a", 1.0), failed)
    headings, rows = table_of(comparison, comparison.sets[0])
    assert rows[1][headings.index("outcome")] == "diverged"
    assert rows[1][headings.index("loss")] == ""
    assert [one.name for one in comparison.sets[0].ranking] == ["a"]
    assert comparison.warnings == ["hot: training diverged: the loss is nan at step 3"]


def test_a_trial_that_was_not_continued_stands_behind_those_that_were():
    early = a_run("early", 0.5, stopped_early=True)
    assert [one.name for one in only_set(early, a_run("late", 0.9, 0.8)).ranking] == ["late", "early"]


def timed(name: str, loss: float, seconds: float, **given) -> ComparedRun:
    return a_run(name, loss, figures={"quantized_seconds_per_answer": seconds}, **given)


def test_the_best_model_within_the_seconds_is_chosen_with_the_reason():
    choice = compared(timed("1b", 0.82, 28.8), timed("3b", 0.70, 84.2), max_seconds_per_answer=30).choice
    assert choice.name == "1b"
    assert choice.reason == "Only 1b answers within 30 s, in 28.8 s on average. Too slow: 3b (84.2 s)."
    choice = compared(timed("1b", 0.82, 28.8), timed("3b", 0.70, 84.2), max_seconds_per_answer=100).choice
    assert choice.name == "3b"
    assert "3b has the lowest loss (0.7000) of the 2 models that answer within 100 s" in choice.reason


def test_no_model_is_chosen_where_none_is_in_time_or_quality_does_not_compare():
    assert compared(timed("3b", 0.7, 84.2), max_seconds_per_answer=1).choice.name is None
    apart = compared(timed("a", 0.7, 1.0), timed("b", 0.8, 1.0, measured_on="other"), max_seconds_per_answer=9).choice
    assert (apart.name, "do not compare: measure every model" in apart.reason) == (None, True)
    untimed = compared(a_run("a", 1.0), max_seconds_per_answer=9).choice
    assert "No run has timed answers" in untimed.reason


def test_losses_of_each_on_each_make_models_of_different_rows_comparable():
    runs = [timed("a", 0.7, 1.0), timed("b", 0.8, 1.0, measured_on="other")]
    matrix = {"a": {"a": 0.7, "b": 1.5}, "b": {"a": 0.9, "b": 0.8}}
    choice = compare(runs, CompareConfig(max_seconds_per_answer=9), matrix).choice
    assert (choice.name, "(0.8500)" in choice.reason) == ("b", True)


def test_the_reports_say_the_same_and_escape_what_models_say(tmp_path):
    answers = [
        ComparedAnswer(prompt="p", turn="Hi?", model=model, text="<b>bold</b>", seconds=2.0, n_tokens=8)
        for model in ("base", "tuned", "f16", "quantized")
    ]
    runs = [a_run("one|two", 0.9, answers=answers), a_run("b", 0.8, answers=answers, recipe={"name": "b", "train": {}})]
    made = write_reports(compared(*runs), tmp_path)
    assert {path.name for path in made.values()} == {
        "report.html", "report.md", "curves.png", "comparison.json", "best-recipe.yaml",
    }  # fmt: skip
    page, markdown = made["report.html"].read_text(), made["report.md"].read_text()
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "base, untuned" in page  # the base that both share stands once
    assert page.count("one|two, tuned") == 2  # a column, and a line of the averages
    assert r"| one\|two |" in markdown
    assert "| base, untuned | 1 | 2.00 | 4.0 |" in markdown
    assert made["curves.png"].read_bytes().startswith(b"\x89PNG")
    assert Comparison.model_validate_json(made["comparison.json"].read_bytes()) == compared(*runs)
    assert not re.search(r"(src|href)=\"http", page)


def test_a_finished_run_is_read_from_its_folder(tiny_run):
    run = read_run(tiny_run.run_folder)
    record = json.loads((tiny_run.run_folder / "run.json").read_text())
    assert run.loss == pytest.approx(record["final_eval_loss"])
    assert [point.step for point in run.measured] == [3, 6]
    assert (run.base_loss, run.steps) == (record["base_eval_loss"], 6)
    assert run.data.endswith("data.jsonl")
    assert run.figures["size_bytes"] == tiny_run.model.stat().st_size
    assert run.recipe["train"]["lora_rank"] == 4


def test_a_folder_without_a_record_says_so(tmp_path):
    with pytest.raises(ModelError, match=r"holds no run\.json, so no training was finished there; give a folder of"):
        read_run(tmp_path)
    with pytest.raises(ModelError, match="no such run folder"):
        read_run(tmp_path / "nowhere")


def test_a_run_of_another_schema_version_says_which(tiny_run, tmp_path):
    folder = Path(shutil.copytree(tiny_run.run_folder, tmp_path / "run"))
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "schema_version": 1}))
    with pytest.raises(ModelError, match="schema version 1, and this version of Lorry reads 2; train again"):
        read_run(folder)
    (folder / "run.json").write_text("{")
    with pytest.raises(ModelError, match=r"run\.json: cannot be read"):
        read_run(folder)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,loss\na,1\n", "has no column 'run'; its first line must name the columns: group, run"),
        ("run,los\na,1\n", "unknown column 'los'; known are"),
        (
            "run,validation_loss\na,low\n",
            "line 2: validation_loss = 'low' is not a number; correct it, or",
        ),
        ("run,validation_loss\n", "holds no runs; add a line per run"),
        ("run,validation_loss\na,0\n", "line 2: validation_loss = 0: a loss is above 0; correct it"),
        ("run,step\na,inf\n", "line 2: step = 'inf' is not a number"),
        ("run,step\na,1,2\n", "line 2: has more cells than columns; correct it"),
        ("run,step\n,1\n", "line 2: names no run; correct it"),
        ("run,run\na,b\n", "has the column 'run' twice; leave one out"),
    ],
)
def test_a_table_that_cannot_be_read_says_where(tmp_path, text, told):
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(DataError, match=re.escape(told)):
        read_table(tmp_path / "runs.csv")


def test_a_table_in_another_encoding_is_said(tmp_path):
    (tmp_path / "runs.csv").write_bytes("run\nBärchen\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"runs\.csv: not a CSV table in UTF-8 \(.*\); save it as one"):
        read_table(tmp_path / "runs.csv")


def test_step_0_of_a_table_is_not_the_end_of_a_run(tmp_path):
    (tmp_path / "runs.csv").write_text("run,max_steps,step,validation_loss\na,100,100,1.1\na,100,50,1.5\na,100,0,3.3\n")
    (run,) = read_table(tmp_path / "runs.csv")
    assert (run.loss, run.steps, len(run.curve)) == (1.1, 100, 2)


@pytest.mark.parametrize(
    ("file", "content"),
    [("history.jsonl", '{"step": 1'), ("history.jsonl", "[]"), ("trial.json", "{}"), ("figures.json", "[1]")],
)
def test_a_file_of_a_run_that_was_cut_is_named(tiny_run, tmp_path, file, content):
    folder = Path(shutil.copytree(tiny_run.run_folder, tmp_path / "run"))
    (folder / file).write_text(content)
    with pytest.raises(
        ModelError, match=rf"{file}: cannot be read \(.*\); it was cut or changed: run the recipe again"
    ):
        read_run(folder)


def test_nothing_and_twice_the_same_are_errors():
    with pytest.raises(ModelError, match="no runs to compare"):
        compared()
    with pytest.raises(ModelError, match="two runs are named 'a'"):
        compared(a_run("a", 1.0), a_run("a", 2.0))


def test_lorry_report_compares_folders_and_tables(tiny_run, tmp_path):
    done = run_lorry("report", tiny_run.run_folder, PUBLISHED, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "exp9_optimal_combination" in done.stdout
    assert tiny_run.run_folder.name in (tmp_path / "out" / "report.md").read_text()
    refused = run_lorry("report", tmp_path, "-o", tmp_path / "out")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: {tmp_path}: holds no run.json")


def test_lorry_report_measures_each_model_on_each_validation_set(tiny_run, tmp_path):
    done = run_lorry("report", tiny_run.run_folder, "--each-on-each", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    matrix = json.loads((tmp_path / "out" / "comparison.json").read_text())["each_on_each"]
    name = tiny_run.run_folder.name
    record = json.loads((tiny_run.run_folder / "run.json").read_text())
    assert matrix == {name: {name: pytest.approx(record["final_eval_loss"], rel=1e-5)}}
    refused = run_lorry("report", PUBLISHED, "--each-on-each", "-o", tmp_path / "out")
    assert "--each-on-each needs the adapter and the rows of a whole run" in refused.stderr
