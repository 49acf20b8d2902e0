# kaas_add_kernel_library(NAME SOURCES file... [OUTPUT_NAME name] [LIBS target...])
#
# Builds a wrapper library that a KaaS executor loads: <name>.so without a "lib" prefix. Used by the
# project itself and, installed beside the CMake package, by third parties after find_package(kaas).
#
# -fno-gnu-unique: with g++'s unique symbols two versions of one library would share their static
# objects even when loaded from different files, so a new version would run on the old one's state.
function(kaas_add_kernel_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "OUTPUT_NAME" "SOURCES;LIBS")
  if(NOT arg_SOURCES)
    message(FATAL_ERROR "kaas_add_kernel_library(${name}): SOURCES is empty")
  endif()
  if(NOT arg_OUTPUT_NAME)
    set(arg_OUTPUT_NAME ${name})
  endif()
  add_library(${name} MODULE ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE kaas::kernel ${arg_LIBS})
  target_compile_features(${name} PRIVATE cxx_std_20)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${name} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:-fno-gnu-unique>")
  endif()
  set_target_properties(${name} PROPERTIES
    PREFIX "" OUTPUT_NAME "${arg_OUTPUT_NAME}"
    CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  if(KAAS_KERNEL_OUTPUT_DIRECTORY)
    set_target_properties(${name} PROPERTIES
      LIBRARY_OUTPUT_DIRECTORY "${KAAS_KERNEL_OUTPUT_DIRECTORY}")
  endif()
endfunction()
