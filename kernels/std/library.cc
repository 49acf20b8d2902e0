// The library that ships with KaaS; its kernels are in the files beside this one.
#include <kaas/kernel.h>

KAAS_LIBRARY("std");
