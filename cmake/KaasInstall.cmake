# Names that the install rules of all folders share, and the CMake package `kaas`.
#
# A folder installs its own targets; what users link goes into the export set `kaas`:
#   install(TARGETS kaas_x EXPORT kaas ...)   with EXPORT_NAME x becomes kaas::x

include(CMakePackageConfigHelpers)

set(KAAS_INSTALL_CMAKEDIR "${CMAKE_INSTALL_LIBDIR}/cmake/kaas")
set(KAAS_INSTALL_KERNELDIR "${CMAKE_INSTALL_LIBDIR}/kaas/kernels")

# The package and pkg-config files. To be called once, when all targets are known.
function(kaas_install_package)
  configure_package_config_file(
    "${PROJECT_SOURCE_DIR}/cmake/kaasConfig.cmake.in" "${CMAKE_BINARY_DIR}/kaasConfig.cmake"
    INSTALL_DESTINATION "${KAAS_INSTALL_CMAKEDIR}"
    PATH_VARS KAAS_INSTALL_KERNELDIR)
  write_basic_package_version_file(
    "${CMAKE_BINARY_DIR}/kaasConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
  install(EXPORT kaas NAMESPACE kaas:: FILE kaasTargets.cmake
          DESTINATION "${KAAS_INSTALL_CMAKEDIR}")
  install(FILES "${CMAKE_BINARY_DIR}/kaasConfig.cmake"
                "${CMAKE_BINARY_DIR}/kaasConfigVersion.cmake"
                "${PROJECT_SOURCE_DIR}/cmake/KaasKernels.cmake"
          DESTINATION "${KAAS_INSTALL_CMAKEDIR}")

  # The prefix is found from where the file lies, so the tree may be moved.
  set(pkgconfig_dir "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
  file(RELATIVE_PATH KAAS_PKGCONFIG_TO_PREFIX "/${pkgconfig_dir}" "/")
  string(REGEX REPLACE "/$" "" KAAS_PKGCONFIG_TO_PREFIX "${KAAS_PKGCONFIG_TO_PREFIX}")
  configure_file("${PROJECT_SOURCE_DIR}/cmake/kaas.pc.in" "${CMAKE_BINARY_DIR}/kaas.pc" @ONLY)
  install(FILES "${CMAKE_BINARY_DIR}/kaas.pc" DESTINATION "${pkgconfig_dir}")
  install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DOCDIR}")
endfunction()
