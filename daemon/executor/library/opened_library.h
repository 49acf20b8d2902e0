// A library whose code is in this process: its kernels, its hooks, how to find a kernel by name.
// Threads: one at a time, whose context is the device's; entries are shared for reading with the
//          threads that run kernels.
#pragma once

#include <kaas/kernel_abi.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/executor/device/device.h"
#include "daemon/executor/device/kernel_entry.h"
#include "daemon/executor/library/code_names.h"
#include "daemon/executor/library/library_copy.h"
#include "daemon/executor/library/module_image.h"
#include "schema/ipc/handle.h"
#include "schema/ipc/result.h"

namespace kaas {

// Code loaded from a descriptor. Owns both, until it is unloaded. Move-only.
class LoadedModule {
 public:
  LoadedModule() noexcept = default;
  // Loads a sealed copy of a library. `what` names it in errors.
  static Result<LoadedModule> load(Descriptor copy, const std::string& what);
  LoadedModule(LoadedModule&& other) noexcept;
  LoadedModule& operator=(LoadedModule&& other) noexcept;
  ~LoadedModule();

  // The function of that name that this module itself defines; null if it does not.
  [[nodiscard]] void* function(const std::string& name) const noexcept;

 private:
  void* handle_ = nullptr;
  Descriptor copy_;
};

// The library's open hook has run; its close hook runs when the last owner lets go.
class OpenedLibrary {
 public:
  // Checks the table that a library returned, and opens it. VersionMismatch names both versions.
  // `path` names the library in errors; `module` is kept while the library is open.
  static Result<std::shared_ptr<OpenedLibrary>> from_table(const kaas_library* table,
                                                           LoadedModule module,
                                                           const DeviceLimits& device,
                                                           const std::string& path);
  // A library of the original form: any of the functions it exports can be called as a kernel.
  static std::shared_ptr<OpenedLibrary> of_original_form(LoadedModule module,
                                                         std::vector<std::string> functions,
                                                         const std::string& path);
  // Code of the device's own. A kernel is found by its mangled name or as in C++, see find_name().
  // "@NAME" is a kernel that copies its one buffer to the variable NAME. Since whoever opens the
  // same file shares its variables, a module that has any keeps state.
  static std::shared_ptr<OpenedLibrary> of_module(std::shared_ptr<DeviceModule> module,
                                                  const std::string& path);
  ~OpenedLibrary();
  OpenedLibrary(const OpenedLibrary&) = delete;
  OpenedLibrary& operator=(const OpenedLibrary&) = delete;

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] bool stateful() const noexcept { return stateful_; }
  [[nodiscard]] std::vector<std::string> kernel_names() const;

  // The kernel of that name. `first_use` is set when nobody asked for it before. NotFound names the
  // nearest kernels. The entry lives as long as the library.
  Result<const KernelEntry*> find(std::string_view kernel, bool& first_use);

 private:
  OpenedLibrary(std::string name, LoadedModule module) noexcept
      : name_(std::move(name)), module_(std::move(module)) {}
  Result<void> read_table(const kaas_library& table, const std::string& path);
  Result<void> run_open_hook(const kaas_library& table, const DeviceLimits& device,
                             const std::string& path);

  struct Kernel {
    KernelEntry entry;
    bool used = false;
  };
  // By the mangled name of what `kernel` names, made when it is first asked for. Only of a
  // module.
  Result<Kernel*> find_in_module(std::string_view kernel);
  Result<KernelEntry> kernel_entry(const CodeName& name);
  Result<KernelEntry> variable_entry(const std::string& mangled);
  std::string name_;
  LoadedModule module_;
  std::shared_ptr<DeviceModule> device_module_;  // Null: a shared object.
  std::vector<CodeName> code_names_;             // Of its kernels.
  std::vector<CodeName> variable_names_;
  bool stateful_ = false;
  void (*close_)(void* context) = nullptr;
  void* context_ = nullptr;
  std::map<std::string, Kernel, std::less<>> kernels_;
};

// Where libraries come from. Threads: any, several at a time.
class LibraryOpener {
 public:
  virtual ~LibraryOpener() = default;
  virtual Result<std::shared_ptr<OpenedLibrary>> open(const SeenFile& file) = 0;
};

// From files on disk, as the trusted owner or root wrote them: shared objects, and code that the
// device itself understands.
class FileLibraryOpener final : public LibraryOpener {
 public:
  // `device` must outlive this.
  FileLibraryOpener(Device& device, const LibraryTrust& trust) : device_(device), trust_(trust) {}
  Result<std::shared_ptr<OpenedLibrary>> open(const SeenFile& file) override;

 private:
  Result<std::shared_ptr<OpenedLibrary>> open_module(std::span<const std::byte> code,
                                                     LibraryForm form, const std::string& path);

  Device& device_;
  LibraryTrust trust_;
};

}  // namespace kaas
