"""Loading a base model by the same rules for training, evaluation and export.

Weights must be safetensors, and no code of the model's folder runs.
"""

from __future__ import annotations

import logging
import os
import shutil
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.artifacts.contracts import BaseModelRef, GenerationDefaults
from components.errors import DataError, ModelError
from components.storage.digests import sha256_of_all
from components.storage.local_files import cached_folder, local_folder
from components.storage.store import in_bucket

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)

# In a folder that Lorry made from another source: the source.
SOURCE_NAME = "lorry-source.json"
TOKENIZER_NAME = "tokenizer.json"
# The files from which a tokenizer loads.
TOKENIZER_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
# Files that are written together with merged weights.
SAVED_WITH_WEIGHTS = ("config.json", "generation_config.json")
MODEL_FILES = ("*.safetensors", *TOKENIZER_FILES)
# The keys of transformers' generation config by Lorry's names.
SAMPLING_KEYS = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p"}
OTHER_KEYS = {"repetition_penalty": "repetition_penalty", "max_tokens": "max_new_tokens"}


def model_files(folder: Path) -> list[Path]:
    """The files of a model folder that Lorry reads, sorted by name."""
    return sorted({path for pattern in MODEL_FILES for path in folder.glob(pattern)})


def folder_revision(folder: Path) -> str:
    """A sha256 over the names and contents of a model folder's files."""
    return sha256_of_all(model_files(folder))


def load_tokenizer(base_model: BaseModelRef) -> PreTrainedTokenizerBase:
    """The base model's tokenizer, with a padding token.

    Raises:
        ModelError: it cannot be loaded.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = _tokenizer_folder(base_model)
    try:
        # By the rules in tokenizer.json. The classes of transformers 5 that are named after a model read only the
        # vocabulary from it, and split and normalize text by rules of their own.
        kind = PreTrainedTokenizerFast if (folder / TOKENIZER_NAME).is_file() else AutoTokenizer
        tokenizer: PreTrainedTokenizerBase = kind.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises no class of its own
        raise _cannot_load(base_model, "tokenizer", error) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_config(base_model: BaseModelRef) -> PretrainedConfig:
    """The base model's config, without its weights.

    Raises:
        ModelError: it cannot be loaded.
    """
    from transformers import AutoConfig

    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(_tokenizer_folder(base_model), trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _cannot_load(base_model, "config.json", error) from error
    return config


def tokens_without_rows(base_model: BaseModelRef, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Tokens of the tokenizer for which the model's embedding has no row, by id; usually none.

    Raises:
        ModelError: the model's config cannot be read.
    """
    n_rows = load_config(base_model).get_text_config().vocab_size
    return [token for token, number in sorted(tokenizer.get_vocab().items(), key=itemgetter(1)) if number >= n_rows]


def copy_tokenizer_files(base_model: BaseModelRef, folder: Path) -> None:
    """Copy the files of the tokenizer into ``folder``.

    Raises:
        ModelError: they cannot be downloaded.
    """
    source = _tokenizer_folder(base_model)
    for path in (path for pattern in TOKENIZER_FILES for path in source.glob(pattern)):
        if path.name not in SAVED_WITH_WEIGHTS and not path.name.endswith(".index.json"):
            shutil.copyfile(path, folder / path.name)


def load_generation(base_model: BaseModelRef) -> GenerationDefaults:
    """The sampling parameters of the base model's ``generation_config.json``; empty where it has none.

    A value that exceeds Lorry's bounds is left out, and logged.

    Raises:
        ModelError: the file cannot be read.
    """
    from transformers import GenerationConfig
    from transformers.utils import GENERATION_CONFIG_NAME

    folder = _tokenizer_folder(base_model)
    try:
        if not (folder / GENERATION_CONFIG_NAME).is_file():
            log.info("%s has no %s", base_model.address, GENERATION_CONFIG_NAME)
            return GenerationDefaults()
        config = GenerationConfig.from_pretrained(folder)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise _cannot_load(base_model, GENERATION_CONFIG_NAME, error) from error
    defaults, left_out = GenerationDefaults.within_bounds(_generation_of(config))
    for key in left_out:
        log.warning("%s: its %s is out of bounds and left out", GENERATION_CONFIG_NAME, key)
    return defaults


def _generation_of(config: GenerationConfig) -> dict[str, Any]:
    """The values that are set, by Lorry's names; without ``do_sample`` transformers ignores the keys of sampling."""
    greedy = config.do_sample is False
    keys = OTHER_KEYS if greedy else {**SAMPLING_KEYS, **OTHER_KEYS}
    values = {name: getattr(config, key) for name, key in keys.items() if getattr(config, key) is not None}
    return {"temperature": 0.0, **values} if greedy else values


def load_weights(
    base_model: BaseModelRef, dtype: torch.dtype | str, quantization: str | None = None
) -> PreTrainedModel:
    """The base model for causal language modelling, in ``dtype`` (``"auto"``: as stored).

    It is loaded into the memory of the CPU. Where it will compute there, in float32, its linear layers multiply with
    oneDNN, and PyTorch uses as many threads as the CPU quota allows. With ``quantization`` ``"nf4"`` the linear layers
    have 4-bit weights, which are on the GPU if there is one.

    Raises:
        ModelError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from components.modeling.cpu_linear import is_faster_here, limit_threads, use_onednn

    if not torch.cuda.is_available():
        limit_threads()
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            **_identity(base_model),
            **_quantized(base_model, dtype, quantization),
            dtype=dtype,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, ImportError) as error:
        raise _cannot_load(base_model, "weights", error) from error
    if quantization is not None:
        _prepare_4_bit_layers(model, dtype)
    elif model.dtype is torch.float32 and not torch.cuda.is_available() and is_faster_here():
        use_onednn(model)
    return model


def _prepare_4_bit_layers(model: PreTrainedModel, dtype: torch.dtype | str) -> None:
    """Let the 4-bit layers compute in ``dtype``, in the layout whose kernels have a gradient."""
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            # A model that is published in 4 bits names a type to compute in, which need not be the device's.
            module.compute_dtype = dtype
            module.compute_type_is_set = True
            # On a CPU with AVX512_BF16 an evaluation would pack the weights for a kernel without a gradient
            # (bitsandbytes 0.50.2), and nothing unpacks them when training goes on.
            module.support_avx512bf16_for_cpu = False


def _quantized(base_model: BaseModelRef, dtype: torch.dtype | str, quantization: str | None) -> dict[str, Any]:
    """The arguments for 4-bit weights; a model that is published in 4 bits has the settings in its config."""
    import torch
    from transformers import BitsAndBytesConfig

    if quantization is None:
        return {}
    # bitsandbytes computes on the device that the weights were packed on.
    device = {"device_map": {"": int(os.environ.get("LOCAL_RANK", "0")) if torch.cuda.is_available() else "cpu"}}
    if base_model.quantization is not None:
        return device
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=quantization,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
    return {"quantization_config": settings, **device}


def _identity(base_model: BaseModelRef) -> dict[str, Any]:
    """The arguments that identify the model: a folder, or a hub id and its commit."""
    if (folder := folder_of(base_model)) is not None:
        # Without the revision, which is a digest of Lorry's and no commit of the hub.
        return {"pretrained_model_name_or_path": str(folder)}
    return {"pretrained_model_name_or_path": base_model.address, "revision": base_model.revision}


def _tokenizer_folder(base_model: BaseModelRef) -> Path:
    """The local folder of all files but the weights; its digest is not checked.

    Raises:
        ModelError: the folder does not exist, or the hub does not provide it.
    """
    if in_bucket(base_model.address):
        return cached_folder(base_model.address, f"{base_model.revision}-tokenizer", TOKENIZER_FILES)
    if base_model.is_local:
        folder = Path(base_model.address)
        if not folder.is_dir():
            raise ModelError(f"base_model {base_model.address}: no such folder; correct the address")
        return folder
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(base_model.address, revision=base_model.revision, allow_patterns=list(TOKENIZER_FILES))
        )
    except (OSError, ValueError) as error:
        raise _cannot_load(base_model, "tokenizer", error) from error


def folder_of(base_model: BaseModelRef) -> Path | None:
    """The local folder of the base model's files; None for a hub id.

    Raises:
        ModelError: it does not exist, or has another revision.
    """
    if not (base_model.is_local or in_bucket(base_model.address)):
        return None
    try:
        return local_folder(base_model.address, base_model.revision, MODEL_FILES, folder_revision)
    except DataError as error:
        raise ModelError(f"base_model {error}") from error


def _cannot_load(base_model: BaseModelRef, what: str, error: Exception) -> ModelError:
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelError(f"base_model {base_model.address}: its {what} cannot be loaded ({first_line})")
