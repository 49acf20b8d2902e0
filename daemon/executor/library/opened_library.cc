#include "daemon/executor/library/opened_library.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "daemon/executor/library/elf_file.h"
#include "daemon/executor/library/nearest_names.h"
#include "schema/ipc/segment.h"
#include "schema/limits.h"

namespace kaas {
namespace {

constexpr std::uint32_t kLibraryKernelsMax = 65'536;
constexpr std::uint32_t kLibraryStructBytes = 96;
constexpr std::uint32_t kDescriptorStructBytes = 96;
constexpr std::size_t kHookErrorBytes = 1024;
constexpr char kVariablePrefix = '@';

std::string descriptor_path(int descriptor) {
  return "/proc/self/fd/" + std::to_string(descriptor);
}

// What dlerror says, with the library's own name in place of the descriptor's.
std::string loader_error(const std::string& path, const std::string& what) {
  const char* text = ::dlerror();
  std::string error = text == nullptr ? "unknown error" : text;
  for (std::size_t at = error.find(path); at != std::string::npos; at = error.find(path)) {
    error.replace(at, path.size(), what);
  }
  return error;
}

Status version_mismatch(const std::string& path, const std::string& found) {
  return Status{StatusCode::VersionMismatch,
                "library '" + path + "' has " + found + "; this executor has kernel ABI version " +
                    std::to_string(KAAS_LIBRARY_ABI_VERSION) + ", tables of at least " +
                    std::to_string(kLibraryStructBytes) + " bytes"};
}

Result<KernelEntry> read_descriptor(const kaas_kernel_descriptor& descriptor,
                                    const kaas_library& table, const std::string& path) {
  const std::string library = "library '" + path + "': ";
  if (descriptor.name == nullptr || descriptor.name[0] == '\0' || descriptor.signature == nullptr) {
    return Status{StatusCode::InvalidArgument, library + "a kernel without name or signature"};
  }
  KernelEntry entry;
  entry.name = descriptor.name;
  if (entry.name.size() > kNameBytesMax) {
    return over_limit(StatusCode::InvalidArgument, library + "length of a kernel's name",
                      entry.name.size(), kNameBytesMax);
  }
  auto parameters = parse_signature(descriptor.signature);
  if (!parameters) {
    return Status{StatusCode::InvalidArgument,
                  library + "kernel '" + entry.name + "': " + parameters.error().message};
  }
  entry.parameters = *std::move(parameters);
  entry.stateful = ((descriptor.flags | table.flags) & KAAS_STATEFUL) != 0;
  entry.capture_pure = (descriptor.flags & KAAS_CAPTURE_PURE) != 0;
  entry.waits = (descriptor.flags & KAAS_WAITS) != 0;
  entry.shared_bytes_fixed = descriptor.shared_bytes_fixed;
  entry.shared_bytes_per_thread = descriptor.shared_bytes_per_thread;
  entry.host_blocks = descriptor.host_blocks;
  entry.opaque = descriptor.launch;
  entry.device_entry = descriptor.device_entry;
  if (entry.device_entry != nullptr) entry.ending_entry = descriptor.ending_entry;
  entry.resolve = table.resolve;
  const int ways = (entry.host_blocks != nullptr ? 1 : 0) + (entry.opaque != nullptr ? 1 : 0) +
                   (entry.device_entry != nullptr ? 1 : 0);
  if (ways == 1) return entry;
  return Status{StatusCode::InvalidArgument, library + "kernel '" + entry.name + "' has " +
                                                 std::to_string(ways) + " ways to run, allowed: 1"};
}

Result<void> check_table(const kaas_library* table, const std::string& path) {
  if (table == nullptr) {
    return Status{StatusCode::ResourceExhausted,
                  "library '" + path + "' could not build its table of kernels"};
  }
  if (table->magic != KAAS_LIBRARY_MAGIC) {
    return Status{StatusCode::InvalidArgument,
                  "library '" + path + "' returns something else than a table of kernels"};
  }
  if (table->abi_version != KAAS_LIBRARY_ABI_VERSION) {
    return version_mismatch(path, "kernel ABI version " + std::to_string(table->abi_version));
  }
  if (table->struct_size < kLibraryStructBytes) {
    return version_mismatch(path, "a table of " + std::to_string(table->struct_size) + " bytes");
  }
  if (table->kernel_count > kLibraryKernelsMax) {
    return over_limit(StatusCode::InvalidArgument, "library '" + path + "': number of kernels",
                      table->kernel_count, kLibraryKernelsMax);
  }
  if (table->kernel_count == 0) return {};
  if (table->kernels == nullptr) {
    return Status{StatusCode::InvalidArgument, "library '" + path + "' has no kernel descriptors"};
  }
  if (table->kernels->struct_size < kDescriptorStructBytes ||
      table->kernels->struct_size % 8 != 0) {
    return version_mismatch(
        path, "kernel descriptors of " + std::to_string(table->kernels->struct_size) + " bytes");
  }
  return {};
}

}  // namespace

// --- LoadedModule --------------------------------------------------------------------------------

Result<LoadedModule> LoadedModule::load(Descriptor copy, const std::string& what) {
  const std::string path = descriptor_path(copy.get());
  LoadedModule module;
  try {
    // The loader compares names before files. This one is new, as the descriptor stays open for as
    // long as the code is loaded.
    module.handle_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  } catch (const std::exception& failure) {
    return Status{StatusCode::InvalidArgument,
                  what + ": its initialisation threw an exception: " + failure.what()};
  } catch (...) {
    return Status{StatusCode::InvalidArgument, what + ": its initialisation threw an exception"};
  }
  if (module.handle_ == nullptr) {
    return Status{StatusCode::InvalidArgument, "loading " + what + ": " + loader_error(path, what)};
  }
  module.copy_ = std::move(copy);
  return module;
}

LoadedModule::LoadedModule(LoadedModule&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), copy_(std::move(other.copy_)) {}

LoadedModule& LoadedModule::operator=(LoadedModule&& other) noexcept {
  LoadedModule dropped(std::move(other));
  std::swap(handle_, dropped.handle_);
  std::swap(copy_, dropped.copy_);
  return *this;
}

LoadedModule::~LoadedModule() {
  if (handle_ == nullptr) return;
  ::dlclose(handle_);
  // Code with unique symbols or thread-local destructors stays. Its name must then never be used
  // again, or a later library that got the same descriptor number would be this old code.
  void* kept = ::dlopen(descriptor_path(copy_.get()).c_str(), RTLD_NOW | RTLD_NOLOAD);
  if (kept == nullptr) return;
  ::dlclose(kept);
  static_cast<void>(copy_.release());
}

void* LoadedModule::function(const std::string& name) const noexcept {
  if (handle_ == nullptr) return nullptr;
  void* symbol = ::dlsym(handle_, name.c_str());
  if (symbol == nullptr) return nullptr;
  // dlsym also looks into what the library depends on; `printf` is not a kernel.
  Dl_info info{};
  void* definer = nullptr;
  void* own = nullptr;
  if (::dladdr1(symbol, &info, &definer, RTLD_DL_LINKMAP) == 0 ||
      ::dlinfo(handle_, RTLD_DI_LINKMAP, &own) != 0 || definer != own) {
    return nullptr;
  }
  return symbol;
}

// --- OpenedLibrary -------------------------------------------------------------------------------

Result<std::shared_ptr<OpenedLibrary>> OpenedLibrary::from_table(const kaas_library* table,
                                                                 LoadedModule module,
                                                                 const DeviceLimits& device,
                                                                 const std::string& path) {
  KAAS_RETURN_IF_ERROR(check_table(table, path));
  std::shared_ptr<OpenedLibrary> library(
      new OpenedLibrary(table->name == nullptr ? path : table->name, std::move(module)));
  library->stateful_ = (table->flags & KAAS_STATEFUL) != 0;
  KAAS_RETURN_IF_ERROR(library->read_table(*table, path));
  KAAS_RETURN_IF_ERROR(library->run_open_hook(*table, device, path));
  return library;
}

Result<void> OpenedLibrary::read_table(const kaas_library& table, const std::string& path) {
  for (std::uint32_t i = 0; i < table.kernel_count; ++i) {
    KAAS_ASSIGN_OR_RETURN(KernelEntry entry,
                          read_descriptor(*kaas_kernel_at(&table, i), table, path));
    const std::string name = entry.name;
    if (!kernels_.emplace(name, Kernel{std::move(entry)}).second) {
      return Status{StatusCode::InvalidArgument,
                    "library '" + path + "' has two kernels '" + name + "'"};
    }
  }
  return {};
}

Result<void> OpenedLibrary::run_open_hook(const kaas_library& table, const DeviceLimits& device,
                                          const std::string& path) {
  if (table.open != nullptr) {
    char error[kHookErrorBytes] = "";
    kaas_open_info info{};
    info.struct_size = sizeof info;
    info.device_kind = device.kind;
    info.device_ordinal = device.ordinal;
    info.host_threads = device.host_threads;
    info.error = error;
    info.error_bytes = sizeof error;
    int outcome = 0;
    try {
      outcome = table.open(&info, &context_);
    } catch (...) {
      return Status{StatusCode::InvalidArgument,
                    "library '" + path + "': its open hook threw an exception"};
    }
    if (outcome != 0) {
      error[sizeof error - 1] = '\0';
      return Status{StatusCode::InvalidArgument, "library '" + path + "': its open hook failed (" +
                                                     std::to_string(outcome) + "): " + error};
    }
  }
  close_ = table.close;
  for (auto& [name, kernel] : kernels_) kernel.entry.context = context_;
  return {};
}

std::shared_ptr<OpenedLibrary> OpenedLibrary::of_original_form(LoadedModule module,
                                                               std::vector<std::string> functions,
                                                               const std::string& path) {
  const std::string name = path.substr(path.find_last_of('/') + 1);
  std::shared_ptr<OpenedLibrary> library(new OpenedLibrary(name, std::move(module)));
  // Nothing is known of what such a function keeps.
  library->stateful_ = true;
  for (std::string& function : functions) {
    void* symbol = library->module_.function(function);
    if (symbol == nullptr) continue;
    KernelEntry entry;
    entry.name = function;
    entry.stateful = true;
    entry.original = reinterpret_cast<OriginalKernel>(symbol);
    library->kernels_.emplace(std::move(function), Kernel{std::move(entry)});
  }
  return library;
}

std::shared_ptr<OpenedLibrary> OpenedLibrary::of_module(std::shared_ptr<DeviceModule> module,
                                                        const std::string& path) {
  const std::string name = path.substr(path.find_last_of('/') + 1);
  std::shared_ptr<OpenedLibrary> library(new OpenedLibrary(name, LoadedModule()));
  for (const std::string& kernel : module->kernels()) library->code_names_.emplace_back(kernel);
  for (const std::string& one : module->variables()) library->variable_names_.emplace_back(one);
  library->stateful_ = !module->variables().empty() || !module->lists_variables();
  library->device_module_ = std::move(module);
  return library;
}

OpenedLibrary::~OpenedLibrary() {
  if (close_ == nullptr) return;
  try {
    close_(context_);
  } catch (...) {
    std::fprintf(stderr, "library '%s': its close hook threw an exception\n", name_.c_str());
  }
}

std::vector<std::string> OpenedLibrary::kernel_names() const {
  std::vector<std::string> names;
  if (device_module_ != nullptr) {
    for (const CodeName& name : code_names_) names.push_back(name.brief);
    return names;
  }
  for (const auto& [name, kernel] : kernels_) names.push_back(name);
  return names;
}

Result<const KernelEntry*> OpenedLibrary::find(std::string_view kernel, bool& first_use) {
  if (device_module_ != nullptr) {
    KAAS_ASSIGN_OR_RETURN(Kernel * of_module, find_in_module(kernel));
    first_use = !std::exchange(of_module->used, true);
    return static_cast<const KernelEntry*>(&of_module->entry);
  }
  const auto found = kernels_.find(kernel);
  if (found != kernels_.end()) {
    first_use = !std::exchange(found->second.used, true);
    return static_cast<const KernelEntry*>(&found->second.entry);
  }
  std::string message = "library '" + name_ + "' has no kernel '" + std::string(kernel) + "'";
  const auto near = nearest_names(kernel, kernel_names());
  for (std::size_t i = 0; i < near.size(); ++i) {
    message += (i == 0 ? "; nearest: '" : ", '") + near[i] + "'";
  }
  return Status{StatusCode::NotFound, std::move(message)};
}

// --- Modules -------------------------------------------------------------------------------------

Result<OpenedLibrary::Kernel*> OpenedLibrary::find_in_module(std::string_view kernel) {
  const std::string owner = "library '" + name_ + "'";
  const bool is_variable = kernel.starts_with(kVariablePrefix);
  const std::string_view wanted = is_variable ? kernel.substr(1) : kernel;
  std::string mangled(wanted);
  const CodeName* name = nullptr;
  if (const auto found = find_name(is_variable ? variable_names_ : code_names_, wanted,
                                   is_variable ? "variable" : "kernel", owner)) {
    name = *found;
    mangled = name->mangled;
  } else if (!is_variable || device_module_->lists_variables()) {
    return found.error();
  }
  const std::string key = (is_variable ? "@" : "") + mangled;
  if (const auto known = kernels_.find(key); known != kernels_.end()) return &known->second;
  KAAS_ASSIGN_OR_RETURN(KernelEntry entry,
                        is_variable ? variable_entry(mangled) : kernel_entry(*name));
  return &kernels_.emplace(key, Kernel{std::move(entry)}).first->second;
}

Result<KernelEntry> OpenedLibrary::kernel_entry(const CodeName& name) {
  KAAS_ASSIGN_OR_RETURN(const ModuleFunction function, device_module_->find(name.mangled));
  KernelEntry entry;
  entry.name = name.brief;
  entry.stateful = stateful_;
  entry.module_function = function.native;
  for (const std::uint32_t bytes : function.parameter_bytes) {
    entry.parameters.push_back({ParameterType::Kind::Untyped, wire::LiteralType::Raw, bytes});
  }
  return entry;
}

Result<KernelEntry> OpenedLibrary::variable_entry(const std::string& mangled) {
  KAAS_ASSIGN_OR_RETURN(const ModuleVariable variable, device_module_->variable(mangled));
  KernelEntry entry;
  entry.name = kVariablePrefix + mangled;
  entry.stateful = true;
  entry.variable = variable.address;
  entry.variable_bytes = variable.bytes;
  entry.parameters.push_back(
      {ParameterType::Kind::Input, wire::LiteralType::U64, sizeof(DeviceAddress)});
  return entry;
}

// --- FileLibraryOpener ---------------------------------------------------------------------------

Result<std::shared_ptr<OpenedLibrary>> FileLibraryOpener::open(const SeenFile& file) {
  const std::string what = "library '" + file.path + "'";
  KAAS_ASSIGN_OR_RETURN(Descriptor copy, copy_library(file, trust_));
  std::vector<std::string> functions;
  {
    KAAS_ASSIGN_OR_RETURN(
        const Mapping mapping,
        Mapping::create(copy.get(), file.file_bytes, Mapping::Mode::ReadOnly, "a library"));
    const std::span<const std::byte> bytes(mapping.data(), mapping.bytes());
    const LibraryForm form = recognise(bytes, file.path);
    if (form != LibraryForm::SharedObject) return open_module(bytes, form, file.path);
    KAAS_RETURN_IF_ERROR(check_shared_object(bytes, what));
    functions = exported_functions(bytes);
  }
  const auto call = device_.library_call();  // For its constructors and its open hook.
  KAAS_ASSIGN_OR_RETURN(LoadedModule module, LoadedModule::load(std::move(copy), what));
  if (void* symbol = module.function(KAAS_LIBRARY_SYMBOL)) {
    const kaas_library* table = reinterpret_cast<kaas_library_function>(symbol)();
    return OpenedLibrary::from_table(table, std::move(module), device_.limits(), file.path);
  }
  // A table of a version that is yet to come?
  for (const std::string& function : functions) {
    if (function.rfind("kaas_library_v", 0) == 0) {
      return version_mismatch(file.path, "'" + function + "' and no '" KAAS_LIBRARY_SYMBOL "'");
    }
  }
  if (functions.empty()) {
    return Status{StatusCode::InvalidArgument,
                  what + " exports neither '" KAAS_LIBRARY_SYMBOL "' nor any function"};
  }
  return OpenedLibrary::of_original_form(std::move(module), std::move(functions), file.path);
}

Result<std::shared_ptr<OpenedLibrary>> FileLibraryOpener::open_module(
    std::span<const std::byte> code, LibraryForm form, const std::string& path) {
  ModuleCode module_code{code, ModuleForm::Image, path, "library '" + path + "'"};
  if (form == LibraryForm::Unknown) {
    return Status{
        StatusCode::InvalidArgument,
        module_code.what + " is not an ELF file, nor a fatbin, nor PTX, nor is it called *.cu"};
  }
  if (form == LibraryForm::CudaSource) {
    module_code.form = ModuleForm::Source;
  } else {
    KAAS_ASSIGN_OR_RETURN(const ModuleImage image, inspect_image(code, module_code.what));
    module_code.what += " (" + image.description + ")";
  }
  KAAS_ASSIGN_OR_RETURN(auto module, device_.load_module(module_code));
  return OpenedLibrary::of_module(std::move(module), path);
}

}  // namespace kaas
