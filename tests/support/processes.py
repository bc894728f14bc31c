"""Python code in a process of its own, and what a process holds of the system."""

import contextlib
import os
import subprocess
import sys
import sysconfig
import textwrap
import venv
from pathlib import Path

LIGHT = str(Path(__file__).parent / "light")  # a folder for PYTHONPATH; its modules say why


def start_python(code, *arguments, before=(), path=LIGHT):
    """Start a Python process that runs `code` and can import the package and the tests' support.

    `before` is a command that starts the command after it, such as `unshare`; `path` is a folder whose modules it has
    instead of those that are installed.
    """
    folders = os.pathsep.join(folder for folder in (path, *sys.path) if folder)
    environment = {**os.environ, "PYTHONPATH": folders, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [*before, sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output_of(process, timeout=240):
    """The lines that a process prints until it ends without an error."""
    out, err = process.communicate(timeout=timeout)
    assert not process.returncode, err[-3000:]
    return out.splitlines()


def python_without_the_package(folder, path="", at="."):
    """A Python with everything that is installed here except this package.

    `path` is a PYTHONPATH whose modules it has instead, `at` the working directory, whose modules it has too.
    """
    venv.create(folder / "environment", with_pip=False, symlinks=True)
    found = subprocess.run(
        [folder / "environment" / "bin" / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    # What a .pth file in the other environment says is not followed from here, such as where an editable package is.
    Path(found.stdout.strip(), "others.pth").write_text(sysconfig.get_path("purelib"))
    python = folder / "python"
    python.write_text(f'#!/bin/sh\ncd {at} && PYTHONPATH={path} exec {folder}/environment/bin/python "$@"\n')
    python.chmod(0o755)
    return python


def files_held(pid, folder):
    """The files of a folder that a process has open or mapped, deleted ones too."""
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed in the meantime
            links.append(os.readlink(link))
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line for line in [*links, *maps] if f"{folder}/" in line]
