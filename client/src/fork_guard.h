// Whether this process is a fork of the one that made something: such a child shares rings and
// socket with its parent and must not touch them.
#pragma once

#include <sys/mman.h>

#include <utility>

namespace kaas {
inline namespace v1 {

// A page that the kernel empties in every child, so that the check is one load.
// Threads: any.
class ForkGuard {
 public:
  ForkGuard() noexcept {
    void* page =
        ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return;
    if (::madvise(page, kBytes, MADV_WIPEONFORK) != 0) {
      ::munmap(page, kBytes);
      return;
    }
    mark_ = static_cast<volatile int*>(page);
    *mark_ = 1;
  }
  ForkGuard(const ForkGuard&) = delete;
  ForkGuard& operator=(const ForkGuard&) = delete;
  ~ForkGuard() {
    if (mark_ != nullptr) ::munmap(const_cast<int*>(mark_), kBytes);
  }

  // False: no memory for the page, the guard guards nothing.
  [[nodiscard]] bool works() const noexcept { return mark_ != nullptr; }
  [[nodiscard]] bool in_child() const noexcept { return *mark_ == 0; }

 private:
  static constexpr std::size_t kBytes = 4096;
  volatile int* mark_ = nullptr;
};

}  // namespace v1
}  // namespace kaas
