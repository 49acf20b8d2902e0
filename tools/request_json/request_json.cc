#include "tools/request_json/request_json.h"

#include <array>
#include <optional>
#include <utility>

#include "schema/limits.h"
#include "tools/request_json/fields.h"

namespace kaas {
namespace {

// The fields of a kernel that tell the formats apart.
struct Marker {
  std::string_view field;
  RequestFormat format;
};
constexpr std::array<Marker, 6> kMarkers{{{"grid", RequestFormat::Kaas},
                                          {"block", RequestFormat::Kaas},
                                          {"nGrid", RequestFormat::OriginalOlder},
                                          {"nBlock", RequestFormat::OriginalOlder},
                                          {"gridDim", RequestFormat::OriginalLater},
                                          {"blockDim", RequestFormat::OriginalLater}}};

Result<std::optional<RequestFormat>> declared_format(const JsonNode& root) {
  const auto node = root.find("format");
  if (!node) return std::optional<RequestFormat>();
  if (node->is_text()) {
    const auto text = node->text(kNameBytesMax);
    for (const auto format :
         {RequestFormat::Kaas, RequestFormat::OriginalOlder, RequestFormat::OriginalLater}) {
      if (text.has_value() && *text == name_of(format)) return std::optional(format);
    }
  }
  return node->wrong("'kaas', 'original-older' or 'original-later'");
}

// The format that all kernels' fields agree on, and with `declared`, if that is set.
Result<RequestFormat> find_format(const JsonNode& root) {
  KAAS_ASSIGN_OR_RETURN(std::optional<RequestFormat> format, declared_format(root));
  std::string reason = format ? "format says '" + std::string(name_of(*format)) + "'" : "";
  KAAS_ASSIGN_OR_RETURN(const JsonNode list, root.field("kernels"));
  KAAS_ASSIGN_OR_RETURN(const auto kernels, list.elements(1, kKernelsMax));
  for (const JsonNode& kernel : kernels) {
    for (const Marker& marker : kMarkers) {
      if (!kernel.find(marker.field)) continue;
      const std::string here = kernel.path() + "." + std::string(marker.field) +
                               " belongs to format '" + name_of(marker.format) + "'";
      if (format && *format != marker.format) {
        return Status{StatusCode::InvalidArgument,
                      here + ", but " + reason + "; a request is of one format"};
      }
      if (!format) reason = here;
      format = marker.format;
    }
  }
  if (format) return *format;
  return kernels.front().fault(
      "has no grid; allowed: 'grid' and 'block', 'gridDim' and 'blockDim', or 'nGrid' and "
      "'nBlock'");
}

}  // namespace

const char* name_of(RequestFormat format) noexcept {
  switch (format) {
    case RequestFormat::Kaas:
      return "kaas";
    case RequestFormat::OriginalOlder:
      return "original-older";
    case RequestFormat::OriginalLater:
      return "original-later";
  }
  return "unknown format";
}

Result<JsonRequest> parse_request(std::string_view text) {
  if (text.size() > kRequestTextBytesMax) {
    return over_limit(StatusCode::ResourceExhausted, "the request's text in bytes", text.size(),
                      kRequestTextBytesMax);
  }
  KAAS_ASSIGN_OR_RETURN(const Json tree, parse_json(text));
  const JsonNode root(tree, "");
  if (!root.is_object()) return root.wrong("an object with 'kernels'");
  KAAS_ASSIGN_OR_RETURN(const RequestFormat format, find_format(root));
  if (format == RequestFormat::Kaas) return import_kaas(root);
  return import_original(root, format);
}

}  // namespace kaas
