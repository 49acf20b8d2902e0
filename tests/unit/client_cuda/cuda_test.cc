// Pointers that are no device memory, and machines without a driver: errors that say what to use.
#include <gtest/gtest.h>
#include <kaas/cuda.h>
#include <kaas/kaas_cuda.h>

#include <string>

namespace kaas {
namespace {

// Without a driver nothing can be said of any pointer; with one, this one is host memory.
void expect_refused(StatusCode code, const std::string& message) {
  if (code == StatusCode::Unavailable) {
    EXPECT_NE(message.find("CUDA driver"), std::string::npos) << message;
    return;
  }
  EXPECT_EQ(code, StatusCode::InvalidArgument) << message;
  EXPECT_NE(message.find("Client::allocate"), std::string::npos) << message;
}

TEST(CudaExport, HostMemoryIsRefusedWithWhatToUse) {
  const int memory = 0;
  const auto exported = CudaExport::create(&memory, sizeof memory);
  ASSERT_FALSE(exported.has_value());
  expect_refused(exported.error().code, exported.error().message);
}

TEST(CudaExport, RefusalIsTheSameAgain) {
  const int memory = 0;
  const auto first = CudaExport::create(&memory, sizeof memory);
  const auto second = CudaExport::create(&memory, sizeof memory);
  ASSERT_FALSE(first.has_value());
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(first.error().message, second.error().message);
}

TEST(CudaExport, NullIsRefused) {
  EXPECT_FALSE(CudaExport::create(nullptr, 1).has_value());
}

// Before kaasd is asked for anything.
TEST(CudaObject, WithoutADriverNothingIsExported) {
  kaas_cuda_object* object = nullptr;
  kaas_error error;
  if (CudaExport::create(nullptr, 1).error().code != StatusCode::Unavailable) {
    GTEST_SKIP() << "there is a driver";
  }
  EXPECT_EQ(kaas_cuda_open_object(nullptr, "k", nullptr, &object, &error), KAAS_UNAVAILABLE);
  EXPECT_NE(std::string(error.message).find("CUDA driver"), std::string::npos) << error.message;
  EXPECT_EQ(object, nullptr);
  kaas_cuda_object_free(nullptr);
}

TEST(CudaInC, HostMemoryIsRefusedBeforeTheSessionIsAsked) {
  const int memory = 0;
  kaas_cuda_buffer* buffer = nullptr;
  kaas_error error;
  const kaas_code code = kaas_cuda_register(nullptr, &memory, sizeof memory, &buffer, &error);
  EXPECT_EQ(buffer, nullptr);
  EXPECT_EQ(error.code, code);
  expect_refused(static_cast<StatusCode>(code), error.message);
  EXPECT_EQ(kaas_cuda_register(nullptr, &memory, sizeof memory, &buffer, nullptr), code);
  kaas_cuda_buffer_free(nullptr);
}

}  // namespace
}  // namespace kaas
