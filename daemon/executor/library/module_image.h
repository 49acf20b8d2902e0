// What a library file is, by its content, and what can be told of CUDA code before a driver sees
// it. The bytes may be anything: every offset is checked against their size.
// Threads: pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

enum class LibraryForm : std::uint8_t {
  SharedObject,  // An ELF file for a processor.
  Cubin,         // An ELF file for a GPU.
  Fatbin,
  Ptx,
  CudaSource,  // Text, by its name: the only form that content does not tell.
  Unknown
};

LibraryForm recognise(std::span<const std::byte> file, std::string_view path);

struct ModuleImage {
  std::string description;  // "a cubin for sm_90", for errors.
  // __constant__ and __device__ variables by their mangled names, sorted.
  std::vector<std::string> variables;
  bool lists_variables = true;  // False when a compressed part may have more.
};

// Looks into a cubin, a fatbin or PTX. InvalidArgument when a part of it lies outside: a driver is
// told where an image begins, not where it ends. `what` names it in the message.
Result<ModuleImage> inspect_image(std::span<const std::byte> image, const std::string& what);

}  // namespace kaas
