#!/usr/bin/env python3
"""The CUDA part of the client needs no driver to start, and the client itself nothing of CUDA.

usage: library_test.py LIBKAAS_CUDA LIBKAAS_CLIENT READELF
"""

import re
import subprocess
import sys


def needed(readelf: str, library: str) -> set[str]:
    text = subprocess.run([readelf, "-d", library], check=True, capture_output=True,
                          text=True).stdout
    return set(re.findall(r"NEEDED.*\[(.*)\]", text))


def main(cuda_part: str, client: str, readelf: str) -> int:
    failures = [f"{library} needs {name}" for library in (cuda_part, client)
                for name in needed(readelf, library)
                if re.search(r"cuda|nvidia", name.replace("kaas_cuda", ""))]
    if not any(name.startswith("libkaas_client.so") for name in needed(readelf, cuda_part)):
        failures.append(f"{cuda_part} does not need the client library that it is a part of")
    print("\n".join(failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
