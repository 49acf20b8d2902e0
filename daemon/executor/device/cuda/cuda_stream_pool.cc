#include "daemon/executor/device/cuda/cuda_stream_pool.h"

#include "daemon/executor/device/cuda/cuda_device.h"

namespace kaas {

void intrusive_ptr_add_ref(LentStream* lent) noexcept {
  lent->users_.fetch_add(1, std::memory_order_relaxed);
}

// Partner: itself, on other threads: what they did with the stream comes before it is lent again.
void intrusive_ptr_release(LentStream* lent) noexcept {
  if (lent->users_.fetch_sub(1, std::memory_order_acq_rel) == 1) lent->pool_->give_back(*lent);
}

bool LentStream::confined() const noexcept {
  return pool_->part_ != nullptr;
}

CudaStreamPool::~CudaStreamPool() {
  for (const auto& lent : all_) device_.driver().StreamDestroy(lent->stream_);
}

Result<LentStreamRef> CudaStreamPool::take() {
  const std::lock_guard lock(mutex_);
  if (!idle_.empty()) {
    LentStreamRef lent(idle_.back());
    idle_.pop_back();
    return lent;
  }
  device_.enter();
  auto lent = std::make_unique<LentStream>();
  lent->pool_ = this;
  const CudaDriver& driver = device_.driver();
  const CUresult result =
      part_ == nullptr
          ? driver.StreamCreate(&lent->stream_, CU_STREAM_NON_BLOCKING)
          : driver.GreenCtxStreamCreate(&lent->stream_, part_, CU_STREAM_NON_BLOCKING, 0);
  if (result != CUDA_SUCCESS) return device_.failed(result, "creating a stream");
  all_.push_back(std::move(lent));
  idle_.reserve(all_.size());
  return LentStreamRef(all_.back().get());
}

void CudaStreamPool::give_back(LentStream& lent) noexcept {
  const std::lock_guard lock(mutex_);
  idle_.push_back(&lent);
}

}  // namespace kaas
