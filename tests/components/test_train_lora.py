"""Training: two real steps of a tiny model, what is supervised, and runs that die and come back."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import set_seed

from components.base_model import folder_revision, load_tokenizer, load_weights
from components.chat_template import template_of, tokenize_conversation
from components.contracts import BaseModelRef, RunRecord
from components.errors import BusyError, DataError, LorryError, ModelError
from components.rows import read_rows, write_rows
from components.run_record import read_record
from components.token_loss import Example, token_loss
from components.train_lora import checkpoints
from components.train_lora.config import TrainConfig
from components.train_lora.train import train
from tests.conftest import ROOT, demo_rows, split_rows

SETTINGS = {
    "lora_rank": 4,
    "learning_rate": 0.01,
    "warmup_steps": 1,
    "max_steps": 6,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_length": 96,
    "eval_steps": 2,
    "save_steps": 2,
    "logging_steps": 1,
}


@pytest.fixture(scope="module")
def base(tiny_base) -> BaseModelRef:
    return BaseModelRef(address=str(tiny_base), revision=folder_revision(tiny_base), weight_bytes=0)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    """A folder with ``train`` and ``validation``."""
    folder = tmp_path_factory.mktemp("rows")
    split_rows(folder, demo_rows(24), validation_rows=4)
    return folder


def run(base: BaseModelRef, rows: Path, folder: Path, **settings: Any) -> RunRecord:
    return train(
        TrainConfig.model_validate({**SETTINGS, **settings}),
        base,
        code="test",
        checkpoint_root=str(folder / "checkpoints"),
        train_path=str(rows / "train"),
        validation_path=str(rows / "validation"),
        adapter_path=str(folder / "adapter"),
    )


def weights(folder: Path) -> bytes:
    return (folder / "adapter" / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def undisturbed(base, rows, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(base, rows, folder)
    return folder


def test_a_run_leaves_adapter_tokenizer_history_and_record(undisturbed):
    names = {path.name for path in (undisturbed / "adapter").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "history.jsonl", "run.json"} <= names
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pkl"))}
    record = read_record(str(undisturbed / "adapter"))
    assert (record.steps, record.adapter_step, record.train_rows, record.skipped_rows) == (6, 6, 20, 0)
    assert 0 < record.trainable_parameters < record.total_parameters
    assert record.final_eval_loss is not None
    assert record.base_eval_loss is not None
    assert record.best_eval_loss is not None
    assert record.best_eval_loss <= record.final_eval_loss


def test_the_history_has_every_step_with_loss_rate_and_validation(undisturbed):
    entries = [json.loads(line) for line in (undisturbed / "adapter" / "history.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    assert [entry["step"] for entry in entries if "eval_loss" in entry] == [0, 2, 4, 6]
    assert all(entry["tokens_per_second"] > 0 for entry in entries if "loss" in entry)


def test_lora_is_on_every_linear_layer_and_on_nothing_else(undisturbed):
    config = json.loads((undisturbed / "adapter" / "adapter_config.json").read_text())
    linear = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.rpartition(".")[2] for name in config["target_modules"]} == linear
    assert config["modules_to_save"] is None


def test_the_validation_loss_is_the_mean_over_supervised_tokens(base, rows):
    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, "")
    model = load_weights(base, torch.float32)
    examples = [
        Example(*tokenize_conversation(tokenizer, template, row.messages))
        for row in read_rows(str(rows / "validation"))
    ]
    total, n_tokens = 0.0, 0
    for example in examples:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([example.input_ids])).logits[0, :-1].log_softmax(-1)
        for position, label in enumerate(example.labels[1:]):
            if label != -100:
                total -= logits[position, label].item()
                n_tokens += 1
    measured = token_loss(model, examples, batch_size=3, pad_token_id=tokenizer.pad_token_id)
    assert measured.n_tokens == n_tokens == sum(example.n_supervised for example in examples)
    assert measured.loss == pytest.approx(total / n_tokens, rel=1e-5)


def test_only_supervised_tokens_move_the_weights(base, rows, tmp_path):
    """Other words of the user give other bytes; the loss at step 1 counts the assistant's tokens alone."""
    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, "")
    set_seed(0)
    model = load_weights(base, torch.float32)
    examples = [
        Example(*tokenize_conversation(tokenizer, template, row.messages)) for row in read_rows(str(rows / "train"))
    ]
    longest = max(len(example.input_ids) for example in examples)
    run(
        base,
        rows,
        tmp_path,
        max_steps=1,
        per_device_train_batch_size=20,
        gradient_accumulation_steps=1,
        max_length=longest,
    )
    history = [json.loads(line) for line in (tmp_path / "adapter" / "history.jsonl").read_text().splitlines()]
    expected = token_loss(model, examples, batch_size=4, pad_token_id=tokenizer.pad_token_id).loss
    assert next(entry["loss"] for entry in history if "loss" in entry) == pytest.approx(expected, rel=1e-3)


def test_packing_shows_no_row_to_another(base, rows):
    """Rows packed as the trainer packs them have the logits that each has alone."""
    tokenizer = load_tokenizer(base)
    template = template_of(tokenizer, "")
    model = load_weights(base, torch.float32).eval()
    ids = [tokenize_conversation(tokenizer, template, row.messages)[0] for row in read_rows(str(rows / "train"))[:3]]
    positions = [position for row in ids for position in range(len(row))]
    with torch.no_grad():
        packed = model(
            input_ids=torch.tensor([[token for row in ids for token in row]]),
            position_ids=torch.tensor([positions]),
            use_cache=False,
        ).logits[0]
        alone = torch.cat([model(input_ids=torch.tensor([row]), use_cache=False).logits[0] for row in ids])
    assert (packed - alone).abs().max() < 1e-4


def test_packing_trains_on_every_supervised_token(base, rows, tmp_path):
    record = run(base, rows, tmp_path, packing=True, max_length=256, per_device_train_batch_size=1, max_steps=2)
    assert record.final_eval_loss is not None
    assert record.base_eval_loss is not None
    assert record.final_eval_loss < record.base_eval_loss


def test_the_best_weights_are_exported_when_the_recipe_asks(base, rows, tmp_path, undisturbed):
    record = run(base, rows, tmp_path, checkpoint="best", learning_rate=0.5, max_steps=8)
    assert record.best_step is not None
    assert record.adapter_step == record.best_step
    if record.best_step != record.steps:
        best = next((tmp_path / "checkpoints").glob("*/best/adapter_model.safetensors")).read_bytes()
        assert weights(tmp_path) == best
    assert record.run_key != read_record(str(undisturbed / "adapter")).run_key


def test_asking_for_the_best_weights_afterwards_trains_nothing_again(base, rows, tmp_path):
    first = run(base, rows, tmp_path)
    again = run(base, rows, tmp_path, checkpoint="best")
    assert again.run_key == first.run_key
    assert again.adapter_step == again.best_step
    best = next((tmp_path / "checkpoints").glob("*/best/adapter_model.safetensors")).read_bytes()
    assert weights(tmp_path) == best


def test_a_finished_run_asked_again_keeps_its_last_step_and_its_bytes(base, rows, tmp_path):
    """In the middle of an epoch and at a constant rate, where one step more would show."""
    settings = {"max_steps": 3, "lr_scheduler_type": "constant", "warmup_steps": 0, "save_steps": 1}
    first = run(base, rows, tmp_path, **settings)
    before = weights(tmp_path)
    again = run(base, rows, tmp_path, **settings)
    assert weights(tmp_path) == before
    assert (again.steps, again.adapter_step, again.final_eval_loss) == (3, 3, first.final_eval_loss)


def test_other_validation_rows_are_another_run(base, rows, tmp_path):
    other = tmp_path / "rows"
    other.mkdir()
    (other / "train").write_bytes((rows / "train").read_bytes())
    write_rows(read_rows(str(rows / "validation"))[:2], str(other / "validation"))
    first = run(base, rows, tmp_path, max_steps=1)
    assert run(base, other, tmp_path, max_steps=1).run_key != first.run_key


def test_a_row_whose_answer_is_cut_away_is_counted_and_all_of_them_are_an_error(base, rows, tmp_path):
    with pytest.raises(DataError, match=r"none of the 20 rows has a word of the assistant within train.max_length = 5"):
        run(base, rows, tmp_path, max_length=5)
    assert run(base, rows, tmp_path, max_length=40, max_steps=1).skipped_rows > 0


def test_a_base_model_that_cannot_be_loaded_is_named(rows, tmp_path):
    with pytest.raises(ModelError, match="base_model /nowhere: no such folder; mend the address"):
        run(BaseModelRef(address="/nowhere", revision="x", weight_bytes=0), rows, tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match=f"base_model {empty}: its tokenizer cannot be loaded"):
        run(BaseModelRef(address=str(empty), revision=folder_revision(empty), weight_bytes=0), rows, tmp_path)


def test_a_base_model_that_was_changed_after_the_recipe_was_resolved_is_refused(tiny_base, base, rows, tmp_path):
    changed = Path(shutil.copytree(tiny_base, tmp_path / "changed"))
    (changed / "config.json").write_text((changed / "config.json").read_text() + "\n")
    with pytest.raises(ModelError, match=f"base_model {changed}: its files have the digest .*, not {base.revision}"):
        run(base.model_copy(update={"address": str(changed)}), rows, tmp_path)


def test_a_pod_with_a_gpu_that_torch_does_not_see_does_not_train_on_its_processor(base, rows, tmp_path, monkeypatch):
    monkeypatch.setenv("LORRY_GPUS", "1")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(
        LorryError, match=r"this step was given 1 GPU\(s\), and torch .* sees none: use a train image with"
    ):
        run(base, rows, tmp_path)


def test_a_second_run_of_the_same_recipe_says_that_the_first_is_training(base, rows, tmp_path, undisturbed):
    key = read_record(str(undisturbed / "adapter")).run_key
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path / "checkpoints" / key)], stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BusyError, match=rf"another run \(process {holder.pid}\) is training this very recipe"):
            run(base, rows, tmp_path)
    finally:
        holder.kill()
        holder.communicate()
    run(base, rows, tmp_path)
    assert weights(tmp_path) == weights(undisturbed)


HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from components.train_lora.checkpoints import sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""

TRAIN = """
import sys
from tests.components.test_train_lora import run
from components.contracts import BaseModelRef
from pathlib import Path
run(BaseModelRef.model_validate_json(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
"""


def start_training(base: BaseModelRef, rows: Path, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", TRAIN, base.model_dump_json(), str(rows), str(folder)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(folder: Path, child: subprocess.Popen[str], step: int) -> None:
    deadline = time.monotonic() + 120
    while not list(folder.glob(f"checkpoints/*/checkpoint-{step}")):
        assert child.poll() is None, child.stderr and child.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_that_was_killed_resumes_and_ends_with_the_bytes_of_an_undisturbed_one(base, rows, tmp_path, undisturbed):
    child = start_training(base, rows, tmp_path)
    wait_for_checkpoint(tmp_path, child, 2)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not (tmp_path / "adapter" / "run.json").exists()
    run(base, rows, tmp_path)
    assert weights(tmp_path) == weights(undisturbed)
    losses = [
        [(e["step"], e.get("loss"), e.get("eval_loss")) for e in map(json.loads, path.read_text().splitlines())]
        for path in (folder / "adapter" / "history.jsonl" for folder in (tmp_path, undisturbed))
    ]
    assert [entry for entry in losses[0] if entry[1:] != (None, None)] == [
        entry for entry in losses[1] if entry[1:] != (None, None)
    ]


def test_sigterm_saves_a_checkpoint_and_says_how_to_go_on(base, rows, tmp_path, undisturbed):
    child = start_training(base, rows, tmp_path)
    wait_for_checkpoint(tmp_path, child, 2)
    child.terminate()
    _, said = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "InterruptedTrainingError: training was stopped at step" in said
    assert "run the same command again to go on from there" in said
    run(base, rows, tmp_path)
    assert weights(tmp_path) == weights(undisturbed)


def test_a_damaged_checkpoint_is_skipped_for_an_older_good_one(base, rows, tmp_path, undisturbed, caplog):
    run(base, rows, tmp_path)
    run_dir = next((tmp_path / "checkpoints").iterdir())
    newest, older = (run_dir / f"checkpoint-{step}" for step in (6, 4))
    damaged = newest / "adapter_model.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    assert checkpoints.newest_valid(run_dir, run_dir.name) == older
    assert "adapter_model.safetensors has changed since it was written" in caplog.text
    (older / "optimizer.pt").unlink()
    assert checkpoints.newest_valid(run_dir, run_dir.name) is None
    assert "optimizer.pt is missing" in caplog.text


def test_a_checkpoint_that_was_being_written_is_not_taken(tmp_path):
    (tmp_path / "checkpoint-9").mkdir()
    assert checkpoints.newest_valid(tmp_path, "key") is None
    with checkpoints.sole_writer(tmp_path):
        staged = tmp_path / checkpoints.STAGING / "checkpoint-3"
        staged.mkdir(parents=True)
        (staged / "weights").write_text("w")
        checkpoints.publish(tmp_path, "checkpoint-3", "key", keep=2)
    assert checkpoints.newest_valid(tmp_path, "key") == tmp_path / "checkpoint-3"


def test_only_the_newest_checkpoints_are_kept(undisturbed):
    kept = sorted(path.name for path in undisturbed.glob("checkpoints/*/checkpoint-*"))
    assert kept == ["checkpoint-4", "checkpoint-6"]


def test_watching_a_run_more_closely_does_not_start_another(base, rows, tmp_path, undisturbed):
    record = run(base, rows, tmp_path, save_steps=3, logging_steps=2, save_total_limit=1)
    assert record.run_key == read_record(str(undisturbed / "adapter")).run_key
    assert weights(tmp_path) == weights(undisturbed)


def test_a_finished_run_leaves_no_sign_of_a_writer(undisturbed):
    assert list(undisturbed.glob("checkpoints/*/writer.lock"))
    assert not list(undisturbed.glob("checkpoints/*/writer.json"))
