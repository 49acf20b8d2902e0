"""The schema still reads what the released version wrote: fields are appended, never moved.

kaas_v1.fbs is a copy of schema/kaas.fbs as of protocol version 1. It changes only when the protocol
version does.
"""

import os
import re
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
RELEASED = os.path.join(HERE, "kaas_v1.fbs")
CURRENT = os.path.join(HERE, "../../schema/kaas.fbs")
FLATC = "flatc"


def conform(schema: str) -> subprocess.CompletedProcess:
    return subprocess.run([FLATC, "--conform", RELEASED, schema],
                          capture_output=True, text=True, check=False)


def edited(edit) -> subprocess.CompletedProcess:
    """What flatc says of the current schema after the first table's body went through `edit`."""
    with open(CURRENT, encoding="utf-8") as file:
        text = file.read()
    table = re.search(r"table \w+ \{\n(.*?)\n\}", text, re.DOTALL)
    text = text[:table.start(1)] + edit(table.group(1)) + text[table.end(1):]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "kaas.fbs")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return conform(path)


class ConformTest(unittest.TestCase):

    def test_the_schema_conforms_to_the_released_one(self):
        result = conform(CURRENT)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_an_appended_field_conforms(self):
        result = edited(lambda body: body + "\n  appended_later:ulong;")
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_a_field_put_first_is_refused(self):
        self.assertNotEqual(edited(lambda body: "  put_first:ulong;\n" + body).returncode, 0)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        FLATC = sys.argv.pop(1)
    unittest.main()
