#include "daemon/executor/library/module_image.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>

#include "daemon/executor/library/elf_file.h"
#include "schema/ipc/untrusted.h"
#include "schema/limits.h"

namespace kaas {
namespace {

constexpr Elf64_Half kCudaMachine = 190;
constexpr std::uint32_t kFatbinMagic = 0xBA55ED50;
// From this version of the ABI on, the architecture stands in the second byte of the flags.
constexpr unsigned char kAbiWithWideFlags = 8;

struct FatbinHeader {
  std::uint32_t magic;
  std::uint16_t version;
  std::uint16_t header_bytes;
  std::uint64_t bytes;  // Of the parts, behind the header.
};
static_assert(sizeof(FatbinHeader) == 16);

struct FatbinPart {
  std::uint16_t kind;  // 1: PTX, 2: cubin.
  std::uint16_t version;
  std::uint32_t header_bytes;
  std::uint64_t bytes;  // Behind this header.
  std::uint32_t compressed_bytes;
  std::uint32_t unused[2];
  std::uint32_t architecture;
};
static_assert(sizeof(FatbinPart) == 32);
constexpr std::uint16_t kPtxPart = 1;
constexpr std::size_t kPartsDescribed = 16;
constexpr std::string_view kFileNamespace = "_INTERNAL_";

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Behind white space and comments.
std::string_view skip_blanks(std::string_view text) {
  for (;;) {
    const std::size_t begin = text.find_first_not_of(" \t\r\n\f\v");
    if (begin == std::string_view::npos) return {};
    text.remove_prefix(begin);
    std::size_t end = std::string_view::npos;
    if (text.starts_with("//")) {
      end = text.find('\n');
    } else if (text.starts_with("/*")) {
      end = text.find("*/", 2);
      if (end != std::string_view::npos) end += 2;
    } else {
      return text;
    }
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end);
  }
}

std::string_view first_word(std::string_view text) {
  return text.substr(0, text.find_first_of(" \t\r\n,;/"));
}

// The word behind `directive` at the beginning of PTX; empty when it is not there.
std::string_view word_behind(std::string_view ptx, std::string_view directive) {
  for (std::string_view text = skip_blanks(ptx); text.starts_with('.');) {
    const std::string_view name = first_word(text);
    text = skip_blanks(text.substr(name.size()));
    const std::string_view value = first_word(text);
    if (name == directive) return value;
    const std::size_t end = text.find_first_of("\n");
    if (end == std::string_view::npos) return {};
    text = skip_blanks(text.substr(end));
  }
  return {};
}

bool is_ptx(std::string_view text) {
  return first_word(skip_blanks(text)) == ".version" && !word_behind(text, ".target").empty();
}

// The variable that a line of PTX outside of functions declares:
// ".visible .const .align 4 .b8 table[64];"
std::optional<std::string_view> declared_variable(std::string_view line) {
  bool space = false;
  std::string_view last;
  while (true) {
    line = skip_blanks(line);
    const std::string_view word = first_word(line);
    if (word.empty()) break;
    line.remove_prefix(word.size());
    if (last.empty() && !word.starts_with('.')) return std::nullopt;
    if (word == ".extern" || word == ".entry" || word == ".func") return std::nullopt;
    space = space || word == ".const" || word == ".global";
    const bool value = last == ".align";
    last = word;
    if (word.starts_with('.') || value) continue;
    if (!space) return std::nullopt;
    return word.substr(0, word.find_first_of("[="));
  }
  return std::nullopt;
}

void add_ptx_variables(std::string_view ptx, ModuleImage& image) {
  int depth = 0;
  while (!ptx.empty()) {
    const std::size_t end = std::min(ptx.find('\n'), ptx.size());
    const std::string_view line = ptx.substr(0, end);
    ptx.remove_prefix(std::min(end + 1, ptx.size()));
    // Initial values stand in braces on the line of their variable.
    if (depth == 0) {
      if (const auto name = declared_variable(line)) {
        if (!name->empty() && name->size() <= kNameBytesMax) image.variables.emplace_back(*name);
      }
    }
    depth += static_cast<int>(std::count(line.begin(), line.end(), '{'));
    depth -= static_cast<int>(std::count(line.begin(), line.end(), '}'));
  }
}

std::string architecture_of(const Elf64_Ehdr& header) {
  const bool wide = header.e_ident[EI_ABIVERSION] >= kAbiWithWideFlags;
  return "sm_" + std::to_string((header.e_flags >> (wide ? 8 : 0)) & 0xff);
}

Result<std::string> add_cubin(std::span<const std::byte> cubin, const std::string& what,
                              ModuleImage& image) {
  KAAS_RETURN_IF_ERROR(check_sections_inside(cubin, what));
  for (std::string& name : defined_variables(cubin)) image.variables.push_back(std::move(name));
  return architecture_of(*elf_header(cubin));
}

Result<void> add_fatbin(std::span<const std::byte> file, const std::string& what,
                        ModuleImage& image) {
  const auto damaged = [&](const std::string& part, std::uint64_t needed) {
    return Status{StatusCode::InvalidArgument,
                  what + " is damaged: " + part + " wants " + std::to_string(needed) +
                      " bytes, the file has " + std::to_string(file.size())};
  };
  FatbinHeader header{};
  if (file.size() < sizeof header) return damaged("a fatbin's header", sizeof header);
  std::memcpy(&header, file.data(), sizeof header);
  if (header.header_bytes < sizeof header ||
      !range_fits(header.header_bytes, header.bytes, file.size())) {
    return damaged("its content", header.bytes);
  }
  image.description = "a fatbin for";
  std::span<const std::byte> rest = file.subspan(header.header_bytes, header.bytes);
  for (std::size_t index = 0; !rest.empty(); ++index) {
    FatbinPart part{};
    if (rest.size() < sizeof part) return damaged("a part's header", sizeof part);
    std::memcpy(&part, rest.data(), sizeof part);
    if (part.header_bytes < sizeof part ||
        !range_fits(part.header_bytes, part.bytes, rest.size())) {
      return damaged("a part", part.bytes);
    }
    const auto content = rest.subspan(part.header_bytes, part.bytes);
    if (index < kPartsDescribed) {
      image.description += (index == 0 ? " " : ", ") +
                           std::string(part.kind == kPtxPart ? "compute_" : "sm_") +
                           std::to_string(part.architecture);
    }
    if (is_elf(content)) {
      KAAS_RETURN_IF_ERROR(add_cubin(content, what, image));
    } else if (is_ptx(text_of(content))) {
      add_ptx_variables(text_of(content), image);
    } else {
      image.lists_variables = false;
    }
    rest = rest.subspan(part.header_bytes + part.bytes);
  }
  return {};
}

// What compilers, linkers and the toolkit's headers put there for themselves.
bool is_internal(const std::string& name) {
  constexpr std::string_view kOwners[] = {"18cooperative_groups", "4cuda", "3cub", "6thrust"};
  if (name.starts_with('$') || name.starts_with(".nv") || name.starts_with("__nv")) return true;
  if (!name.starts_with("_Z")) return false;
  std::size_t begin = std::min(name.find_first_not_of("_ZNKS"), name.size());
  // What is static lies in a namespace of its file: "31_INTERNAL_..." and then as many characters.
  std::size_t length = 0;
  const auto number = std::from_chars(name.data() + begin, name.data() + name.size(), length);
  const auto after = static_cast<std::size_t>(number.ptr - name.data());
  if (name.compare(after, kFileNamespace.size(), kFileNamespace) == 0) {
    begin = std::min(after + std::min(length, name.size()), name.size());
  }
  return std::any_of(std::begin(kOwners), std::end(kOwners), [&](std::string_view owner) {
    return name.compare(begin, owner.size(), owner) == 0;
  });
}

}  // namespace

LibraryForm recognise(std::span<const std::byte> file, std::string_view path) {
  if (is_elf(file)) {
    const auto header = elf_header(file);
    return header && header->e_machine == kCudaMachine ? LibraryForm::Cubin
                                                       : LibraryForm::SharedObject;
  }
  std::uint32_t magic = 0;
  if (file.size() >= sizeof magic) std::memcpy(&magic, file.data(), sizeof magic);
  if (magic == kFatbinMagic) return LibraryForm::Fatbin;
  if (is_ptx(text_of(file))) return LibraryForm::Ptx;
  return path.ends_with(".cu") ? LibraryForm::CudaSource : LibraryForm::Unknown;
}

Result<ModuleImage> inspect_image(std::span<const std::byte> image, const std::string& what) {
  ModuleImage result;
  switch (recognise(image, "")) {
    case LibraryForm::Cubin: {
      KAAS_ASSIGN_OR_RETURN(const std::string architecture, add_cubin(image, what, result));
      result.description = "a cubin for " + architecture;
      break;
    }
    case LibraryForm::Fatbin:
      KAAS_RETURN_IF_ERROR(add_fatbin(image, what, result));
      break;
    case LibraryForm::Ptx: {
      const std::string_view text = text_of(image);
      result.description = "PTX of version " + std::string(word_behind(text, ".version")) +
                           " for " + std::string(word_behind(text, ".target"));
      add_ptx_variables(text, result);
      break;
    }
    default:
      return Status{StatusCode::InvalidArgument, what + " is neither cubin, fatbin nor PTX"};
  }
  std::erase_if(result.variables, is_internal);
  std::sort(result.variables.begin(), result.variables.end());
  const auto end = std::unique(result.variables.begin(), result.variables.end());
  result.variables.erase(end, result.variables.end());
  return result;
}

}  // namespace kaas
