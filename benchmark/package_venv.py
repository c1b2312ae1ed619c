"""Virtual environments for packages that others wrote, each with its own, and commands that run in them."""

import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Collection
from importlib.metadata import version
from pathlib import Path

from benchmark.run_folder import ROOT

SHARED = ("gymnasium", "numpy", "torch")  # with exactly the versions of this Python
QUIET = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy", "MPLBACKEND": "Agg"}


def run(command: list, folder: Path, seconds: float) -> tuple[int, str, str]:
    """Exit code (124: out of time), stdout and stderr of a command. Ends all that the command started."""
    environ = os.environ | QUIET | {"PYTHONPATH": str(ROOT), "HOME": str(folder)}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    text = {"text": True, "errors": "replace"}
    process = subprocess.Popen(command, **pipes, **text, cwd=folder, env=environ, start_new_session=True)
    try:
        out, err = process.communicate(timeout=seconds)
        return process.returncode, out, err
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return 124, *process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def last_line(text: str, folder: Path) -> str:
    """The last line that names an error, else the last line, without addresses and paths of this machine."""
    lines = [line.strip() for line in text.splitlines() if re.search(r"\w{3}", line)]
    errors = [line for line in lines if re.match(r"(error|ERROR|[\w.]*(Error|Exception|Interrupt))\b", line)]
    line = (errors or lines or [""])[-1]
    for path in (folder, sys.prefix, ROOT):
        line = line.replace(str(path), "...")
    return re.sub(r"https?://\S+", "...", line)[:300]


def install(
    name: str, pin: list[str], folder: Path, seconds: float, free: Collection[str] = ()
) -> tuple[Path, int, str]:
    """The Python of a virtual environment with what `pin` names for pip, made if it is missing, and pip's exit code and
    output. It sees the packages of this Python behind its own, with equal versions of SHARED, except those in `free`.
    """
    place, wanted = folder / name, shlex.join(pin)
    python, mark = place / "bin" / "python", place / "pin.txt"
    if mark.exists() and mark.read_text() == wanted:
        return python, 0, ""
    venv.create(place, clear=True, symlinks=True)
    own = sysconfig.get_path("purelib", "venv", {"base": str(place), "platbase": str(place)})
    (Path(own) / "shared.pth").write_text(sysconfig.get_path("purelib"))
    (place / "shared.txt").write_text("\n".join(f"{each}=={version(each)}" for each in SHARED if each not in free))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "-c", place / "shared.txt"]
    code, out, err = run([*pip, *pin], folder, seconds)
    if code == 0:
        mark.write_text(wanted)
    return python, code, out + err
