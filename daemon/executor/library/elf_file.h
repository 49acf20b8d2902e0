// What of an ELF file is looked at before its code is loaded. The bytes may be anything: every
// offset is checked against their size.
// Threads: pure functions.
#pragma once

#include <elf.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

// Fails with InvalidArgument unless `file` begins like a shared object for this machine, and all
// that a loader maps lies inside: it would fault where a file was cut off. `what` names it in the
// message.
Result<void> check_shared_object(std::span<const std::byte> file, const std::string& what);

// Whether `file` begins like an ELF file of any kind.
bool is_elf(std::span<const std::byte> file) noexcept;

// The 64-bit little-endian ELF header; nullopt when `file` has none.
std::optional<Elf64_Ehdr> elf_header(std::span<const std::byte> file);

// InvalidArgument unless every section of `file`, and every program header's range, lies inside:
// a reader that is not told the size, such as a driver, then stays inside, too.
Result<void> check_sections_inside(std::span<const std::byte> file, const std::string& what);

// Names of the variables that a cubin defines, sorted, whoever may see them.
std::vector<std::string> defined_variables(std::span<const std::byte> file);

// Names of the functions that the file exports, sorted, without those of the linker. Empty when the
// file has no section table or the table does not make sense.
std::vector<std::string> exported_functions(std::span<const std::byte> file);

}  // namespace kaas
