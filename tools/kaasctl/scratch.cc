#include "tools/kaasctl/scratch.h"

#include <string_view>
#include <utility>

#include "tools/kaasctl/transfer.h"

namespace kaas {
namespace {

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  for (std::size_t at = text.find(what); at != text.npos; at = text.find(what, at + by.size())) {
    text.replace(at, what.size(), by);
  }
}

}  // namespace

Scratch::Scratch(Client& client, const RunArguments& arguments)
    : client_(client),
      arguments_(arguments),
      function_(".kaasctl/" + std::to_string(client.session())) {}

std::string Scratch::key_of(const BoundFile& file) const {
  return function_ + "/" + file.buffer;
}

Result<void> Scratch::bind(Bindings& bindings, const Console& console) {
  for (const auto& [buffer, key] : arguments_.keys) bindings.at(buffer, key);
  for (const BoundFile& file : arguments_.files) {
    if (!file.input.empty()) {
      KAAS_RETURN_IF_ERROR(put_file(client_, key_of(file), file.input, console));
    }
    bindings.at(file.buffer, key_of(file), 0);
  }
  return {};
}

Result<std::string> Scratch::deploy(const Request& request, const std::string& file) {
  request_file_ = name_of_source(file);
  may_be_deployed_ = true;  // Also if the answer is lost.
  KAAS_ASSIGN_OR_RETURN(version_, client_.deploy(function_, request));
  return function_;
}

Result<void> Scratch::write_outputs(Console& console) {
  for (const BoundFile& file : arguments_.files) {
    if (file.output.empty()) continue;
    auto object = client_.get(key_of(file));
    if (!object.has_value()) return std::move(object).error();
    KAAS_RETURN_IF_ERROR(write_object(*object, file.output, console));
  }
  return {};
}

bool Scratch::empty() const {
  return arguments_.files.empty() && !may_be_deployed_;
}

void Scratch::remove(Client& client) const {
  for (const BoundFile& file : arguments_.files) {
    const auto removed = client.remove(key_of(file));
    static_cast<void>(removed.has_value());
  }
  if (!may_be_deployed_) return;
  const auto removed = client.undeploy(function_);
  static_cast<void>(removed.has_value());
}

Status Scratch::in_words_of_user(Status status) const {
  for (const BoundFile& file : arguments_.files) {
    const std::string& path = file.input.empty() ? file.output : file.input;
    replace_all(status.message, "'" + key_of(file) + "'", "'" + path + "'");
  }
  if (may_be_deployed_) {
    const std::string name = "function '" + function_ + "'";
    replace_all(status.message, name + " version " + std::to_string(version_), request_file_);
    replace_all(status.message, name, request_file_);
  }
  return status;
}

}  // namespace kaas
