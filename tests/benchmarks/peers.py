"""llama.cpp's own programs, built once from the source that llama-cpp-python ships, into .venv/peers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from components.export_gguf.convert import converter_folder
from components.runtime.cores import usable_cores

# Some virtual machines report AMX and do not let it run.
NO_AMX = "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"


def build(name: str) -> Path:
    """The program ``name``; takes some minutes the first time."""
    folder = Path(sys.prefix) / "peers"
    tool = folder / "bin" / name
    if not tool.is_file():
        print(f"building {name}…", flush=True)
        flags = [f"-DCMAKE_{language}_FLAGS={NO_AMX}" for language in ("C", "CXX")]
        off = ["-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_BUILD_TESTS=OFF"]
        off.append("-DLLAMA_BUILD_UI=OFF")
        subprocess.run(["cmake", "-S", converter_folder(), "-B", folder, *flags, *off], check=True, capture_output=True)
        jobs = ["-j", str(usable_cores())]
        subprocess.run(["cmake", "--build", folder, "--target", name, *jobs], check=True, capture_output=True)
    return tool
