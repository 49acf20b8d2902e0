// What of an ELF file is looked at before its code is loaded. The bytes may be anything: every
// offset is checked against their size.
// Threads: pure functions.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

// Fails with InvalidArgument unless `file` begins like a shared object for this machine; `what`
// names it in the message.
Result<void> check_shared_object(std::span<const std::byte> file, const std::string& what);

// Names of the functions that the file exports, sorted, without those of the linker. Empty when the
// file has no section table or the table does not make sense.
std::vector<std::string> exported_functions(std::span<const std::byte> file);

}  // namespace kaas
