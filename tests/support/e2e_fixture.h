// What end-to-end tests share: a kaasd, clients of it, and buffers of numbers.
#pragma once

#include <gtest/gtest.h>
#include <kaas/client.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/daemon_process.h"

namespace kaas {

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span<const T>(values));
}

template <class T>
std::vector<T> values_of(std::span<const std::byte> bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

// "ok", or code and message: for assertions that show what went wrong.
template <class R>
std::string outcome_of(const R& result) {
  return result.has_value() ? "ok" : to_string(result.error());
}
#define EXPECT_OK(result) EXPECT_EQ(::kaas::outcome_of(result), "ok")
#define ASSERT_OK(result) ASSERT_EQ(::kaas::outcome_of(result), "ok")

// The test is to run on GPUs, as kaasd will read it.
inline bool wants_gpu() {
  const char* devices = std::getenv("KAAS_DEVICES");
  return devices != nullptr && std::string_view(devices) == "cuda";
}
inline bool has_gpu() {
  const std::string command =
      test_environment("KAAS_TEST_BINARY_DIR") + "/bin/kaas-executor --list-devices";
  std::FILE* output = ::popen(command.c_str(), "r");
  if (output == nullptr) return false;
  std::string text(4096, '\0');
  text.resize(std::fread(text.data(), 1, text.size(), output));
  ::pclose(output);
  return text.find("GPU-") != std::string::npos || text.find("MIG-") != std::string::npos;
}

class E2eTest : public testing::Test {
 protected:
  void SetUp() override {
    if (wants_gpu() && !has_gpu()) GTEST_SKIP() << "no GPU";
    DaemonProcess::Options options;
    options.arguments = arguments();
    options.environment = environment();
    daemon_ = DaemonProcess::start(std::move(options));
    ASSERT_NE(daemon_, nullptr);
  }
  // A test that ended it itself sets daemon_ to null.
  void TearDown() override {
    if (daemon_ == nullptr) return;
    EXPECT_EQ(daemon_->stop(), 0) << daemon_->log();
  }
  virtual std::vector<std::string> arguments() { return {}; }
  virtual std::vector<std::string> environment() { return {}; }

  [[nodiscard]] Client connect(const std::string& name = "test") const {
    ClientOptions options;
    options.socket = daemon_->socket();
    options.name = name;
    auto client = Client::connect(options);
    if (!client.has_value()) {
      ADD_FAILURE() << to_string(client.error()) << "\n" << daemon_->log();
      std::abort();
    }
    return std::move(*client);
  }

  // Finishes a builder that can't fail.
  [[nodiscard]] static Request built(const RequestBuilder& builder) {
    auto request = builder.build();
    if (!request.has_value()) {
      ADD_FAILURE() << to_string(request.error());
      std::abort();
    }
    return *request;
  }

  // y = x * factor in place, `count` floats of `key`.
  [[nodiscard]] static Request scale(const std::string& key, std::uint64_t count,
                                     float factor = 2.0f) {
    RequestBuilder builder;
    builder.buffer(key, count * sizeof(float));
    builder.kernel("std", "scale").grid(1).block(64).literal(count).literal(factor).inout(key);
    return built(builder);
  }

  [[nodiscard]] std::vector<float> floats(Client& client, const std::string& key) const {
    auto object = client.get(key);
    if (!object.has_value()) {
      ADD_FAILURE() << to_string(object.error());
      return {};
    }
    return values_of<float>(object->bytes());
  }

  std::unique_ptr<DaemonProcess> daemon_;
};

}  // namespace kaas
