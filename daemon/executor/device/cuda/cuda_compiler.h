// CUDA C++ to a cubin, by NVRTC, which is found when it is first needed, and a cache of results.
// Reference: the NVRTC manual.
// Threads: any; a compilation takes tenths of a second to minutes of the calling thread.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "daemon/executor/device/compile_cache.h"
#include "daemon/executor/device/device.h"
#include "daemon/executor/device/source_options.h"

namespace kaas {

// Compiles `source`, whose file is `path`, with these options.
using CompileFunction = std::function<Result<std::vector<std::byte>>(
    const std::string& source, const std::string& path, const std::vector<std::string>& options)>;

// The compiler of this machine: who it is, which becomes part of a cache's key, and what it does.
struct Compiler {
  std::string identity;  // "NVRTC 13.0 of /usr/local/cuda/lib64/libnvrtc.so.13"
  CompileFunction compile;
};

// $KAAS_NVRTC, a file, else libnvrtc by name and in the toolkit's usual folders. Unavailable: lists
// what was looked for.
Result<Compiler> find_cuda_compiler();

// Compiles a source for an architecture (90 for sm_90), or takes it from the cache.
// InvalidArgument: its options or its code are wrong; the message has the compiler's log.
Result<std::vector<std::byte>> compile_cuda(const ModuleCode& code, int architecture,
                                            const Compiler& compiler, const CompileCache& cache);
// With the compiler and the cache of this machine and user.
Result<std::vector<std::byte>> compile_cuda(const ModuleCode& code, int architecture);

}  // namespace kaas
