"""The origin of a run: the commit, the versions and the machine. Whatever starts runs notes it once for each of them.

Imports little, because the supervisor of every run imports it.
"""

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmark.run_folder import ROOT

PACKAGES = ("torch", "gymnasium", "numpy")


def said(command: list[str], folder: Path) -> str:
    """What a program prints; empty if it fails or is missing."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, timeout=60)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def commit(folder: Path = ROOT) -> str:
    """The hash of a folder's commit, with -dirty if files differ from the commit; empty outside a repository."""
    return said(["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"], folder)


def processor() -> str:
    """The name of this machine's processor."""
    known = Path("/proc/cpuinfo")  # of Linux
    name = re.search(r"^model name\s*: (.*)$", known.read_text(), re.MULTILINE) if known.exists() else None
    return name[1] if name else platform.processor() or platform.machine()


def own_origin(folder: Path = ROOT) -> dict:
    """The commit of this folder, the versions of this Python's packages, and this machine."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # a script of the user may need none of ours
            continue
    gpus = said(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], ROOT).splitlines()
    machine = {"platform": platform.platform(), "processor": processor(), "cpu_count": os.cpu_count()}
    return {"commit": commit(folder), "versions": versions, **machine, "gpu": ", ".join(dict.fromkeys(gpus)) or None}
