"""Each rule of tools/tidy.py finds its fault in a made-up tree, and nothing in one without."""

import os
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../tools"))
import tidy  # noqa: E402

# A small tree without findings; cases add to it.
CLEAN = {
    "schema/CMakeLists.txt": "add_library(s ipc/ring.cc)\n",
    "schema/ipc/ring.h": "#pragma once\nnamespace kaas {\n}\n",
    "schema/ipc/ring.cc": '#include "schema/ipc/ring.h"\n#include "schema/kaas_generated.h"\n',
    "client/include/kaas/client.h": "#pragma once\n#include <string>\n",
    "client/src/wire.h": '#pragma once\n#include "schema/ipc/ring.h"\n',
    "kernels/include/kaas/kernel.h": "#pragma once\n#include <kaas/kernel_abi.h>\n",
    "kernels/include/kaas/kernel_abi.h": "#pragma once\n#include <cuda_runtime.h>\n",
    "daemon/CMakeLists.txt": "add_library(d main.cc)\n",
    "daemon/main.cc": '#include "daemon/plan/planner.h"\n#include "daemon/reply/replier.h"\n',
    "daemon/flow/plan.h": '#pragma once\n#include "schema/ipc/ring.h"\n',
    "daemon/plan/planner.h": '#pragma once\n#include "daemon/flow/plan.h"\n'
                             '#include "daemon/store/store.h"\n',
    "daemon/reply/replier.h": '#pragma once\n#include "daemon/flow/plan.h"\n',
    "daemon/store/store.h": "#pragma once\n",
    "daemon/executor/library/library.h": "#pragma once\n#include <kaas/kernel_abi.h>\n"
                                         '#include "daemon/flow/plan.h"\n',
    "daemon/executor/device/cuda.h": "#pragma once\n#include <cuda_runtime.h>\n",
    "tools/kaasctl/run.h": "#pragma once\n#include <kaas/client.h>\n",
    "tests/unit/store.h": '#pragma once\n#include "daemon/store/store.h"\n',
}


class TidyTest(unittest.TestCase):

    def findings(self, files: dict[str, str]) -> list[tidy.Finding]:
        with tempfile.TemporaryDirectory() as root:
            for path, text in {**CLEAN, **files}.items():
                os.makedirs(os.path.join(root, os.path.dirname(path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            return tidy.run(root)[0]

    def expect(self, rule: str, path: str, text: str, hint: str = "") -> None:
        """Adding the file gives exactly one finding, of this rule, whose text has the hint."""
        found = self.findings({path: text})
        self.assertEqual([(f.path, f.rule) for f in found], [(path, rule)],
                         "\n".join(map(str, found)))
        self.assertIn(hint, found[0].text)

    def expect_clean(self, path: str, text: str) -> None:
        self.assertEqual(list(map(str, self.findings({path: text}))), [])

    def expect_include_fault(self, path: str, include: str, hint: str = "") -> None:
        self.expect("include-rule", path, f"#pragma once\n#include {include}\n", hint)

    def test_the_clean_tree_has_no_findings(self):
        self.assertEqual(self.findings({}), [])

    def test_layers_include_downwards_only(self):
        self.expect_include_fault("schema/x.h", '"daemon/flow/plan.h"', "schema/ may include")
        self.expect_include_fault("client/src/x.h", '"daemon/flow/plan.h"', "client, schema")
        self.expect_include_fault("daemon/store/x.h", "<kaas/client.h>", "daemon, schema")
        self.expect_include_fault("kernels/std/x.h", '"schema/ipc/ring.h"', "kernels only")
        self.expect_include_fault("tools/kaasctl/x.h", '"daemon/store/store.h"')
        self.expect_include_fault("tools/kaasctl/x.h", '"client/src/wire.h"', "public headers")

    def test_installed_headers_include_installed_headers_only(self):
        self.expect_include_fault("client/include/kaas/x.h", '"schema/ipc/ring.h"', "installed")

    def test_only_the_executor_sees_the_kernel_abi_and_nothing_more_of_kernels(self):
        self.expect_include_fault("daemon/store/x.h", "<kaas/kernel_abi.h>")
        self.expect_include_fault("daemon/executor/run/x.h", "<kaas/kernel.h>")

    def test_tools_see_kernels_only_where_they_are_or_launch_some(self):
        include = "#pragma once\n#include <kaas/kernel.h>\n"
        self.expect_clean("tools/bench/kernels/x.h", include)
        self.expect_clean("tools/bench/direct/x.h", include)
        self.expect("include-rule", "tools/bench/x.h", include, "client, schema, tools only")
        self.expect_include_fault("tools/bench/kernels/x.h", '"daemon/store/store.h"')

    def test_stages_never_include_one_another(self):
        self.expect_include_fault("daemon/reply/x.h", '"daemon/plan/planner.h"', "stages")
        self.expect_include_fault("daemon/store/x.h", '"daemon/plan/planner.h"', "stages")
        self.expect_include_fault("daemon/flow/x.h", '"daemon/store/store.h"', "values")

    def test_the_wiring_includes_every_stage(self):
        self.expect_clean("daemon/dispatch/x.h", '#pragma once\n#include "daemon/plan/planner.h"\n')

    def test_the_two_programs_share_flow_only(self):
        self.expect_include_fault("daemon/store/x.h", '"daemon/executor/device/cuda.h"', "two")
        self.expect_include_fault("daemon/executor/run/x.h", '"daemon/store/store.h"', "two")

    def test_cuda_headers_stay_in_their_folders(self):
        for header in ("cuda.h", "cuda_runtime.h", "cuda_runtime_api.h", "cublas_v2.h",
                       "cuda/stream_ref", "cooperative_groups.h", "nvrtc.h"):
            self.expect("cuda-header", "daemon/store/x.h", f"#pragma once\n#include <{header}>\n")
            self.expect("cuda-header", "tools/bench/x.h", f"#pragma once\n#include <{header}>\n")
        self.expect_clean("client/cuda/src/x.h", "#pragma once\n#include <cuda.h>\n")
        self.expect_clean("tools/bench/direct/x.h", "#pragma once\n#include <cuda_runtime.h>\n")

    def test_the_cuda_part_of_the_client_is_installed_with_the_client(self):
        part = {"client/cuda/include/kaas/cuda.h": "#pragma once\n#include <kaas/client.h>\n"}
        self.assertEqual(self.findings(part), [])
        found = self.findings({**part, "client/include/kaas/x.h":
                               "#pragma once\n#include <kaas/cuda.h>\n"})
        self.assertEqual([f.rule for f in found], ["include-rule"])

    def test_includes_are_named_from_the_root(self):
        self.expect("include-path", "schema/ipc/x.h", '#pragma once\n#include "ring.h"\n',
                    '"schema/ipc/ring.h"')
        self.expect("include-path", "schema/ipc/x.h", '#pragma once\n#include "absent.h"\n',
                    "not in the tree")

    def test_banned_calls_name_their_replacement(self):
        for call, hint in (("shm_open(n, 0, 0)", "memfd"), ("assert(x)", "KAAS_CHECK"),
                           ("std::rand()", "<random>"), ("sprintf(b, f)", "snprintf"),
                           ("strcpy(a, b)", "std::string"), ("system(c)", "posix_spawn"),
                           ("atoi(s)", "from_chars"), ("alloca(8)", "std::vector"),
                           ("localtime(&t)", "localtime_r"), ("strtok(a, b)", "string_view")):
            self.expect("banned-call", "client/src/x.h", f"#pragma once\nint y = {call};\n", hint)

    def test_tests_do_not_sleep(self):
        for call in ("std::this_thread::sleep_for(1s)", "usleep(1)", "sleep(1)",
                     "nanosleep(&t, 0)"):
            self.expect("banned-call", "tests/unit/x.h", f"#pragma once\nint y = ({call}, 1);\n",
                        "event")

    def test_comments_and_literals_are_not_calls(self):
        self.expect_clean("client/src/x.h", '#pragma once\n// strcpy(a, b)\n/* atoi(s) */\n'
                          'auto s = "sprintf(x)";\nauto r = R"(strcat(a, b))";\n'
                          "static_assert(true);\nint n = 1'000;\n")

    def test_a_line_excuses_itself_only_with_a_reason(self):
        line = "#pragma once\nint f = shm_open(n, 0, 0);  // tidy: allow(banned-call)"
        self.expect("banned-call", "daemon/store/x.h", line + "\n")
        other_rule = line.replace("banned-call", "size")
        self.expect("banned-call", "daemon/store/x.h", other_rule + " why\n")
        self.expect_clean("daemon/store/x.h", line + " clients name these\n")
        self.expect_clean("daemon/store/x.h", "#pragma once\n// tidy: allow(banned-call) named\n"
                          "int f = shm_open(n, 0, 0);\n")

    def test_there_are_two_namespaces(self):
        self.expect("namespace", "daemon/store/x.h", "#pragma once\nnamespace kaas::detail {\n}\n")
        self.expect_clean("daemon/store/x.h", "#pragma once\nnamespace kaas::wire {\n}\n"
                          "inline namespace v1 {\n}\n"
                          "namespace {\n}\nnamespace fs = std::filesystem;\n")

    def test_headers_have_a_guard(self):
        self.expect("header-guard", "schema/x.h", "#include <string>\n")
        self.expect_clean("schema/x.h", "#ifndef KAAS_X\n#define KAAS_X\n#endif\n")

    def test_files_and_lines_have_limits(self):
        self.expect("file-length", "schema/x.h", "#pragma once\n" + "//\n" * 600, "limit 600")
        self.expect_clean("tests/unit/x.h", "#pragma once\n" + "//\n" * 799)
        self.expect("file-length", "tests/unit/x.h", "#pragma once\n" + "//\n" * 800, "limit 800")
        self.expect("line-length", "schema/x.h", "#pragma once\n//" + "x" * 99 + "\n", "101")
        self.expect_clean("schema/x.h", "#pragma once\n//" + "é" * 98 + "\n")
        self.expect("line-length", "tools/x", "#!/bin/sh\n#" + "x" * 100 + "\n")

    def test_functions_have_a_limit(self):
        function = "#pragma once\nnamespace kaas {\nint f(int a) {\n" + "  ++a;\n" * 69 + "}\n}\n"
        self.expect("function-length", "schema/x.h", function, "71 lines")
        self.expect_clean("schema/x.h", function.replace("  ++a;\n", "", 1))

    def test_every_source_belongs_to_a_target(self):
        self.expect("orphan", "daemon/store/lost.cc", "")
        self.expect("orphan", "schema/ring.cc", "")  # ipc/ring.cc is listed, this one is not.
        found = self.findings({"daemon/store/here.cc": "",
                               "daemon/CMakeLists.txt": "add_library(d main.cc store/here.cc)\n"})
        self.assertEqual(found, [])

    def test_an_empty_root_is_not_a_clean_tree(self):
        with tempfile.TemporaryDirectory() as root:
            self.assertEqual(tidy.main([root]), 1)


if __name__ == "__main__":
    unittest.main()
