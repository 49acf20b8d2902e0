// Results of compilations, kept on disk between processes: a folder with a file an entry.
//
//   file := header, key, code       the key in full: an entry of another key is never taken for one
//
// The folder must belong to this process's user, who alone may write it: what lies there is run.
// Entries appear by rename, so a reader sees whole ones; one that is damaged is not there. Nothing
// here fails: without a cache one compiles.
// Threads: one object a thread; several objects and processes may share the folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kaas {

class CompileCache {
 public:
  // `folder` is made with its parents when first needed. When more than `bytes_max` lie in it, the
  // oldest entries go.
  explicit CompileCache(std::string folder, std::uint64_t bytes_max = 256u << 20)
      : folder_(std::move(folder)), bytes_max_(bytes_max) {}

  // $XDG_CACHE_HOME/kaas/cuda or $HOME/.cache/kaas/cuda; empty when neither is set.
  static std::string default_folder();

  [[nodiscard]] std::optional<std::vector<std::byte>> find(std::string_view key) const;
  // Whether the entry is there now.
  bool keep(std::string_view key, std::span<const std::byte> code) const;

 private:
  [[nodiscard]] bool usable() const;
  [[nodiscard]] std::string path_of(std::string_view key) const;
  void make_room() const;

  std::string folder_;
  std::uint64_t bytes_max_;
};

}  // namespace kaas
