# kaas_add_kernel_library(NAME SOURCES file... [OUTPUT_NAME name] [LIBS target...] [HOST_ONLY])
#
# Builds a wrapper library that a KaaS executor loads, from sources that use <kaas/kernel.h>:
#   target NAME       <name>.so, for the host
#   target NAME_cuda  <name>.cuda.so, for CUDA from the same sources, if the project has enabled the
#                     language CUDA and HOST_ONLY is not given
# <name> is OUTPUT_NAME, or NAME. LIBS are linked into both.
#
# Used by KaaS itself and, installed beside the CMake package, by third parties after
# find_package(kaas). Both libraries go into KAAS_KERNEL_OUTPUT_DIRECTORY if that is set, else into
# the current build folder.
#
# -fno-gnu-unique: with g++'s unique symbols two versions of one library would share their static
# objects even when loaded from different files, so a new version would run on the old one's state.

# Settings that the host and the CUDA library have in common.
function(kaas_set_kernel_library_properties target output_name)
  target_compile_features(${target} PRIVATE cxx_std_17)
  set_target_properties(${target} PROPERTIES
    PREFIX "" OUTPUT_NAME "${output_name}" INSTALL_RPATH ""
    CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON
    CXX_VISIBILITY_PRESET hidden CUDA_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  if(KAAS_KERNEL_OUTPUT_DIRECTORY)
    set_target_properties(${target} PROPERTIES
      LIBRARY_OUTPUT_DIRECTORY "${KAAS_KERNEL_OUTPUT_DIRECTORY}")
  endif()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE
      "$<$<COMPILE_LANGUAGE:CXX>:-fno-gnu-unique>"
      "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-fno-gnu-unique>")
  endif()
  # Kernels are loops over threads, which g++ vectorises in full from -O3 on.
  target_compile_options(${target} PRIVATE
    "$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:Release,RelWithDebInfo>>:-O3>")
endfunction()

function(kaas_add_kernel_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "HOST_ONLY" "OUTPUT_NAME" "SOURCES;LIBS")
  if(NOT arg_SOURCES)
    message(FATAL_ERROR "kaas_add_kernel_library(${name}): SOURCES is empty")
  endif()
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR
            "kaas_add_kernel_library(${name}): unknown arguments '${arg_UNPARSED_ARGUMENTS}'")
  endif()
  if(NOT arg_OUTPUT_NAME)
    set(arg_OUTPUT_NAME ${name})
  endif()
  add_library(${name} MODULE ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE kaas::kernel ${arg_LIBS})
  kaas_set_kernel_library_properties(${name} "${arg_OUTPUT_NAME}")

  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  if(arg_HOST_ONLY OR NOT "CUDA" IN_LIST languages)
    return()
  endif()
  # CMake compiles a source file in one language per folder; so the CUDA library is built from
  # files that include the same sources.
  set(cuda_sources "")
  foreach(source IN LISTS arg_SOURCES)
    get_filename_component(path "${source}" ABSOLUTE)
    get_filename_component(stem "${source}" NAME)
    set(cuda_source "${CMAKE_CURRENT_BINARY_DIR}/${name}_cuda/${stem}.cu")
    file(CONFIGURE OUTPUT "${cuda_source}" CONTENT "#include \"${path}\"\n")
    list(APPEND cuda_sources "${cuda_source}")
  endforeach()
  add_library(${name}_cuda MODULE ${cuda_sources})
  target_link_libraries(${name}_cuda PRIVATE kaas::kernel ${arg_LIBS})
  kaas_set_kernel_library_properties(${name}_cuda "${arg_OUTPUT_NAME}.cuda")
endfunction()
