// Reading the daemon's JSON answers: a field that is missing or of another type reads as nothing,
// so that a kaasctl of another version still shows the rest.
// Pure functions. Threads: any.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "schema/ipc/result.h"

namespace kaas {

using Json = nlohmann::json;

// Fails: Internal: the daemon's answer is no JSON.
Result<Json> parse_answer(const std::string& text);

std::uint64_t natural_at(const Json& object, const char* field);
double number_at(const Json& object, const char* field);
bool flag_at(const Json& object, const char* field);
std::string text_at(const Json& object, const char* field);
// Empty when there is none. They refer into `object`, which must not be a temporary.
const Json& list_at(const Json& object, const char* field);
const Json& list_at(Json&& object, const char* field) = delete;
const Json& object_at(const Json& object, const char* field);
const Json& object_at(Json&& object, const char* field) = delete;

// One line; what is no UTF-8 is replaced.
std::string dump(const Json& json);

}  // namespace kaas
