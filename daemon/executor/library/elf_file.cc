#include "daemon/executor/library/elf_file.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "schema/ipc/untrusted.h"
#include "schema/limits.h"

namespace kaas {
namespace {

#if defined(__x86_64__)
constexpr Elf64_Half kMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr Elf64_Half kMachine = EM_AARCH64;
#else
#error "name this machine's ELF number"
#endif

// A T at `offset`; nullopt when it is not wholly inside.
template <class T>
std::optional<T> read_at(std::span<const std::byte> file, std::uint64_t offset) {
  if (!range_fits(offset, sizeof(T), file.size())) return std::nullopt;
  T value;
  std::memcpy(&value, file.data() + offset, sizeof value);
  return value;
}

std::optional<Elf64_Shdr> section(std::span<const std::byte> file, const Elf64_Ehdr& header,
                                  std::uint32_t index) {
  if (index >= header.e_shnum || header.e_shentsize < sizeof(Elf64_Shdr)) return std::nullopt;
  // Both factors are 16 bits wide; only the sum with e_shoff could overflow, read_at refuses then.
  const std::uint64_t step = std::uint64_t{index} * header.e_shentsize;
  if (header.e_shoff > file.size()) return std::nullopt;
  return read_at<Elf64_Shdr>(file, header.e_shoff + step);
}

// The text at `offset` of a string table; empty when it does not end inside.
std::string_view text_at(std::span<const std::byte> file, const Elf64_Shdr& table,
                         std::uint64_t offset) {
  if (!range_fits(table.sh_offset, table.sh_size, file.size()) || offset >= table.sh_size)
    return {};
  const auto* begin = reinterpret_cast<const char*>(file.data()) + table.sh_offset + offset;
  const std::size_t bytes_max = std::min<std::size_t>(table.sh_size - offset, kNameBytesMax + 1);
  const void* end = std::memchr(begin, '\0', bytes_max);
  if (end == nullptr) return {};
  return {begin, static_cast<std::size_t>(static_cast<const char*>(end) - begin)};
}

std::string_view section_name(std::span<const std::byte> file, const Elf64_Ehdr& header,
                              std::uint32_t index) {
  const auto names = section(file, header, header.e_shstrndx);
  const auto one = section(file, header, index);
  return names && one ? text_at(file, *names, one->sh_name) : std::string_view();
}

bool is_exported_function(const Elf64_Sym& symbol, std::string_view /*section*/) noexcept {
  const unsigned binding = ELF64_ST_BIND(symbol.st_info);
  return ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && symbol.st_shndx != SHN_UNDEF &&
         (binding == STB_GLOBAL || binding == STB_WEAK) &&
         ELF64_ST_VISIBILITY(symbol.st_other) == STV_DEFAULT;
}

// Names in the symbol tables of type `table_type` of the symbols that `wanted` takes; sorted.
std::vector<std::string> symbol_names(std::span<const std::byte> file, Elf64_Word table_type,
                                      bool (*wanted)(const Elf64_Sym&, std::string_view section)) {
  std::vector<std::string> names;
  const auto header = read_at<Elf64_Ehdr>(file, 0);
  if (!header) return names;
  for (std::uint32_t i = 0; i < header->e_shnum; ++i) {
    const auto symbols = section(file, *header, i);
    if (!symbols || symbols->sh_type != table_type || symbols->sh_entsize < sizeof(Elf64_Sym) ||
        !range_fits(symbols->sh_offset, symbols->sh_size, file.size())) {
      continue;
    }
    const auto strings = section(file, *header, symbols->sh_link);
    if (!strings) continue;
    const std::uint64_t count = symbols->sh_size / symbols->sh_entsize;
    for (std::uint64_t s = 0; s < count; ++s) {
      const auto symbol = read_at<Elf64_Sym>(file, symbols->sh_offset + s * symbols->sh_entsize);
      if (!symbol || !wanted(*symbol, section_name(file, *header, symbol->st_shndx))) continue;
      const std::string_view name = text_at(file, *strings, symbol->st_name);
      if (!name.empty()) names.emplace_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

Status damaged(std::span<const std::byte> file, const std::string& what, const std::string& part) {
  return Status{StatusCode::InvalidArgument, what + " is damaged: " + part + " lies outside its " +
                                                 std::to_string(file.size()) + " bytes"};
}

// What a loader maps.
Result<void> check_segments_inside(std::span<const std::byte> file, const Elf64_Ehdr& header,
                                   const std::string& what) {
  for (std::uint32_t i = 0; i < header.e_phnum; ++i) {
    const std::uint64_t step = std::uint64_t{i} * header.e_phentsize;
    if (header.e_phentsize < sizeof(Elf64_Phdr) || header.e_phoff > file.size()) {
      return damaged(file, what, "its table of segments");
    }
    const auto one = read_at<Elf64_Phdr>(file, header.e_phoff + step);
    if (!one) return damaged(file, what, "its table of segments");
    if (!range_fits(one->p_offset, one->p_filesz, file.size())) {
      return damaged(file, what, "segment " + std::to_string(i));
    }
  }
  return {};
}

}  // namespace

Result<void> check_shared_object(std::span<const std::byte> file, const std::string& what) {
  const auto header = read_at<Elf64_Ehdr>(file, 0);
  if (!header || std::memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) {
    return Status{StatusCode::InvalidArgument, what + " is not an ELF file"};
  }
  if (header->e_ident[EI_CLASS] != ELFCLASS64 || header->e_ident[EI_DATA] != ELFDATA2LSB ||
      header->e_machine != kMachine) {
    return Status{StatusCode::InvalidArgument, what + " is built for machine " +
                                                   std::to_string(header->e_machine) +
                                                   ", this one is " + std::to_string(kMachine)};
  }
  if (header->e_type != ET_DYN) {
    return Status{StatusCode::InvalidArgument, what + " is an ELF file of type " +
                                                   std::to_string(header->e_type) +
                                                   ", not a shared object"};
  }
  return check_segments_inside(file, *header, what);
}

bool is_elf(std::span<const std::byte> file) noexcept {
  return file.size() >= SELFMAG && std::memcmp(file.data(), ELFMAG, SELFMAG) == 0;
}

std::optional<Elf64_Ehdr> elf_header(std::span<const std::byte> file) {
  const auto header = read_at<Elf64_Ehdr>(file, 0);
  if (!header || !is_elf(file) || header->e_ident[EI_CLASS] != ELFCLASS64 ||
      header->e_ident[EI_DATA] != ELFDATA2LSB) {
    return std::nullopt;
  }
  return header;
}

Result<void> check_sections_inside(std::span<const std::byte> file, const std::string& what) {
  const auto header = elf_header(file);
  if (!header) return damaged(file, what, "its header");
  if (header->e_shnum == 0) return damaged(file, what, "its table of sections");
  for (std::uint32_t i = 0; i < header->e_shnum; ++i) {
    const auto one = section(file, *header, i);
    if (!one) return damaged(file, what, "its table of sections");
    if (one->sh_type == SHT_NOBITS || one->sh_type == SHT_NULL) continue;
    if (!range_fits(one->sh_offset, one->sh_size, file.size())) {
      return damaged(file, what, "section " + std::to_string(i));
    }
  }
  return check_segments_inside(file, *header, what);
}

std::vector<std::string> defined_variables(std::span<const std::byte> file) {
  // In other sections lie shared memory, and what the compiler keeps for itself.
  return symbol_names(file, SHT_SYMTAB, [](const Elf64_Sym& symbol, std::string_view section) {
    return ELF64_ST_TYPE(symbol.st_info) == STT_OBJECT && symbol.st_size != 0 &&
           (section.starts_with(".nv.global") || section.starts_with(".nv.constant3"));
  });
}

std::vector<std::string> exported_functions(std::span<const std::byte> file) {
  auto names = symbol_names(file, SHT_DYNSYM, is_exported_function);
  std::erase_if(names, [](const std::string& name) { return name == "_init" || name == "_fini"; });
  return names;
}

}  // namespace kaas
