"""The steps from an adapter to GGUF files: merge, convert, quantize."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from components.artifacts.contracts import BaseModelRef, Quantization
from components.errors import LorryError, ModelError
from components.export_gguf.tokenizer import read_rules, write_tokenizer
from components.modeling.base_model import load_tokenizer, load_weights
from components.runtime.cores import usable_cores

log = logging.getLogger(__name__)

CONVERTER = "convert_hf_to_gguf.py"
# llama.cpp logs such a line for each tensor whose row length is no multiple of the type's block.
_FALLBACK = re.compile(r"required for type +(\w+)\).*?falling back to +(\w+)")


def merge(base_model: BaseModelRef, adapter_path: str | None, folder: Path) -> int:
    """Write the base with the adapter merged in (None: the base alone) as safetensors; return the parameter count.

    For a base that is published in 4 bits its full-precision model is used. peft computes ``scale * B @ A`` in float32
    when the adapter is float32, whatever the base's type, and casts once.

    Raises:
        ModelError: base or adapter cannot be loaded, or the base has no full weights.
    """
    from peft import PeftModel

    tokenizer = load_tokenizer(base_model)
    full = base_model.to_merge_into
    model = load_weights(full, "auto")
    if getattr(model.config, "quantization_config", None) is not None:
        raise ModelError(
            f"{full.address}: its weights are in 4 bits, and an adapter merges into full ones only; name the model "
            "with full weights in full_precision_base"
        )
    if adapter_path is not None:
        try:
            model = PeftModel.from_pretrained(model, adapter_path).merge_and_unload()
        except (OSError, ValueError) as error:
            raise ModelError(f"{adapter_path}: the adapter does not load onto {full.address} ({error})") from error
    model.save_pretrained(folder)
    write_tokenizer(base_model, tokenizer, folder)
    return int(model.num_parameters())


@dataclass(frozen=True)
class About:
    """The metadata of a GGUF file under the keys ``general.*``."""

    name: str
    description: str | None = None
    license: str | None = None
    base_name: str | None = None
    base_url: str | None = None


def convert(merged: Path, f16_path: Path, about: About | None = None, *, vocab_only: bool = False) -> None:
    """Write ``merged`` as an f16 GGUF file with llama.cpp's own converter; ``vocab_only`` leaves out the weights.

    Raises:
        ModelError: the converter refuses the model; the message has its last line.
    """
    about, rules = about or About(merged.name), read_rules(merged)
    keys = json.dumps({"rules": rules and asdict(rules), "about": asdict(about)})
    command = [sys.executable, "-m", "components.export_gguf.upstream", str(converter_folder()), keys]
    command += [str(merged), "--outfile", str(f16_path), "--outtype", "f16"]
    command += ["--vocab-only"] if vocab_only else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        f16_path.unlink(missing_ok=True)
        log.error("%s", done.stderr)
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise ModelError(
            f"{merged}: llama.cpp's converter refuses it ({' '.join(last)}); the step's log has its whole output"
        )


def quantize(f16_path: Path, path: Path, quantization: Quantization) -> None:
    """Quantize ``f16_path`` with the library that will serve the file.

    Raises:
        ModelError: llama.cpp refuses.
    """
    import llama_cpp

    from components.gguf.log import captured_warnings

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{quantization}")
    parameters.nthread = usable_cores()
    with captured_warnings() as warnings:
        status = llama_cpp.llama_model_quantize(str(f16_path).encode(), str(path).encode(), ctypes.byref(parameters))
    if fallbacks := fallbacks_in("".join(warnings)):
        log.info("%s: %s", quantization, fallbacks)
    if status != 0:
        path.unlink(missing_ok=True)
        raise ModelError(f"{f16_path}: llama.cpp cannot quantize it to {quantization} (status {status})")


def fallbacks_in(warnings: str) -> str:
    """A summary of llama.cpp's warnings of tensors that do not fit a type's blocks; empty where all fit."""
    found = Counter(_FALLBACK.findall(warnings))
    if not found:
        return ""
    types = ", ".join(f"{n} {instead} in place of {wanted}" for (wanted, instead), n in sorted(found.items()))
    return f"{found.total()} tensors have rows that are no multiple of the type's block, and take another type: {types}"


def converter_folder() -> Path:
    """The folder of llama.cpp's converter: ``LLAMA_CPP_DIR``, or the one that ``make`` and the images use.

    Raises:
        LorryError: the converter is not there.
    """
    folder = Path(os.environ.get("LLAMA_CPP_DIR", Path(sys.prefix) / "share" / "llama.cpp"))
    if not (folder / CONVERTER).is_file():
        raise LorryError(f"{folder / CONVERTER}: no such file; run make, or set LLAMA_CPP_DIR to llama.cpp's source")
    return folder
