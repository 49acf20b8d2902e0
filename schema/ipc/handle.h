// One owner for every operating-system handle.
#pragma once

#include <unistd.h>

#include <utility>

namespace kaas {

// Owns one handle and releases it exactly once. Move-only.
// Traits: `type`, `static type null()`, `static void release(type) noexcept`.
template <class Traits>
class UniqueHandle {
 public:
  using Native = typename Traits::type;

  UniqueHandle() noexcept = default;
  explicit UniqueHandle(Native native) noexcept : native_(native) {}
  UniqueHandle(UniqueHandle&& other) noexcept
      : native_(std::exchange(other.native_, Traits::null())) {}
  UniqueHandle& operator=(UniqueHandle&& other) noexcept {
    UniqueHandle dropped(std::move(other));
    std::swap(native_, dropped.native_);
    return *this;
  }
  ~UniqueHandle() {
    if (native_ != Traits::null()) Traits::release(native_);
  }

  [[nodiscard]] Native get() const noexcept { return native_; }
  [[nodiscard]] explicit operator bool() const noexcept { return native_ != Traits::null(); }
  // Gives up ownership: the caller must close.
  [[nodiscard]] Native release() noexcept { return std::exchange(native_, Traits::null()); }

 private:
  Native native_ = Traits::null();
};

struct DescriptorTraits {
  using type = int;
  static constexpr int null() noexcept { return -1; }
  static void release(int descriptor) noexcept { ::close(descriptor); }
};

// A file descriptor. All of ours are close-on-exec.
using Descriptor = UniqueHandle<DescriptorTraits>;

}  // namespace kaas
