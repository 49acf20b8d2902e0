#include "tools/kaasctl/reading.h"

namespace kaas {
namespace {

const Json* find(const Json& object, const char* field) {
  if (!object.is_object()) return nullptr;
  const auto position = object.find(field);
  return position == object.end() ? nullptr : &*position;
}

}  // namespace

Result<Json> parse_answer(const std::string& text) {
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) {
    return Status{StatusCode::Internal, "the daemon's answer is no JSON"};
  }
  return json;
}

std::uint64_t natural_at(const Json& object, const char* field) {
  const Json* value = find(object, field);
  return value != nullptr && value->is_number_unsigned() ? value->get<std::uint64_t>() : 0;
}

double number_at(const Json& object, const char* field) {
  const Json* value = find(object, field);
  return value != nullptr && value->is_number() ? value->get<double>() : 0;
}

bool flag_at(const Json& object, const char* field) {
  const Json* value = find(object, field);
  return value != nullptr && value->is_boolean() && value->get<bool>();
}

std::string text_at(const Json& object, const char* field) {
  const Json* value = find(object, field);
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

const Json& list_at(const Json& object, const char* field) {
  static const Json kEmpty = Json::array();
  const Json* value = find(object, field);
  return value != nullptr && value->is_array() ? *value : kEmpty;
}

const Json& object_at(const Json& object, const char* field) {
  static const Json kEmpty = Json::object();
  const Json* value = find(object, field);
  return value != nullptr && value->is_object() ? *value : kEmpty;
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace kaas
