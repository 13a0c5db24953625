"""Export an adapter as the file that is served, with its manifest, after a check that the file answers."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from components.artifacts.contracts import (
    MANIFEST_NAME,
    BaseModelRef,
    GenerationDefaults,
    Message,
    ModelManifest,
    ProofAnswer,
    Row,
    RunRecord,
)
from components.artifacts.rows import read_rows
from components.artifacts.run_record import read_record
from components.errors import ModelError
from components.export_gguf.agreement import require_agreement
from components.export_gguf.config import ExportConfig
from components.export_gguf.convert import About, convert, merge, quantize
from components.gguf.model import GgufModel, TextStream
from components.gguf.sampling import Sampling
from components.gguf.vocabulary import vocabulary_of
from components.modeling.base_model import load_generation, load_tokenizer
from components.modeling.chat_template import fingerprint
from components.runtime.disk_space import require_export_space
from components.storage.digests import sha256_of

log = logging.getLogger(__name__)

PROOF_TOKENS = 32


def export(
    config: ExportConfig,
    base_model: BaseModelRef,
    *,
    adapter_path: str,
    evaluation: Mapping[str, float],
    model_path: str,
    validation_path: str | None = None,
) -> ModelManifest:
    """Write ``model-<quantization>.gguf`` and ``model.json`` into the folder ``model_path``.

    The folder holds both or neither: they are made in a work folder beside it. The file must tokenize hard texts, and
    the rows at ``validation_path``, as training did.

    Raises:
        DiskSpaceError: the disk has too little free space.
        ModelError: base or adapter does not load, the converter refuses, or the finished file tokenizes prompts
            differently or does not answer.
    """
    record = read_record(adapter_path)
    generation = load_generation(base_model).overridden_by(config.generation.model_dump())
    target = Path(model_path)
    require_export_space(target, base_model.to_merge_into.weight_bytes)
    work = target.with_name(target.name + ".work")
    shutil.rmtree(work, ignore_errors=True)
    (work / "merged").mkdir(parents=True)
    try:
        rows = read_rows(validation_path) if validation_path else []
        file = _build_file(config, base_model, adapter_path, rows, work)
        manifest = _manifest(config, base_model, record, file, evaluation, generation)
        target.mkdir(parents=True, exist_ok=True)
        file.path.rename(target / file.path.name)
        (target / MANIFEST_NAME).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return manifest


@dataclass(frozen=True)
class _ExportedFile:
    """A finished file that has answered a prompt, with what its manifest says of it."""

    path: Path
    f16_size_bytes: int
    n_parameters: int
    context_length: int
    template: str
    proof: ProofAnswer


def _manifest(
    config: ExportConfig,
    base_model: BaseModelRef,
    record: RunRecord,
    file: _ExportedFile,
    evaluation: Mapping[str, float],
    generation: GenerationDefaults,
) -> ModelManifest:
    size = file.path.stat().st_size
    return ModelManifest(
        file=file.path.name,
        sha256=sha256_of(file.path),
        size_bytes=size,
        f16_size_bytes=file.f16_size_bytes,
        reduction=1 - size / file.f16_size_bytes,
        quantization=config.quantization,
        n_parameters=file.n_parameters,
        context_length=file.context_length,
        base_model=base_model,
        base_license=base_model.license or base_model.to_merge_into.license,
        run_key=record.run_key,
        data_fingerprint=record.data_fingerprint,
        adapter_step=record.adapter_step,
        template_fingerprint=fingerprint(file.template),
        evaluation=dict(evaluation),
        converter=f"llama-cpp-python {version('llama-cpp-python')}",
        name=config.model_name,
        example_prompts=config.example_prompts,
        generation=generation,
        proof=file.proof,
    )


def _build_file(
    config: ExportConfig, base_model: BaseModelRef, adapter_path: str, rows: Sequence[Row], work: Path
) -> _ExportedFile:
    """Merge, convert, quantize and check the file, all in the folder ``work``.

    Raises:
        ModelError: see ``export``.
    """
    n_parameters = merge(base_model, adapter_path, work / "merged")
    log.info("merged: %d parameters", n_parameters)
    f16_path = work / "model-F16.gguf"
    convert(work / "merged", f16_path, about(config, base_model))
    f16_size = f16_path.stat().st_size
    log.info("converted: %s, %.1f MB", f16_path.name, f16_size / 1e6)
    with vocabulary_of(f16_path) as vocabulary:
        n = require_agreement(load_tokenizer(base_model), vocabulary, base_model.address, rows)
    log.info("%d prompts have the token ids of training", n)
    path = work / f"model-{config.quantization}.gguf"
    if path != f16_path:
        quantize(f16_path, path, config.quantization)
        size = path.stat().st_size
        log.info("quantized: %s, %.1f MB, %.1f %% smaller", path.name, size / 1e6, 100 * (1 - size / f16_size))
    template, context_length, answer = answer_once(path, config.proof_prompt)
    log.info("it answers %r with %r", config.proof_prompt, answer)
    proof = ProofAnswer(prompt=config.proof_prompt, answer=answer, max_tokens=PROOF_TOKENS)
    return _ExportedFile(path, f16_size, n_parameters, context_length, template, proof)


def about(config: ExportConfig, base_model: BaseModelRef) -> About:
    """The metadata of the file: its name, its base model, the licence and the quantization."""
    is_folder = base_model.is_local or "://" in base_model.address
    address = Path(base_model.address).name if is_folder else base_model.address  # no local path in the file
    base = base_model.published_as or base_model.source or address
    on_hub = base_model.published_as or (None if is_folder else address)
    return About(
        name=config.model_name or Path(base).name,
        description=f"a LoRA fine-tune of {base}, merged and written as {config.quantization} by Lorry",
        license=base_model.license or base_model.to_merge_into.license,
        base_name=base,
        base_url=on_hub and f"https://huggingface.co/{on_hub}",
    )


def answer_once(path: Path, prompt: str) -> tuple[str, int, str]:
    """Load a GGUF file and let it answer; return its chat template, its context length and the answer.

    Raises:
        ModelError: it does not load, the prompt does not fit into its context, or the answer has no text.
    """
    messages = [Message(role="user", content=prompt)]
    with vocabulary_of(path) as vocabulary:
        tokens = vocabulary.prompt_tokens(messages)
    model = GgufModel(path, n_ctx=len(tokens) + PROOF_TOKENS)
    try:
        if len(tokens) + PROOF_TOKENS > model.context_length:
            raise ModelError(
                f"export.proof_prompt has {len(tokens)} tokens with its template, and with an answer of {PROOF_TOKENS} "
                f"it does not fit into the model's context of {model.context_length}; shorten it"
            )
        stream, text = TextStream(), ""
        for _, token in zip(range(PROOF_TOKENS), model.generate(tokens, Sampling()), strict=False):
            if model.is_end(token):
                break
            text += stream.feed(model.piece(token))
        if not text.strip():
            raise ModelError(
                f"{path}: the finished file answers {prompt!r} with nothing; train longer, or quantize less"
            )
        return model.template, model.context_length, text
    finally:
        model.close()
