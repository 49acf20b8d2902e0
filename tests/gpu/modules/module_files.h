// The images and the source of module_kernels.cu, and a folder to put them in.
// Threads: one.
#pragma once

#include <Cubin.h>
#include <Fatbin.h>
#include <ForeignCubin.h>
#include <Ptx.h>
#include <Source.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>

#include "daemon/executor/library/library_copy.h"

namespace kaas {

inline std::string text_of(std::span<const unsigned char> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// A private folder that goes with this; compilations are cached in it.
class ModuleFolder {
 public:
  ModuleFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "kaas-modules-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    path_ = name;
    ::setenv("XDG_CACHE_HOME", path_.c_str(), 1);
  }
  ~ModuleFolder() { std::filesystem::remove_all(path_); }
  ModuleFolder(const ModuleFolder&) = delete;
  ModuleFolder& operator=(const ModuleFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  SeenFile put(const std::string& name, const std::string& content) const {
    SeenFile seen;
    seen.path = (path_ / name).string();
    std::filesystem::remove(seen.path);
    std::ofstream(seen.path, std::ios::binary) << content;
    ::chmod(seen.path.c_str(), 0600);
    struct stat status {};
    EXPECT_EQ(::stat(seen.path.c_str(), &status), 0);
    seen.file_bytes = static_cast<std::uint64_t>(status.st_size);
    seen.mtime_ns = status.st_mtim.tv_sec * 1'000'000'000ll + status.st_mtim.tv_nsec;
    seen.inode = status.st_ino;
    return seen;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace kaas
