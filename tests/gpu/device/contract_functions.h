/* Between contract_kernels.cu, which nvcc compiles as C++17, and the rest. */
#pragma once

#include <kaas/kernel_abi.h>
#include <stddef.h>

extern "C" {
int contract_add_two(int grid, int block, void** buffers);
int contract_throwing(const kaas_launch*, void* const*, void*, void*, char*, size_t);
int contract_refusing(const kaas_launch*, void* const*, void*, void*, char* error, size_t bytes);
const void* contract_entry(const char* name);
const void* contract_ending_entry(void); /* Of count_blocks. */
int contract_resolve(const void* entry, void** function, char* error, size_t bytes);
}
