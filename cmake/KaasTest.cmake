# Tests, one ctest entry per executable.
#
# kaas_add_test(NAME LABEL SOURCES file... [LIBS target...] [DEPENDS target...] [TIMEOUT seconds]
#               [ENVIRONMENT NAME=value...] [NO_MAIN])
#   A GoogleTest executable NAME with the label LABEL. `SOURCES` may be left out before the files.
#   DEPENDS   programs and kernel libraries that the test runs or loads.
#   TIMEOUT   seconds in a plain build, default 60; sanitizer builds get four times as long.
#   NO_MAIN   the test brings its own main.
#
# kaas_add_command_test(NAME LABEL COMMAND word... [TIMEOUT s] [ENVIRONMENT ...])
#   A test that is a command, such as a script.
#
# Both run with KAAS_TEST_SOURCE_DIR, KAAS_TEST_BINARY_DIR (of which bin/ holds the programs and
# lib/kaas/kernels the libraries) and KAAS_TEST_DATA_DIR in the environment: paths are not compiled
# in, so that one compiler cache serves all build directories. KAAS_DEVICES is host, so that a test
# does the same on every machine; one that is about GPUs says so by kaasd's --device.
#
# The target kaas_tests_<label> builds the tests of one label; kaas_tsan_tests those that run under
# ThreadSanitizer.

set(KAAS_TEST_LABELS unit contract sim fuzz e2e gpu bench)
foreach(label IN LISTS KAAS_TEST_LABELS)
  add_custom_target(kaas_tests_${label})
endforeach()
add_custom_target(kaas_tsan_tests)
add_dependencies(kaas_tsan_tests kaas_tests_unit kaas_tests_contract kaas_tests_sim)

if(KAAS_SANITIZE)
  set(KAAS_TEST_TIMEOUT_SCALE 4)
else()
  set(KAAS_TEST_TIMEOUT_SCALE 1)
endif()

# Sets label, timeout and environment of a registered test.
function(kaas_set_test_properties name label timeout environment)
  if(NOT label IN_LIST KAAS_TEST_LABELS)
    message(FATAL_ERROR "test ${name}: label is '${label}', allowed: ${KAAS_TEST_LABELS}")
  endif()
  if(NOT timeout)
    set(timeout 60)
  endif()
  math(EXPR timeout "${timeout} * ${KAAS_TEST_TIMEOUT_SCALE}")
  set(settings
    "KAAS_TEST_SOURCE_DIR=${PROJECT_SOURCE_DIR}"
    "KAAS_TEST_BINARY_DIR=${CMAKE_BINARY_DIR}"
    "KAAS_TEST_DATA_DIR=${PROJECT_SOURCE_DIR}/tests/data"
    "KAAS_DEVICES=host"
    "ASAN_OPTIONS=detect_stack_use_after_return=1:allocator_may_return_null=1"
    "UBSAN_OPTIONS=print_stacktrace=1"
    "TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:suppressions=${PROJECT_SOURCE_DIR}/cmake/tsan.supp")
  set_tests_properties(${name} PROPERTIES
    LABELS "${label}" TIMEOUT ${timeout} ENVIRONMENT "${settings};${environment}")
  if(label STREQUAL "bench")
    set_tests_properties(${name} PROPERTIES RUN_SERIAL ON)  # Nothing beside a measurement.
  endif()
endfunction()

# kaas_run_on_gpu(NAME): the test NAME once more, as NAME_on_gpu with the label gpu, on all GPUs.
function(kaas_run_on_gpu name)
  if(KAAS_HAVE_CUDA)
    add_test(NAME ${name}_on_gpu COMMAND ${name})
    kaas_set_test_properties(${name}_on_gpu gpu 300 "KAAS_DEVICES=cuda")
    add_dependencies(kaas_tests_gpu ${name})
  endif()
endfunction()

function(kaas_add_test name label)
  cmake_parse_arguments(PARSE_ARGV 2 arg "NO_MAIN" "TIMEOUT" "SOURCES;LIBS;DEPENDS;ENVIRONMENT")
  set(sources ${arg_SOURCES} ${arg_UNPARSED_ARGUMENTS})
  add_executable(${name} ${sources})
  target_link_libraries(${name} PRIVATE ${arg_LIBS} kaas_schema GTest::gtest Threads::Threads)
  if(KAAS_SANITIZE)
    target_compile_options(${name} PRIVATE -O0)  # What it tests is optimised: this is half the time.
  endif()
  if(NOT arg_NO_MAIN)
    target_link_libraries(${name} PRIVATE GTest::gtest_main)
  endif()
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${CMAKE_BINARY_DIR}/tests/bin")
  add_test(NAME ${name} COMMAND ${name})
  kaas_set_test_properties(${name} ${label} "${arg_TIMEOUT}" "${arg_ENVIRONMENT}")
  if(arg_DEPENDS)
    add_dependencies(${name} ${arg_DEPENDS})
  endif()
  add_dependencies(kaas_tests_${label} ${name})
endfunction()

function(kaas_add_command_test name label)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "TIMEOUT" "COMMAND;ENVIRONMENT")
  add_test(NAME ${name} COMMAND ${arg_COMMAND})
  kaas_set_test_properties(${name} ${label} "${arg_TIMEOUT}" "${arg_ENVIRONMENT}")
endfunction()
