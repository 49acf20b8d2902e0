// CUDA streams, lent to runs: one at a time to a run and those that follow it. The one that was
// given back last is lent first, so that there are no more than are needed at a time: the driver
// launches on many streams more slowly than on few.
// Threads: any.
#pragma once

#include <cuda.h>

#include <atomic>
#include <boost/intrusive_ptr.hpp>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "schema/ipc/result.h"

namespace kaas {

class CudaDevice;
class CudaStreamPool;

// A stream and who uses it. Counted; the last one gives it back.
class LentStream {
 public:
  [[nodiscard]] CUstream get() const noexcept { return stream_; }
  [[nodiscard]] bool confined() const noexcept;

 private:
  friend class CudaStreamPool;
  friend void intrusive_ptr_add_ref(LentStream* lent) noexcept;
  friend void intrusive_ptr_release(LentStream* lent) noexcept;
  CudaStreamPool* pool_ = nullptr;
  CUstream stream_ = nullptr;
  std::atomic<std::uint32_t> users_{0};
};
using LentStreamRef = boost::intrusive_ptr<LentStream>;

class CudaStreamPool {
 public:
  // The device must outlive it. `part`: of the device, that its streams are confined to; null: they
  // use all of it.
  explicit CudaStreamPool(CudaDevice& device, CUgreenCtx part = nullptr) noexcept
      : device_(device), part_(part) {}
  ~CudaStreamPool();
  CudaStreamPool(const CudaStreamPool&) = delete;
  CudaStreamPool& operator=(const CudaStreamPool&) = delete;

  // A stream that nobody uses. Fails as the driver does.
  Result<LentStreamRef> take();

 private:
  friend void intrusive_ptr_release(LentStream* lent) noexcept;
  void give_back(LentStream& lent) noexcept;

  friend class LentStream;
  CudaDevice& device_;
  const CUgreenCtx part_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<LentStream>> all_;  // Under mutex_.
  std::vector<LentStream*> idle_;                 // Under mutex_; has room for all.
};

}  // namespace kaas
