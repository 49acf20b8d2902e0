#!/usr/bin/env python3
"""Has Spin look at every state of the wake-up protocol, and at what it is without each part.

usage: check_model.py SPIN C_COMPILER MODEL

The model must hold as it is; without either fence, or the look between them, Spin must find a lost
wake-up: a model that can't fail would show nothing.
"""

import os
import re
import subprocess
import sys
import tempfile

# Macros of the model, and whether it must hold.
CASES = (
    (("MESSAGES=2", "SLOTS=2"), True),
    (("MESSAGES=2", "SLOTS=1"), True),
    (("MESSAGES=4", "SLOTS=2", "PAIR"), True),
    (("MESSAGES=2", "SLOTS=2", "NO_WAKER_FENCE"), False),
    (("MESSAGES=2", "SLOTS=2", "NO_SLEEPER_FENCE"), False),
    (("MESSAGES=2", "SLOTS=2", "NO_SECOND_LOOK"), False),
    (("MESSAGES=4", "SLOTS=2", "PAIR", "NO_WAKER_FENCE"), False),
    (("MESSAGES=4", "SLOTS=2", "PAIR", "NO_SLEEPER_FENCE"), False),
)
DEPTH_MAX = 100_000


def command(*words: str, folder: str) -> str:
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def check(spin: str, compiler: str, model: str, macros: tuple[str, ...]) -> tuple[bool, str]:
    """Whether the model holds, and Spin's report."""
    with tempfile.TemporaryDirectory() as folder:
        command(spin, *(f"-D{macro}" for macro in macros), "-a", model, folder=folder)
        command(compiler, "-O1", "-w", "-DSAFETY", "-DNOCLAIM", "-DCOLLAPSE", "-o", "pan", "pan.c",
                folder=folder)
        report = command("./pan", f"-m{DEPTH_MAX}", folder=folder)
    if "error: max search depth too small" in report or "Search not completed" in report:
        # A search that found an error stops there; one that did not must be whole.
        if not re.search(r"errors: [1-9]", report):
            sys.exit(f"{' '.join(macros)}: not every state was looked at\n{report}")
    match = re.search(r"errors: (\d+)", report)
    if match is None:
        sys.exit(f"{' '.join(macros)}: no verdict\n{report}")
    return match.group(1) == "0", report


def main() -> int:
    if len(sys.argv) != 4:
        print(__doc__)
        return 2
    spin, compiler, model = sys.argv[1], sys.argv[2], os.path.abspath(sys.argv[3])
    failures = 0
    for macros, must_hold in CASES:
        holds, report = check(spin, compiler, model, macros)
        states = re.search(r"(\S+) states, stored", report)
        found = re.search(r"pan:1: (.*)", report)
        print(f"{' '.join(macros)}: {states.group(1) if states else '?'} states, "
              f"{'holds' if holds else found.group(1) if found else 'fails'}")
        if holds != must_hold:
            print(f"  it must {'hold' if must_hold else 'fail'}\n{report}")
            failures += 1
        elif not holds and "invalid end state" not in report:
            print(f"  it must end with a sleeper that nobody wakes\n{report}")
            failures += 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
