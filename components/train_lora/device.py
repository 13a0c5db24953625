"""The device that training runs on, and the precision and quantization that follow from it."""

from __future__ import annotations

import logging
import os
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from components.artifacts.contracts import BaseModelRef
from components.errors import LorryError, ModelError
from components.train_lora.config import TrainConfig
from components.train_lora.processes import n_processes

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """The hardware of a run, the type it computes in, and the quantization of the base model's weights."""

    hardware: str
    precision: str
    quantization: str | None
    n_processes: int

    @property
    def dtype(self) -> torch.dtype:
        """The type in which the weights are loaded."""
        import torch

        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[self.precision]


def choose_device(config: TrainConfig, base_model: BaseModelRef) -> Device:
    """The device, with the compute type that it supports best, and nf4 where the recipe or the device requires it.

    Raises:
        LorryError: the pod was given a GPU that torch does not see.
        ModelError: nf4 is required and bitsandbytes is missing.
    """
    import torch

    from components.modeling.cpu_linear import limit_threads

    if not torch.cuda.is_available():
        _require_no_gpu()
        limit_threads()
        hardware = f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
        precision, reason = "float32", "the fastest on a CPU"
    else:
        hardware = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
        # is_bf16_supported also counts the slow emulation of a T4.
        has_bfloat16 = torch.cuda.get_device_capability()[0] >= 8
        precision, reason = ("bfloat16", "the GPU has it") if has_bfloat16 else ("float16", "the GPU has no bfloat16")
    quantization, cause = _quantization(config, base_model, precision)
    log.info("%s: computing in %s (%s), base weights in %s (%s)", hardware, precision, reason, quantization, cause)
    return Device(hardware, precision, None if quantization == precision else quantization, n_processes())


def _quantization(config: TrainConfig, base_model: BaseModelRef, precision: str) -> tuple[str, str]:
    if base_model.quantization is not None:
        _require_bitsandbytes(
            f"base_model {base_model.address} is published in {base_model.quantization}, which", "choose full weights"
        )
        return base_model.quantization, "as the base model is published"
    if config.base_quantization == "nf4":
        _require_bitsandbytes("train.base_quantization = 'nf4'")
        return "nf4", "the recipe asks for it"
    if config.base_quantization == "auto" and precision == "float16":
        _require_bitsandbytes("train.base_quantization = 'auto' is nf4 on this GPU, which")
        return "nf4", "a GPU without bfloat16 has little memory; base_quantization: none overrides it"
    return precision, "nothing asks for fewer bits"


def _require_bitsandbytes(cause: str, alternative: str = "set base_quantization: none") -> None:
    import torch

    try:
        import bitsandbytes
        from bitsandbytes.cextension import lib

        # On a CPU it works without its compiled library.
        works = not (torch.cuda.is_available() and type(lib).__name__.startswith("ErrorHandler"))
        found = f"bitsandbytes {bitsandbytes.__version__} has no compiled library for this machine"
    except (ImportError, PackageNotFoundError, RuntimeError, OSError) as error:
        works, found = False, f"bitsandbytes cannot be used here ({str(error).splitlines()[0]})"
    if not works:
        raise ModelError(f"{cause} needs bitsandbytes, and {found}; install it, or {alternative}")


def _require_no_gpu() -> None:
    """Refuse to train on the CPU in a pod that was given a GPU: it would take a hundred times as long."""
    given = os.environ.get("LORRY_GPUS", "0")
    if given != "0" and "KUBERNETES_SERVICE_HOST" in os.environ:
        raise LorryError(
            f"this step was given {given} GPU(s), and torch {version('torch')} sees none: use a train image with CUDA "
            "(LORRY_TORCH=cuda), and look at the node's driver with nvidia-smi"
        )
