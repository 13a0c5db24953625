"""Where a run ends, which weights it exports, and what a run that is asked again does."""

from __future__ import annotations

from components.artifacts.run_record import read_record
from tests.components.train_lora.training import losses, run, weights


def test_packing_trains_on_every_supervised_token(base, rows, tmp_path):
    record = run(base, rows, tmp_path, packing=True, max_length=256, per_device_train_batch_size=1, max_steps=2)
    assert record.final_eval_loss is not None
    assert (record.peak_memory_bytes or 0) > 100_000_000
    assert record.base_eval_loss is not None
    assert record.final_eval_loss < record.base_eval_loss


def test_the_best_weights_are_exported_when_the_recipe_asks(base, rows, tmp_path, undisturbed):
    record = run(base, rows, tmp_path, checkpoint="best", learning_rate=0.5, max_steps=8)
    assert record.best_step is not None
    assert record.adapter_step == record.best_step
    if record.best_step != record.steps:
        best = next(
            (tmp_path / "checkpoints").glob(f"*/best-{record.best_step}/adapter_model.safetensors")
        ).read_bytes()
        assert weights(tmp_path) == best
    assert record.run_key != read_record(str(undisturbed / "adapter")).run_key


def test_asking_for_the_best_weights_afterwards_trains_nothing_again(base, rows, tmp_path):
    first = run(base, rows, tmp_path)
    again = run(base, rows, tmp_path, checkpoint="best")
    assert again.run_key == first.run_key
    assert again.adapter_step == again.best_step
    best = next((tmp_path / "checkpoints").glob(f"*/best-{again.best_step}/adapter_model.safetensors")).read_bytes()
    assert weights(tmp_path) == best


def test_a_finished_run_asked_again_keeps_its_last_step_and_its_bytes(base, rows, tmp_path):
    """In the middle of an epoch and at a constant rate, where one step more would show."""
    settings = {"max_steps": 3, "lr_scheduler_type": "constant", "warmup_steps": 0, "save_steps": 1}
    first = run(base, rows, tmp_path, **settings)
    before = weights(tmp_path)
    again = run(base, rows, tmp_path, **settings)
    assert weights(tmp_path) == before
    assert (again.steps, again.adapter_step, again.final_eval_loss) == (3, 3, first.final_eval_loss)


def test_early_stopping_ends_after_so_many_validations_without_improvement_and_stays_ended(base, rows, tmp_path):
    settings = {"learning_rate": 0.5, "max_steps": 40, "early_stopping_patience": 2}
    record = run(base, rows, tmp_path, **settings)
    assert record.stopped_by == "early_stopping"
    measured = [loss for _, _, loss in losses(tmp_path) if loss is not None]
    assert min(measured) < min(measured[-2:])
    assert (record.steps, len(measured)) == (2 * (len(measured) - 1), record.steps // 2 + 1)
    before = weights(tmp_path)
    assert run(base, rows, tmp_path, **settings).steps == record.steps
    assert weights(tmp_path) == before


def test_a_run_that_stopped_early_goes_on_with_more_patience_and_ends_as_one_that_never_stopped(base, rows, tmp_path):
    settings = {"learning_rate": 0.5, "max_steps": 8}
    stopped = run(base, rows, tmp_path, **settings, early_stopping_patience=1)
    assert stopped.steps < 8
    assert run(base, rows, tmp_path, **settings).stopped_by == "steps"
    run(base, rows, tmp_path / "whole", **settings)
    assert weights(tmp_path) == weights(tmp_path / "whole")


def test_max_train_minutes_ends_with_a_validation_and_a_checkpoint(base, rows, tmp_path):
    record = run(base, rows, tmp_path, max_steps=100_000, max_train_minutes=0.03, eval_steps=1000, save_steps=1000)
    assert record.stopped_by == "max_train_minutes"
    assert 0 < record.steps < 100_000
    assert record.final_eval_loss is not None
    assert list(tmp_path.glob(f"checkpoints/*/checkpoint-{record.steps}"))


def test_tensorboard_files_hold_the_history_where_the_recipe_asks(base, rows, tmp_path):
    run(base, rows, tmp_path, tensorboard=True)
    files = list(tmp_path.glob("checkpoints/*/tensorboard/events.out.tfevents.*"))
    assert len(files) == 1
    content = files[0].read_bytes()
    assert content.count(b"train/loss") == 6
    assert content.count(b"eval/loss") == 4
