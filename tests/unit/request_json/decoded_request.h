// What a test looks at: the message that a JSON request became.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "schema/kaas_generated.h"
#include "tools/request_json/request_json.h"

namespace kaas {

// Parses text that must be right; the test fails otherwise.
class DecodedRequest {
 public:
  explicit DecodedRequest(std::string_view text);

  [[nodiscard]] bool ok() const { return parsed_.has_value(); }
  [[nodiscard]] const JsonRequest& parsed() const { return *parsed_; }
  [[nodiscard]] const wire::Request& wire() const { return *wire_; }
  [[nodiscard]] const wire::Kernel& kernel(unsigned n) const { return *wire_->kernels()->Get(n); }
  [[nodiscard]] const wire::Buffer& buffer(unsigned n) const { return *wire_->buffers()->Get(n); }
  // The arguments of a kernel: "a:i b:io".
  [[nodiscard]] std::string arguments(unsigned kernel) const;
  // The buffers' roles: "a:in b:in,out c:".
  [[nodiscard]] std::string roles() const;

 private:
  Result<JsonRequest> parsed_;
  const wire::Request* wire_ = nullptr;
};

// The message of the refusal; a test failure and "" if the text is accepted.
std::string refusal(std::string_view text);

}  // namespace kaas
