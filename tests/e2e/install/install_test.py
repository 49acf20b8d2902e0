"""The installed tree is usable: a client and a kernel library are built against it, and run in it.

Runs in the environment that ctest gives it. Everything it makes lies in a temporary folder.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

SOURCE = os.environ["KAAS_TEST_SOURCE_DIR"]
BUILD = os.environ["KAAS_TEST_BINARY_DIR"]
CMAKE = os.environ["KAAS_TEST_CMAKE"]
CXX = os.environ["KAAS_TEST_CXX"]
LIBDIR = os.environ["KAAS_TEST_LIBDIR"]
SANITIZE = os.environ["KAAS_TEST_SANITIZE"]
# Programs that load sanitized libraries must be linked with the same runtime.
FLAGS = [f"-fsanitize={SANITIZE}"] if SANITIZE else []
CONSUMER = os.path.join(SOURCE, "tests/e2e/install/consumer")
OUT_OF_TREE = os.path.join(SOURCE, "kernels/examples/out_of_tree")
START_SECONDS = 30


def run(*command: str, **options) -> str:
    """Runs a command and returns what it printed; an error shows all of that."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if result.returncode != 0:
        raise AssertionError(f"{' '.join(command)} ended with {result.returncode}\n"
                             f"{result.stdout}\n{result.stderr}")
    return result.stdout


def build(source: str, folder: str, prefix: str) -> None:
    """Configures and builds a CMake project that looks for the package in `prefix`."""
    run(CMAKE, "-S", source, "-B", folder, "-DCMAKE_BUILD_TYPE=Release",
        f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_CXX_COMPILER={CXX}",
        f"-DCMAKE_CXX_FLAGS={' '.join(FLAGS)}", "-DCMAKE_CUDA_COMPILER=NOTFOUND")
    run(CMAKE, "--build", folder)


class InstallTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="kaas-install-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        installed = os.path.join(cls.folder, "installed")
        run(CMAKE, "--install", BUILD, "--prefix", installed)
        # Moved, so that nothing can depend on where it was installed.
        cls.prefix = os.path.join(cls.folder, "moved")
        os.rename(installed, cls.prefix)
        cls.start_daemon()
        build(CONSUMER, os.path.join(cls.folder, "consumer"), cls.prefix)

    @classmethod
    def start_daemon(cls):
        socket = os.path.join(cls.folder, "kaasd.sock")
        cls.environment = {**os.environ, "KAAS_SOCKET": socket}
        cls.log = os.path.join(cls.folder, "kaasd.log")
        with open(cls.log, "wb") as log:
            cls.daemon = subprocess.Popen([os.path.join(cls.prefix, "bin/kaasd")], stdout=log,
                                          stderr=log, env=cls.environment)
        cls.addClassCleanup(cls.stop_daemon)
        end = time.monotonic() + START_SECONDS
        while not os.path.exists(socket):
            if cls.daemon.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"kaasd does not listen\n{cls.daemon_log()}")
            time.sleep(0.01)

    @classmethod
    def stop_daemon(cls):
        if cls.daemon.poll() is None:
            cls.daemon.send_signal(signal.SIGTERM)
            cls.daemon.wait(START_SECONDS)

    @classmethod
    def daemon_log(cls) -> str:
        with open(cls.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def path(self, *parts: str) -> str:
        return os.path.join(self.prefix, *parts)

    def consume(self, program: str, library: str, kernel: str, **environment: str) -> str:
        try:
            return run(program, library, kernel, env={**self.environment, **environment})
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{self.daemon_log()}") from None

    def test_everything_is_where_users_look(self):
        for parts in (("bin/kaasd",), ("bin/kaas-executor",), ("bin/kaasctl",), ("bin/kaas-bench",),
                      ("bin/kaas-sim",), ("include/kaas/client.h",), ("include/kaas/kaas.h",),
                      ("include/kaas/kernel.h",), (LIBDIR, "libkaas_client.so"),
                      (LIBDIR, "libkaas_client.a"), (LIBDIR, "kaas/kernels/std.so"),
                      (LIBDIR, "pkgconfig/kaas.pc"),
                      (LIBDIR, "cmake/kaas/kaasConfig.cmake"),
                      ("share/bash-completion/completions/kaasctl",)):
            self.assertTrue(os.path.exists(self.path(*parts)), os.path.join(*parts))

    def test_a_client_is_built_with_the_cmake_package(self):
        program = os.path.join(self.folder, "consumer/consumer")
        self.assertEqual(self.consume(program, "std", "copy"), "1 2 3 ")

    @unittest.skipUnless(os.environ["KAAS_TEST_CUDA"] == "ON", "built without CUDA")
    def test_a_client_is_built_with_the_cuda_part(self):
        folder = os.path.join(self.folder, "cuda_consumer")
        build(os.path.join(SOURCE, "tests/e2e/install/cuda_consumer"), folder, self.prefix)
        printed = run(os.path.join(folder, "cuda_consumer"))
        self.assertRegex(printed, "no CUDA driver|which CUDA does not export|too old")

    def test_a_client_is_built_with_pkg_config(self):
        config = {**os.environ, "PKG_CONFIG_PATH": self.path(LIBDIR, "pkgconfig")}
        flags = run("pkg-config", "--cflags", "--libs", "kaas", env=config).split()
        program = os.path.join(self.folder, "by_pkg_config")
        run(CXX, "-std=c++20", *FLAGS, os.path.join(CONSUMER, "consumer.cc"), *flags, "-o", program)
        self.assertEqual(
            self.consume(program, "std", "copy", LD_LIBRARY_PATH=self.path(LIBDIR)), "1 2 3 ")

    def test_a_kernel_library_is_built_out_of_tree(self):
        folder = os.path.join(self.folder, "invert")
        build(OUT_OF_TREE, folder, self.prefix)
        program = os.path.join(self.folder, "consumer/consumer")
        self.assertEqual(self.consume(program, os.path.join(folder, "invert.so"), "invert"),
                         "254 253 252 ")


if __name__ == "__main__":
    unittest.main()
