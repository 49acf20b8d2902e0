#include "daemon/executor/device/cuda/cuda_compiler.h"

#include <dlfcn.h>
#include <nvrtc.h>
#include <unistd.h>

#include <cstdlib>

namespace kaas {
namespace {

constexpr std::size_t kLogBytesShown = 4096;
constexpr std::size_t kSourceBytesMax = 64u << 20;

// Members are named like the functions, without "nvrtc".
struct Nvrtc {
  decltype(&nvrtcVersion) Version = nullptr;
  decltype(&nvrtcGetErrorString) GetErrorString = nullptr;
  decltype(&nvrtcCreateProgram) CreateProgram = nullptr;
  decltype(&nvrtcDestroyProgram) DestroyProgram = nullptr;
  decltype(&nvrtcCompileProgram) CompileProgram = nullptr;
  decltype(&nvrtcGetProgramLogSize) GetProgramLogSize = nullptr;
  decltype(&nvrtcGetProgramLog) GetProgramLog = nullptr;
  decltype(&nvrtcGetCUBINSize) GetCUBINSize = nullptr;
  decltype(&nvrtcGetCUBIN) GetCUBIN = nullptr;
  std::string path;                   // Of the file it came from.
  std::vector<std::string> includes;  // Options that name the toolkit's headers beside it.
};

// Where it may be, the preferred one first.
std::vector<std::string> candidates() {
  const char* chosen = std::getenv("KAAS_NVRTC");
  if (chosen != nullptr && chosen[0] != '\0') return {chosen};
  std::vector<std::string> paths = {"libnvrtc.so.13", "libnvrtc.so"};
  std::vector<std::string> folders;
  for (const char* variable : {"CUDA_HOME", "CUDA_PATH"}) {
    const char* toolkit = std::getenv(variable);
    if (toolkit != nullptr && toolkit[0] == '/') folders.push_back(toolkit);
  }
  folders.emplace_back("/usr/local/cuda");
  folders.emplace_back("/opt/cuda");
  for (const std::string& folder : folders) {
    paths.push_back(folder + "/lib64/libnvrtc.so.13");
    paths.push_back(folder + "/lib64/libnvrtc.so");
  }
  return paths;
}

template <class Function>
bool look_up(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  return function != nullptr;
}

bool look_up_all(void* library, Nvrtc& nvrtc) {
  return look_up(library, "nvrtcVersion", nvrtc.Version) &&
         look_up(library, "nvrtcGetErrorString", nvrtc.GetErrorString) &&
         look_up(library, "nvrtcCreateProgram", nvrtc.CreateProgram) &&
         look_up(library, "nvrtcDestroyProgram", nvrtc.DestroyProgram) &&
         look_up(library, "nvrtcCompileProgram", nvrtc.CompileProgram) &&
         look_up(library, "nvrtcGetProgramLogSize", nvrtc.GetProgramLogSize) &&
         look_up(library, "nvrtcGetProgramLog", nvrtc.GetProgramLog) &&
         look_up(library, "nvrtcGetCUBINSize", nvrtc.GetCUBINSize) &&
         look_up(library, "nvrtcGetCUBIN", nvrtc.GetCUBIN);
}

// Libraries of a toolkit lie in lib64 or targets/ARCH/lib, its headers in include beside that.
void find_headers(Nvrtc& nvrtc) {
  Dl_info info{};
  if (::dladdr(reinterpret_cast<void*>(nvrtc.Version), &info) == 0) return;
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(info.dli_fname, nullptr),
                                                         &std::free);
  if (real == nullptr) return;
  nvrtc.path = real.get();
  std::vector<std::string> toolkits = {"/usr/local/cuda"};
  const std::string folder = nvrtc.path.substr(0, nvrtc.path.find_last_of('/'));
  toolkits.insert(toolkits.begin(), folder.substr(0, folder.find_last_of('/')));
  for (const std::string& toolkit : toolkits) {
    const std::string include = toolkit + "/include";
    if (::access((include + "/cuda_runtime.h").c_str(), R_OK) != 0) continue;
    nvrtc.includes = {"-I" + include};
    // The C++ standard library for devices, <cuda/std/...>.
    if (::access((include + "/cccl").c_str(), R_OK) == 0) {
      nvrtc.includes.push_back("-I" + include + "/cccl");
    }
    return;
  }
}

// Never unloaded: it has static objects of its own.
Result<Nvrtc> load_nvrtc() {
  std::string looked;
  for (const std::string& path : candidates()) {
    void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    Nvrtc nvrtc;
    if (library != nullptr && look_up_all(library, nvrtc)) {
      nvrtc.path = path;
      find_headers(nvrtc);
      return nvrtc;
    }
    looked += (looked.empty() ? "" : ", ") + path +
              (library == nullptr ? "" : " (it lacks functions of NVRTC)");
  }
  return Status{StatusCode::Unavailable,
                "CUDA source needs the compiler NVRTC, which is not found; looked for " + looked +
                    "; KAAS_NVRTC may name it"};
}

struct Program {
  const Nvrtc& nvrtc;
  nvrtcProgram handle = nullptr;
  explicit Program(const Nvrtc& table) : nvrtc(table) {}
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() {
    if (handle != nullptr) nvrtc.DestroyProgram(&handle);
  }
  [[nodiscard]] std::string log() const {
    std::size_t bytes = 0;
    if (nvrtc.GetProgramLogSize(handle, &bytes) != NVRTC_SUCCESS || bytes == 0) return "";
    std::string text(bytes, '\0');
    if (nvrtc.GetProgramLog(handle, text.data()) != NVRTC_SUCCESS) return "";
    text.resize(text.find_last_not_of(std::string_view(" \n\0", 3)) + 1);
    if (text.size() > kLogBytesShown) {
      const std::size_t left_out = text.size() - kLogBytesShown;
      text.resize(kLogBytesShown);
      text += "\n(" + std::to_string(left_out) + " more bytes)";
    }
    return text;
  }
};

Result<std::vector<std::byte>> compile_by(const Nvrtc& nvrtc, const std::string& source,
                                          const std::string& path,
                                          const std::vector<std::string>& options) {
  const auto failed = [&](nvrtcResult result, const std::string& log) {
    const bool ours = result == NVRTC_ERROR_OUT_OF_MEMORY || result == NVRTC_ERROR_INTERNAL_ERROR;
    return Status{ours ? StatusCode::ResourceExhausted : StatusCode::InvalidArgument,
                  std::string(nvrtc.GetErrorString(result)) + (log.empty() ? "" : ":\n" + log)};
  };
  Program program(nvrtc);
  nvrtcResult result =
      nvrtc.CreateProgram(&program.handle, source.c_str(), path.c_str(), 0, nullptr, nullptr);
  if (result != NVRTC_SUCCESS) return failed(result, "");
  std::vector<const char*> words;
  for (const std::string& option : options) words.push_back(option.c_str());
  for (const std::string& option : nvrtc.includes) words.push_back(option.c_str());
  result = nvrtc.CompileProgram(program.handle, static_cast<int>(words.size()), words.data());
  if (result != NVRTC_SUCCESS) return failed(result, program.log());
  std::size_t bytes = 0;
  result = nvrtc.GetCUBINSize(program.handle, &bytes);
  std::vector<std::byte> cubin(bytes);
  if (result == NVRTC_SUCCESS) {
    result = nvrtc.GetCUBIN(program.handle, reinterpret_cast<char*>(cubin.data()));
  }
  if (result != NVRTC_SUCCESS || bytes == 0) return failed(result, program.log());
  return cubin;
}

// Everything that the result depends on; parts are told apart by their lengths.
std::string cache_key(const std::string& source, const std::vector<std::string>& options,
                      const std::string& identity) {
  std::string key;
  const auto add = [&](const std::string& part) {
    key += std::to_string(part.size()) + ":" + part;
  };
  add(identity);
  for (const std::string& option : options) add(option);
  key += "source";
  add(source);
  return key;
}

}  // namespace

Result<Compiler> find_cuda_compiler() {
  KAAS_ASSIGN_OR_RETURN(const Nvrtc nvrtc, load_nvrtc());
  int major = 0;
  int minor = 0;
  nvrtc.Version(&major, &minor);
  Compiler compiler;
  compiler.identity =
      "NVRTC " + std::to_string(major) + "." + std::to_string(minor) + " of " + nvrtc.path;
  for (const std::string& include : nvrtc.includes) compiler.identity += " " + include;
  compiler.compile = [nvrtc](const std::string& source, const std::string& path,
                             const std::vector<std::string>& options) {
    return compile_by(nvrtc, source, path, options);
  };
  return compiler;
}

Result<std::vector<std::byte>> compile_cuda(const ModuleCode& code, int architecture,
                                            const Compiler& compiler, const CompileCache& cache) {
  if (code.bytes.size() > kSourceBytesMax) {
    return over_limit(StatusCode::InvalidArgument, code.what + ": bytes of a source",
                      code.bytes.size(), kSourceBytesMax);
  }
  const std::string source(reinterpret_cast<const char*>(code.bytes.data()), code.bytes.size());
  if (const std::size_t zero = source.find('\0'); zero != std::string::npos) {
    return Status{StatusCode::InvalidArgument,
                  code.what + " is no CUDA source: byte " + std::to_string(zero) + " is zero"};
  }
  KAAS_ASSIGN_OR_RETURN(const SourceOptions asked, source_options(source, code.what));
  std::vector<std::string> options = {
      "--gpu-architecture=" +
      (asked.architecture.empty() ? "sm_" + std::to_string(architecture) : asked.architecture)};
  options.insert(options.end(), asked.words.begin(), asked.words.end());
  const std::string key = cache_key(source, options, compiler.identity);
  if (asked.self_contained) {
    if (auto known = cache.find(key)) return *std::move(known);
  }
  auto compiled = compiler.compile(source, code.path, options);
  if (!compiled) {
    return Status{compiled.error().code, code.what + " does not compile for " +
                                             options.front().substr(options.front().find('=') + 1) +
                                             " (" + compiler.identity +
                                             "): " + compiled.error().message};
  }
  if (asked.self_contained) cache.keep(key, *compiled);
  return compiled;
}

Result<std::vector<std::byte>> compile_cuda(const ModuleCode& code, int architecture) {
  static const Result<Compiler> kCompiler = find_cuda_compiler();
  if (!kCompiler) return kCompiler.error();
  return compile_cuda(code, architecture, *kCompiler, CompileCache(CompileCache::default_folder()));
}

}  // namespace kaas
