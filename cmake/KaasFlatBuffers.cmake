# kaas_generate_flatbuffers(SCHEMA HEADER)
#   Adds the rule that makes HEADER (named <schema>_generated.h, as flatc names it) from SCHEMA.
function(kaas_generate_flatbuffers schema header)
  get_filename_component(directory "${header}" DIRECTORY)
  add_custom_command(
    OUTPUT "${header}"
    COMMAND "${CMAKE_COMMAND}" -E make_directory "${directory}"
    COMMAND "${KAAS_FLATC}" --cpp --cpp-std c++17 --scoped-enums --warnings-as-errors
            -o "${directory}" "${schema}"
    DEPENDS "${schema}"
    COMMENT "Generating ${header}"
    VERBATIM)
endfunction()
