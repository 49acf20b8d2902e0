# Names shared by the install rules of all folders.

set(KAAS_INSTALL_CMAKEDIR "${CMAKE_INSTALL_LIBDIR}/cmake/kaas")
set(KAAS_INSTALL_KERNELDIR "${CMAKE_INSTALL_LIBDIR}/kaas/kernels")
