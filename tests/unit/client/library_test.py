#!/usr/bin/env python3
"""What the shared client library is: small, dependent on next to nothing, silent about its insides.

usage: library_test.py LIBRARY STRIP READELF
"""

import os
import re
import subprocess
import sys
import tempfile

MAX_STRIPPED_BYTES = 500 * 1024
ALLOWED_NEEDED = {"libstdc++.so.6", "libgcc_s.so.1", "libc.so.6", "libm.so.6", "libpthread.so.0",
                  "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


def output_of(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(library: str, strip: str, readelf: str) -> int:
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        stripped = os.path.join(folder, "stripped.so")
        subprocess.run([strip, "-o", stripped, library], check=True)
        size = os.path.getsize(stripped)
    if size > MAX_STRIPPED_BYTES:
        failures.append(f"{size} bytes stripped, limit {MAX_STRIPPED_BYTES}")
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", output_of(readelf, "-d", library)))
    if needed - ALLOWED_NEEDED:
        failures.append(f"needs {sorted(needed - ALLOWED_NEEDED)}")
    symbols = output_of(readelf, "-W", "--dyn-syms", library).split("\n")
    exported = [line.split()[-1] for line in symbols
                if re.search(r"FUNC\s+(GLOBAL|WEAK)\s+DEFAULT\s+\d+ ", line)]
    foreign = [name for name in exported if "flatbuffers" in name or "interprocess" in name
               or "4wire" in name and "StatusCode" not in name]
    if foreign:
        failures.append(f"exports insides: {foreign[:5]}")
    for wanted in ("kaas_connect", "Client7connect", "Future.*Reply.*3get", "Future.*Object.*3get",
                   "Future.*ObjectInfo.*3get", "FutureIv.*3get"):
        if not any(re.search(wanted, name) for name in exported):
            failures.append(f"does not export {wanted}")
    for failure in failures:
        print(f"{library}: {failure}")
    print(f"{size} bytes stripped, {len(exported)} functions exported")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
