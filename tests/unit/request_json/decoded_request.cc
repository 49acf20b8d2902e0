#include "tests/unit/request_json/decoded_request.h"

namespace kaas {

DecodedRequest::DecodedRequest(std::string_view text) : parsed_(parse_request(text)) {
  if (!parsed_.has_value()) {
    ADD_FAILURE() << parsed_.error().message << "\n" << text;
    return;
  }
  const auto bytes = parsed_->request.bytes();
  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  EXPECT_TRUE(verifier.VerifyBuffer<wire::Request>(nullptr));
  wire_ = flatbuffers::GetRoot<wire::Request>(bytes.data());
}

std::string DecodedRequest::arguments(unsigned kernel_index) const {
  std::string text;
  const auto* arguments = kernel(kernel_index).arguments();
  if (arguments == nullptr) return text;
  for (const auto* argument : *arguments) {
    constexpr const char* kTypes[] = {"i", "o", "io", "t"};
    text += (text.empty() ? "" : " ") + buffer(argument->buffer()).name()->str() + ":" +
            kTypes[static_cast<int>(argument->access())];
  }
  return text;
}

std::string DecodedRequest::roles() const {
  std::string text;
  for (const JsonBuffer& buffer : parsed().buffers) {
    text += (text.empty() ? "" : " ") + buffer.name + ":";
    if (buffer.is_input) text += "in";
    if (buffer.is_output) text += buffer.is_input ? ",out" : "out";
  }
  return text;
}

std::string refusal(std::string_view text) {
  const auto parsed = parse_request(text);
  if (parsed.has_value()) {
    ADD_FAILURE() << "accepted: " << text;
    return "";
  }
  return parsed.error().message;
}

}  // namespace kaas
