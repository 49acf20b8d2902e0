#!/usr/bin/env python3
"""Checks what a compiler does not: who may include whom, banned calls, sizes, orphaned sources.

usage: tools/tidy.py [ROOT]

Prints one line per finding, `path:line: rule: what was found and what to do`, and exits 1 if there
is any. A line that must break a rule says so itself, with a reason:

    int fd = shm_open(...);  // tidy: allow(banned-call) clients name these segments
"""

import os
import re
import sys
from typing import Iterator, NamedTuple

MAX_COLUMNS = 100
MAX_LINES = 600
MAX_TEST_LINES = 800
MAX_FUNCTION_LINES = 70
MAX_TEST_FUNCTION_LINES = 120

CPP = (".cc", ".h", ".cu", ".cuh")
SOURCES = (".cc", ".cu")
TOP_FOLDERS = ("schema", "client", "kernels", "daemon", "tools", "tests")
# Where a public include <kaas/...> can be.
PUBLIC_INCLUDE_FOLDERS = ("client/include", "client/cuda/include", "kernels/include")
# Made by flatc in the build folder.
GENERATED = {"schema/kaas_generated.h"}

STAGES = ("session", "intake", "plan", "schedule", "settle", "reply")
# These join the stages: the dispatcher thread, the control thread, and what starts both.
WIRING = ("daemon/main.cc", "daemon/dispatch/", "daemon/control/")

# A plan carries references to object versions, which the store defines.
FLOW_SEES = ("daemon/flow/", "daemon/store/object_version.h")

CUDA_HEADER = re.compile(
    r"^(cuda|cuda_\w+|cublas\w*|cufft\w*|curand\w*|cusparse\w*|nvrtc|nvml|cooperative_groups|"
    r"device_launch_parameters|driver_types|vector_types)(\.hpp|\.h|/.*)$")
CUDA_FOLDERS = ("daemon/executor/device/", "kernels/", "client/cuda/",
                "tools/bench/direct/", "tests/")

# Tools that are kernels, or launch them without KaaS to compare.
KERNEL_TOOLS = ("tools/bench/kernels/", "tools/bench/direct/")

ALLOW = re.compile(r"//\s*tidy:\s*allow\(([\w, -]+)\)\s*(.*)")
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
NAMESPACE = re.compile(r"^\s*(?:inline\s+)?namespace\s+([\w:]+)\s*\{")
# v1 is the inline namespace of the installed client headers.
ALLOWED_NAMESPACES = ("kaas", "kaas::wire", "v1")


class Ban(NamedTuple):
    pattern: str
    instead: str
    folders: tuple[str, ...]


PRODUCT = ("schema/", "client/", "kernels/", "daemon/", "tools/")
EVERYWHERE = PRODUCT + ("tests/",)
BANS = tuple(
    (re.compile(ban.pattern), ban) for ban in (
        Ban(r"\bshm_open\s*\(", "a sealed memfd of schema/ipc/segment.h", PRODUCT),
        Ban(r"(?<!static_)(?<!\w)assert\s*\(", "KAAS_CHECK, which is on in every build",
            ("schema/", "client/", "daemon/", "tools/")),
        Ban(r"(?<![\w.>])s?rand\s*\(", "<random> with a seed that is printed", EVERYWHERE),
        Ban(r"\bv?sprintf\s*\(", "std::snprintf or fmt::format", EVERYWHERE),
        Ban(r"\b(strcpy|strcat|strncpy|strncat)\s*\(",
            "std::string, or std::memcpy with a checked size", EVERYWHERE),
        Ban(r"\b(gets|alloca|tmpnam|tempnam|mktemp)\s*\(",
            "a bounded call (mkstemp, mkdtemp, std::vector)", EVERYWHERE),
        Ban(r"(?<![\w.>])(std::)?system\s*\(|\bpopen\s*\(",
            "posix_spawn or fork and exec, without a shell", PRODUCT),
        Ban(r"\b(atoi|atol|atoll|atof)\s*\(", "std::from_chars, which reports errors", EVERYWHERE),
        Ban(r"\bstrtok\s*\(", "std::string_view", EVERYWHERE),
        Ban(r"\b(gmtime|localtime|asctime|ctime)\s*\(", "gmtime_r or localtime_r", EVERYWHERE),
        Ban(r"\busing\s+namespace\b", "the qualified name", EVERYWHERE),
        Ban(r"\b(sleep_for|sleep_until)\s*\(|(?<![\w.>])(u|nano)?sleep\s*\(|\bclock_nanosleep\s*\(",
            "waiting for the event that the test is about", ("tests/",)),
    ))


class Finding(NamedTuple):
    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


class SourceFile:
    """A file of the tree: its lines, and the same lines without comments and literals."""

    def __init__(self, root: str, path: str):
        self.path = path
        with open(os.path.join(root, path), encoding="utf-8") as file:
            self.text = file.read()
        self.lines = self.text.split("\n")
        if self.lines and self.lines[-1] == "":
            self.lines.pop()
        self.is_cpp = path.endswith(CPP)
        code = blank_comments_and_literals(self.text) if self.is_cpp else self.text
        self.code = code.split("\n")

    def allows(self, line: int, rule: str) -> bool:
        """Whether line (from 1), or a comment line right above it, excuses itself from `rule`."""
        for number in (line, line - 1):
            if not 1 <= number <= len(self.lines):
                continue
            text = self.lines[number - 1]
            if number != line and not text.lstrip().startswith("//"):
                continue
            match = ALLOW.search(text)
            if match and rule in [name.strip() for name in match.group(1).split(",")]:
                return bool(match.group(2).strip())
        return False


TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<tag>[^()\s\\]{0,16})\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"|'
    r"(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", re.DOTALL)


def blank_comments_and_literals(text: str) -> str:
    """Same text, same lines; comments and the insides of literals are blanks."""

    def blank(match: re.Match) -> str:
        token = match.group(0)
        # Includes keep their name: they are looked at elsewhere, in the unchanged lines.
        return re.sub(r"[^\n]", " ", token) if token[0] == "/" else re.sub(r"[^\n\"']", " ", token)

    return TOKEN.sub(blank, text)


def source_files(root: str) -> Iterator[SourceFile]:
    for top in TOP_FOLDERS:
        for folder, folders, names in os.walk(os.path.join(root, top)):
            folders[:] = sorted(name for name in folders
                                if not name.startswith((".", "build")) and name != "__pycache__")
            for name in sorted(names):
                path = os.path.relpath(os.path.join(folder, name), root)
                if name.endswith(CPP + (".py", ".sh")) or is_script(os.path.join(folder, name)):
                    yield SourceFile(root, path)


def is_script(path: str) -> bool:
    if "." in os.path.basename(path) or os.path.islink(path):
        return False
    with open(path, "rb") as file:
        return file.read(2) == b"#!"


def resolve_include(root: str, includer: str, quote: str, name: str) -> str | None:
    """The path in the tree that an include means; None: not one of ours."""
    if name in GENERATED:
        return name
    folders = [folder for folder in PUBLIC_INCLUDE_FOLDERS]
    if quote == '"':
        folders = ["", os.path.dirname(includer)] + folders
    for folder in folders:
        path = os.path.normpath(os.path.join(folder, name))
        if os.path.isfile(os.path.join(root, path)):
            return path
    return None


def stage_of(path: str) -> str | None:
    parts = path.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "daemon" and parts[1] in STAGES else None


def include_fault(includer: str, target: str) -> str | None:
    """Why `includer` may not include `target`, both paths in the tree; None: it may."""
    source, wanted = includer.split("/")[0], target.split("/")[0]
    for public in PUBLIC_INCLUDE_FOLDERS:
        needs = {"client/cuda/include": ("client/include/",)}.get(public, ())
        if includer.startswith(public + "/") and not target.startswith((public + "/", *needs)):
            return f"an installed header may include only what is installed with it ({public})"
    # The simulation is a test that is a program.
    if source == "tests" or includer.startswith("tools/sim/"):
        return None
    allowed = {
        "schema": {"schema"},
        "client": {"client", "schema"},
        "daemon": {"daemon", "schema"},
        "kernels": {"kernels"},
        "tools": {"tools", "client", "schema"},
    }[source]
    if wanted not in allowed:
        if (includer.startswith("daemon/executor/")
                and target == "kernels/include/kaas/kernel_abi.h"):
            return None
        if includer.startswith(KERNEL_TOOLS) and target.startswith("kernels/include/"):
            return None
        return f"{source}/ may include {', '.join(sorted(allowed))} only"
    if source == "tools" and target.startswith("client/src/"):
        return "tools use the client's public headers, <kaas/...>"
    return daemon_fault(includer, target) if source == "daemon" else None


def daemon_fault(includer: str, target: str) -> str | None:
    """The rules inside daemon/."""
    if not target.startswith("daemon/") or includer.startswith(WIRING):
        return None
    from_executor = includer.startswith("daemon/executor/")
    to_executor = target.startswith("daemon/executor/")
    if to_executor != from_executor and not target.startswith("daemon/flow/"):
        return ("kaasd and kaas-executor are two programs; they share daemon/flow and schema/ only")
    if includer.startswith("daemon/flow/") and not target.startswith(FLOW_SEES):
        return f"daemon/flow holds values that stages exchange; it sees {', '.join(FLOW_SEES)} only"
    here, there = stage_of(includer), stage_of(target)
    if there and here != there:
        return ("stages never include one another, and what they stand on never includes a stage; "
                "they share daemon/flow")
    return None


def check_includes(root: str, file: SourceFile) -> Iterator[Finding]:
    for number, line in enumerate(file.lines, 1):
        match = INCLUDE.match(line)
        if not match:
            continue
        quote, name = match.groups()
        if CUDA_HEADER.match(name) and not file.path.startswith(CUDA_FOLDERS):
            yield Finding(file.path, number, "cuda-header",
                          f"<{name}>; CUDA headers belong to {', '.join(CUDA_FOLDERS[:-1])}")
        target = resolve_include(root, file.path, quote, name)
        if target is None:
            if quote == '"':
                yield Finding(file.path, number, "include-path",
                              f'"{name}" is not in the tree; ours are named from the root, '
                              "others in <>")
            continue
        if (quote == '"' and target != name and not file.path.startswith(("kernels/", "tests/"))):
            yield Finding(file.path, number, "include-path",
                          f'"{name}"; name it from the root, "{target}"')
        fault = include_fault(file.path, target)
        if fault:
            yield Finding(file.path, number, "include-rule", f"{target}; {fault}")


def check_banned_calls(_root: str, file: SourceFile) -> Iterator[Finding]:
    for number, line in enumerate(file.code, 1):
        for pattern, ban in BANS:
            match = pattern.search(line)
            if match and file.path.startswith(ban.folders):
                yield Finding(file.path, number, "banned-call",
                              f"{match.group(0).strip(' (')}; use {ban.instead}")


def check_namespaces(_root: str, file: SourceFile) -> Iterator[Finding]:
    for number, line in enumerate(file.code, 1):
        match = NAMESPACE.match(line)
        if match and match.group(1) not in ALLOWED_NAMESPACES:
            yield Finding(file.path, number, "namespace",
                          f"{match.group(1)}; allowed: kaas, kaas::wire, unnamed")


def check_header_guard(_root: str, file: SourceFile) -> Iterator[Finding]:
    if not file.path.endswith((".h", ".cuh")):
        return
    directives = [line.strip() for line in file.code if line.startswith("#")][:2]
    guarded = (directives[:1] == ["#pragma once"]
               or (len(directives) == 2 and directives[0].startswith("#ifndef")
                   and directives[1].startswith("#define")))
    if not guarded:
        yield Finding(file.path, 1, "header-guard", "none; start with #pragma once")


def check_size(_root: str, file: SourceFile) -> Iterator[Finding]:
    limit = MAX_TEST_LINES if file.path.startswith("tests/") else MAX_LINES
    if len(file.lines) > limit:
        yield Finding(file.path, 1, "file-length",
                      f"{len(file.lines)} lines, limit {limit}; split it by responsibility")
    for number, line in enumerate(file.lines, 1):
        if len(line) > MAX_COLUMNS and "://" not in line:
            yield Finding(file.path, number, "line-length",
                          f"{len(line)} columns, limit {MAX_COLUMNS}")


NOT_A_FUNCTION = re.compile(r"^(namespace|class|struct|enum|union|extern|inline namespace|using)\b")


def check_function_length(_root: str, file: SourceFile) -> Iterator[Finding]:
    """Functions outside classes; clang-format puts both their ends into the first column."""
    if not file.is_cpp:
        return
    limit = MAX_TEST_FUNCTION_LINES if file.path.startswith("tests/") else MAX_FUNCTION_LINES
    start, signature = 0, ""
    for number, line in enumerate(file.code, 1):
        if line.rstrip() == "}" and start:
            length = number - start + 1
            if "(" in signature and length > limit and not NOT_A_FUNCTION.match(signature):
                yield Finding(file.path, start, "function-length",
                              f"{length} lines, limit {limit}; name its steps")
            start = 0
        elif re.match(r"^[A-Za-z_]", line):
            start, signature = number, line


def check_orphans(root: str, file: SourceFile) -> Iterator[Finding]:
    if not file.path.endswith(SOURCES):
        return
    folder = os.path.dirname(file.path)
    while True:
        lists = os.path.join(root, folder, "CMakeLists.txt")
        relative = os.path.relpath(file.path, folder) if folder else file.path
        if os.path.isfile(lists):
            with open(lists, encoding="utf-8") as cmake:
                if re.search(rf"(?<![\w./-]){re.escape(relative)}(?![\w.-])", cmake.read()):
                    return
        if not folder:
            break
        folder = os.path.dirname(folder)
    yield Finding(file.path, 1, "orphan", "in no CMakeLists.txt of its folder or one above")


CHECKS = (check_includes, check_banned_calls, check_namespaces, check_header_guard, check_size,
          check_function_length, check_orphans)
CPP_ONLY = (check_includes, check_banned_calls, check_namespaces)


def run(root: str) -> tuple[list[Finding], int]:
    """All findings of the tree at `root`, and the number of files looked at."""
    findings, count = [], 0
    for file in source_files(root):
        count += 1
        for check in CHECKS:
            if check in CPP_ONLY and not file.is_cpp:
                continue
            findings += [finding for finding in check(root, file)
                         if not file.allows(finding.line, finding.rule)]
    return findings, count


def main(arguments: list[str]) -> int:
    if len(arguments) > 1 or (arguments and arguments[0].startswith("-")):
        print(__doc__)
        return 0 if arguments[0] in ("-h", "--help") else 2
    root = arguments[0] if arguments else os.path.join(os.path.dirname(__file__), "..")
    findings, count = run(os.path.abspath(root))
    for finding in findings:
        print(finding)
    print(f"tidy: {count} files, {len(findings)} findings")
    if count == 0:
        print(f"tidy: no source files under {root}; is it the root of the project?")
    return 1 if findings or count == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
