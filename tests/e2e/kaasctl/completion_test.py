"""Completion of kaasctl's command line, by kaasctl itself and in bash."""

import os
import subprocess
import unittest

from daemon_case import KAASCTL, SOURCE, DaemonCase


class CompletionTest(DaemonCase):

    def test_completion_asks_the_daemon(self):
        self.done("deploy", "example0.json", "--name", "completed")
        self.done("kv", "put", "completed/key", self.write("key.bin", b"x"))
        candidates = {
            ("st",): {"status"},
            ("kv", "s"): {"share", "stat"},
            ("call", "compl"): {"completed"},
            ("undeploy", "compl"): {"completed"},
            ("suspend", ""): {"host", "all"},
            ("resume", "h"): {"host"},
            ("suspend", "host", "--f"): {"--force"},
            ("call", "completed", ""): {"in=", "out=", "width=", "height="},
            ("call", "completed", "in=@"): {"@files"},
            ("call", "completed", "in=key:compl"): {"in=key:completed/key"},
            ("run", "f.json", "in=key:compl"): {"in=key:completed/key"},
            ("run", "f.json", "in=in:key:"): {"@files"},
            ("kv", "get", "completed/"): {"completed/key"},
            ("kv", "get", "completed/key", ""): {"@files"},
            ("kv", "share", "completed/key", "--r"): {"--revoke"},
            ("run", "f.json", "--rep"): {"--repeat"},
            ("run", ""): {"@files"},
            ("run", "f.json", "--repeat", ""): set(),
            ("--socket", self.path("nobody.sock"), "call", ""): set(),
        }
        for words, expected in candidates.items():
            self.assertEqual(set(self.done("__complete", *words).split()), expected, words)
        self.done("undeploy", "completed")
        self.done("kv", "rm", "completed/key")

    def test_completion_works_in_bash(self):
        script = self.write("completion.bash", self.done("completion", "bash").encode())
        with open(os.path.join(SOURCE, "tools/completion/kaasctl.bash"), "rb") as file:
            self.assertEqual(self.read("completion.bash"), file.read())
        self.write("frame.rgb", b"x")
        for key in ("bash/key", "bash/my key", "bash/it's:1"):
            self.done("kv", "put", key, "frame.rgb")
        for line, expected in ((f"{KAASCTL} stat", ["status"]),
                               (f"{KAASCTL} kv ", ["put", "get", "ls", "stat", "rm", "share"]),
                               (f"{KAASCTL} deploy fram", ["frame.rgb"]),
                               (f"{KAASCTL} call f in=@fram", ["@frame.rgb"]),
                               (f"{KAASCTL} call f in=in:fram", ["frame.rgb"]),
                               (f"{KAASCTL} call f in=key:bash/k", ["bash/key"]),
                               (f"{KAASCTL} kv get bash/m", ["bash/my\\ key"]),
                               (f"{KAASCTL} kv get bash/my\\ ", ["bash/my\\ key"]),
                               (f"{KAASCTL} call f in=key:bash/my\\ k", ["bash/my\\ key"]),
                               (f"{KAASCTL} kv get bash/i", ["bash/it\\'s:1"]),
                               (f"{KAASCTL} kv rm bash/key bash/my\\ key bash/k", ["bash/key"])):
            shell = (f'source "{script}"; COMP_LINE=$1; COMP_POINT=${{#1}}; _kaasctl; '
                     'printf "%s\\n" "${COMPREPLY[@]}"')
            result = subprocess.run(["bash", "-c", shell, "bash", line], capture_output=True,
                                    check=False, text=True, cwd=self.folder,
                                    env=self.environment())
            self.assertEqual(sorted(result.stdout.splitlines()), sorted(expected),
                             (line, result.stderr))
        self.done("kv", "rm", "bash/key", "bash/my key", "bash/it's:1")


if __name__ == "__main__":
    unittest.main()
