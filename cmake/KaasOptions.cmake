# Compiler settings that hold for every target, and where outputs go.

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Build type" FORCE)
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib")
# Where kernel libraries are built; the installed tree has the same shape, so that a program finds
# them at ../lib/kaas/kernels from its own directory in both.
set(KAAS_KERNEL_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/lib/kaas/kernels")
# An installed program finds the installed libraries, wherever the tree was put.
set(CMAKE_INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
# And a built one the built libraries, so that a build may be moved, or staged (tools/stage).
set(CMAKE_BUILD_RPATH_USE_ORIGIN ON)
# In every program, also in one that needs no library of ours: tools/stage sets another text there.
set(CMAKE_BUILD_RPATH "$ORIGIN/../lib" "$ORIGIN/../../lib")

find_program(KAAS_CCACHE ccache)
mark_as_advanced(KAAS_CCACHE)
if(KAAS_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${KAAS_CCACHE}")
endif()

# Sign conversions are left out: sizes from POSIX and FlatBuffers are a mixture of signs, and the
# casts that silence them would hide the narrowing ones that matter.
add_compile_options(
  "$<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wconversion;-Wno-sign-conversion>"
  "$<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer>")
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # Checks the lock annotations, which g++ ignores.
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wthread-safety;-Werror=thread-safety>")
endif()
if(KAAS_WERROR)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Werror>")
endif()

set(kaas_known_sanitizers "" "address,undefined" "address" "undefined" "thread")
if(NOT KAAS_SANITIZE IN_LIST kaas_known_sanitizers)
  message(FATAL_ERROR
          "KAAS_SANITIZE is '${KAAS_SANITIZE}', allowed: empty, address,undefined, thread")
endif()
if(KAAS_SANITIZE)
  add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${KAAS_SANITIZE}>"
                      "$<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=all>")
  add_link_options("-fsanitize=${KAAS_SANITIZE}")
  # g++ 12 cannot instrument atomic_thread_fence for TSan and says so; code that relies on a fence
  # states its order to TSan itself. With inlined sanitizer checks its flow analysis also reports
  # uninitialised uses that do not exist.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wno-maybe-uninitialized>")
    if(KAAS_SANITIZE STREQUAL "thread")
      add_compile_options("$<$<COMPILE_LANGUAGE:CXX>:-Wno-tsan>")
    endif()
  endif()
endif()

if(KAAS_FUZZ AND NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "KAAS_FUZZ needs clang (libFuzzer); the compiler is ${CMAKE_CXX_COMPILER_ID}. "
                      "Configure with -DCMAKE_CXX_COMPILER=clang++")
endif()
if(KAAS_FUZZ)
  # Everything that a target calls reports its coverage; only the targets link libFuzzer.
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
