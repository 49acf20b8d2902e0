# What the project is built from. All of it is in Debian 12 and Ubuntu 24.04; tools/setup installs it.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(TBB REQUIRED)
find_package(spdlog REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(PNG REQUIRED)
pkg_check_modules(tomlplusplus REQUIRED IMPORTED_TARGET tomlplusplus)
# Optional: the executors' system call filter. Absent: they run without, and say so.
pkg_check_modules(seccomp IMPORTED_TARGET libseccomp)
if(NOT seccomp_FOUND)
  message(WARNING "libseccomp is not found: executors get no system call filter")
endif()
# Optional: readiness and watchdog messages to systemd. Absent: kaasd sends none.
pkg_check_modules(systemd IMPORTED_TARGET libsystemd)

# Boost.Interprocess and FlatBuffers are used as headers only. Debian and Ubuntu name their
# FlatBuffers packages and targets differently, so header and compiler are looked for directly.
find_package(Boost 1.74 REQUIRED)
find_path(KAAS_FLATBUFFERS_INCLUDE_DIR flatbuffers/flatbuffers.h REQUIRED)
find_program(KAAS_FLATC flatc REQUIRED)
mark_as_advanced(KAAS_FLATBUFFERS_INCLUDE_DIR KAAS_FLATC)

if(KAAS_TESTS)
  find_package(GTest REQUIRED)
  find_package(benchmark REQUIRED)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
endif()
