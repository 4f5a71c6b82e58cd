#!/usr/bin/env python3
"""setup(1): make the checkout's own .venv from a lock file, wheels only, every file checked against its hash.

In     the name of a lock under requirements/ ("run" by default); PyPI, or what pip is configured to use instead.
Out    .venv with the locked packages, with src/ on its path and an `atoll` command. Nothing outside the checkout.
Fails  2 with the one line to type when Python has no venv (minimal Debian); as root on Debian or Ubuntu that line is
       run instead. 1 when a package does not come.
Not    a build: no compiler, no build backend. This file runs before anything is installed, on any Python 3.
"""

import hashlib
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "bin", "python")
INSTALL_VENV = "apt-get update && apt-get install -y --no-install-recommends python3-venv"
COMMAND = """#!/bin/sh
exec "{python}" -P -c 'import sys; from atoll.admin.cli import main; sys.exit(main())' "$@"
"""


def stop(text, code):
    sys.stderr.write(text + "\n")
    sys.exit(code)


def need_venv():
    """Python's venv and the pip that it brings; Debian keeps them in a package of their own."""
    if sys.version_info < (3, 11):
        stop("Atoll needs Python 3.11 or newer; this is %s. PYTHON=/path/to/python3 make ..." % sys.version.split()[0],
             2)
    if has_venv():
        return
    debian = os.path.exists("/usr/bin/apt-get")
    if debian and os.geteuid() == 0:
        print("python3 -m venv is missing: " + INSTALL_VENV, flush=True)
        if subprocess.call(["/bin/sh", "-c", INSTALL_VENV]) == 0 and has_venv():
            return
        stop("that did not work", 2)
    line = "sudo sh -c '%s'" % INSTALL_VENV if debian else "install your system's venv module for Python"
    stop("python3 -m venv is missing. Run:\n" + line, 2)


def has_venv():
    """Asked of a new process: what was just installed is not seen by this one."""
    return subprocess.call([sys.executable, "-c", "import venv, ensurepip"], stderr=subprocess.DEVNULL) == 0


def stamp(lock):
    """What makes an environment ours: the lock, the interpreter, this file."""
    digest = hashlib.sha256()
    for path in (lock, os.path.abspath(__file__)):
        with open(path, "rb") as file:
            digest.update(file.read())
    digest.update((sys.version + os.path.realpath(sys.executable) + ROOT).encode())
    return digest.hexdigest()


def run(*arguments):
    """A command that must work."""
    # pip's cache is kept too: the checkout is all that we write.
    environment = dict(os.environ, PIP_CACHE_DIR=os.path.join(ROOT, ".cache", "pip"), PIP_DISABLE_PIP_VERSION_CHECK="1")
    code = subprocess.call(arguments, env=environment)
    if code:
        stop("failed: " + " ".join(arguments), 1)


def main(name="run"):
    """Make or complete .venv; nothing when it is as the lock says."""
    need_venv()
    lock = os.path.join(ROOT, "requirements", name + ".lock")
    mark = os.path.join(VENV, "made-from-" + name)
    wanted = stamp(lock)
    if os.path.exists(mark) and os.path.exists(PYTHON):
        with open(mark) as file:
            if file.read() == wanted:
                return
    print("setting up .venv (%s)" % name, flush=True)
    run(sys.executable, "-m", "venv", *([] if os.path.exists(PYTHON) else ["--clear"]), VENV)
    run(PYTHON, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--require-hashes",
        "--only-binary", ":all:", "-r", lock)
    packages = subprocess.check_output([PYTHON, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                                       universal_newlines=True).strip()
    with open(os.path.join(packages, "atoll.pth"), "w") as file:
        file.write(os.path.join(ROOT, "src") + "\n")
    command = os.path.join(VENV, "bin", "atoll")
    with open(command, "w") as file:
        file.write(COMMAND.format(python=PYTHON))
    os.chmod(command, 0o755)
    with open(mark, "w") as file:
        file.write(wanted)


if __name__ == "__main__":
    main(*sys.argv[1:])
