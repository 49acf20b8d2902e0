// A library whose code is in this process: its kernels, its hooks, how to find a kernel by name.
// Threads: main thread; entries are shared for reading with the threads that run kernels.
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
#include "daemon/executor/library/library_copy.h"
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
  std::string name_;
  LoadedModule module_;
  bool stateful_ = false;
  void (*close_)(void* context) = nullptr;
  void* context_ = nullptr;
  std::map<std::string, Kernel, std::less<>> kernels_;
};

// Where libraries come from.
class LibraryOpener {
 public:
  virtual ~LibraryOpener() = default;
  virtual Result<std::shared_ptr<OpenedLibrary>> open(const SeenFile& file) = 0;
};

// From shared objects on disk, as this process's user or root wrote them.
class FileLibraryOpener final : public LibraryOpener {
 public:
  // `device` must outlive this.
  FileLibraryOpener(const Device& device, uid_t domain_uid)
      : device_(device), domain_uid_(domain_uid) {}
  Result<std::shared_ptr<OpenedLibrary>> open(const SeenFile& file) override;

 private:
  const Device& device_;
  uid_t domain_uid_;
};

}  // namespace kaas
