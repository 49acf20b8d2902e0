#!/usr/bin/env python3
"""The example at the top of <kaas/client.h> compiles without a warning.

usage: example_test.py COMPILER INCLUDE_FOLDER...
"""

import os
import subprocess
import sys
import tempfile

# What the example takes for granted.
PROGRAM = """#include <cstdio>
#include <kaas/client.h>
void example(std::span<const std::byte> bytes, const kaas::Result<kaas::Request>& request) {{
{example}
  static_cast<void>(reply);
  static_cast<void>(result);
}}
"""


def example_of(header: str) -> str:
    """The first lines of the comment that are indented as code."""
    lines = []
    with open(header, encoding="utf-8") as file:
        for line in file:
            if line.startswith("//   "):
                lines.append(line[3:].rstrip())
            elif lines:
                break
    return "\n".join(lines)


def main(compiler: str, *folders: str) -> int:
    example = example_of(os.path.join(folders[0], "kaas", "client.h"))
    if "client->run" not in example and "plan->run" not in example:
        print(f"no example found:\n{example}")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "example.cc")
        with open(source, "w", encoding="utf-8") as file:
            file.write(PROGRAM.format(example=example))
        return subprocess.run([compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra",
                               "-Werror", *(f"-I{name}" for name in folders), source],
                              check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
