// Rows of the suite that are about large objects.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "schema/ipc/clock.h"
#include "schema/ipc/handle.h"
#include "schema/ipc/segment.h"
#include "tools/bench/suite_rows.h"

namespace kaas {
namespace {

constexpr const char* kKey = "kaas-bench/large";

// The first is kKey, whose content is checked.
std::string donated_key(std::size_t index) {
  return index == 0 ? kKey : kKey + std::to_string(index);
}
// A get that copied would fault once a page (65536 times for 256 MiB of 4 KiB pages).
constexpr std::uint64_t kFaultsMax = 256;

Status system_error(const char* what) {
  return {StatusCode::ResourceExhausted, std::string(what) + ": " + std::strerror(errno)};
}

// Bytes that differ from page to page, so that a copy of the wrong place shows.
std::vector<std::byte> patterned_bytes(std::uint64_t bytes) {
  std::vector<std::byte> result(bytes);
  std::uint64_t state = 0x9e3779b97f4a7c15u;
  for (std::uint64_t at = 0; at + sizeof state <= bytes; at += sizeof state) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    std::memcpy(result.data() + at, &state, sizeof state);
  }
  return result;
}

// A memfd with a copy of `bytes`, unmapped again.
Result<Descriptor> fresh_memfd(std::span<const std::byte> bytes) {
  Descriptor file(::memfd_create("kaas-bench", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return system_error("memfd_create");
  if (::ftruncate(file.get(), static_cast<off_t>(bytes.size())) != 0) {
    return system_error("ftruncate");
  }
  void* memory = ::mmap(nullptr, bytes.size(), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (memory == MAP_FAILED) return system_error("mmap");
  std::memcpy(memory, bytes.data(), bytes.size());
  ::munmap(memory, bytes.size());
  return file;
}

Result<void> check_content(Client& client, std::span<const std::byte> wanted) {
  KAAS_ASSIGN_OR_RETURN(const Object object, client.get(kKey));
  if (object.bytes().size() == wanted.size() &&
      std::memcmp(object.bytes().data(), wanted.data(), wanted.size()) == 0) {
    return {};
  }
  return Status{StatusCode::DataLost, "the object read back is not what was put"};
}

double gib_per_second(std::uint64_t bytes, std::uint64_t time_ns) {
  return static_cast<double>(bytes) / static_cast<double>(1u << 30) /
         (static_cast<double>(time_ns) / 1e9);
}

std::string size_note(const SuiteContext& context) {
  return "object of " + std::to_string(context.object_bytes >> 20) + " MiB";
}

}  // namespace

Result<void> measure_get(SuiteContext& context, TableRow& row) {
  const std::vector<std::byte> bytes = patterned_bytes(context.object_bytes);
  KAAS_ASSIGN_OR_RETURN(Client client, Client::connect(context.client));
  KAAS_RETURN_IF_ERROR(client.put(kKey, bytes));
  RowRounds rounds;
  std::uint64_t faults_most = 0;
  std::uint64_t inode = 0;
  KAAS_RETURN_IF_ERROR(measure(context, row, rounds, [&]() -> Result<void> {
    std::vector<double> times_us;
    for (int i = 0; i < 20; ++i) {
      const std::uint64_t faults_before = own_page_faults();
      const std::uint64_t begin_ns = now_ns();
      KAAS_ASSIGN_OR_RETURN(const Object object, client.get(kKey));
      times_us.push_back(static_cast<double>(now_ns() - begin_ns) / 1000);
      faults_most = std::max(faults_most, own_page_faults() - faults_before);
      const MappedFile file = mapped_file_at(object.bytes().data());
      if (file.name.find("memfd:") == std::string::npos || (inode != 0 && file.inode != inode)) {
        return Status{StatusCode::Internal,
                      "get does not map the one memfd of the object: '" + file.name + "'"};
      }
      inode = file.inode;
    }
    rounds.ours.push_back(percentile(times_us, 50));
    return {};
  }));
  if (faults_most > kFaultsMax) {
    return Status{StatusCode::Internal, "a get caused " + std::to_string(faults_most) +
                                            " page faults, limit " + std::to_string(kFaultsMax)};
  }
  KAAS_RETURN_IF_ERROR(check_content(client, bytes));
  row.notes.push_back(size_note(context) + "; every get mapped the same memfd, at most " +
                      std::to_string(faults_most) + " page faults; content compared afterwards");
  KAAS_RETURN_IF_ERROR(client.remove(kKey));
  return {};
}

Result<void> measure_put(SuiteContext& context, TableRow& row) {
  const std::vector<std::byte> bytes = patterned_bytes(context.object_bytes);
  KAAS_ASSIGN_OR_RETURN(Client client, Client::connect(context.client));
  RowRounds rounds;
  const auto round = [&]() -> Result<void> {
    std::uint64_t begin_ns = now_ns();
    KAAS_ASSIGN_OR_RETURN(Descriptor copy, fresh_memfd(bytes));
    rounds.peers.push_back(gib_per_second(bytes.size(), now_ns() - begin_ns));
    copy = Descriptor();  // Freeing is not timed, for either.
    begin_ns = now_ns();
    KAAS_RETURN_IF_ERROR(client.put(kKey, bytes));
    rounds.ours.push_back(gib_per_second(bytes.size(), now_ns() - begin_ns));
    return {};
  };
  KAAS_RETURN_IF_ERROR(round());
  KAAS_RETURN_IF_ERROR(check_content(client, bytes));
  KAAS_RETURN_IF_ERROR(client.remove(kKey));
  rounds = {};  // That was the warm-up.
  const auto round_and_remove = [&]() -> Result<void> {
    KAAS_RETURN_IF_ERROR(round());
    return client.remove(kKey);
  };
  KAAS_RETURN_IF_ERROR(measure(context, row, rounds, round_and_remove));
  row.notes.push_back(size_note(context) + "; the peer makes, maps, fills and unmaps a memfd");
  return {};
}

Result<void> measure_donate(SuiteContext& context, TableRow& row) {
  constexpr std::size_t kFilesPerRound = 4;
  const std::vector<std::byte> bytes = patterned_bytes(context.object_bytes);
  KAAS_ASSIGN_OR_RETURN(Client client, Client::connect(context.client));
  RowRounds rounds;
  std::vector<double> sealing_us;
  // Filled and sealed before, then donated one after another: the first of them finds everybody
  // asleep and the caches full of what was filled.
  const auto donate = [&](std::size_t count) -> Result<double> {
    std::vector<Descriptor> files;
    for (std::size_t i = 0; i < count; ++i) {
      KAAS_ASSIGN_OR_RETURN(Descriptor file, fresh_memfd(bytes));
      const std::uint64_t begin_ns = now_ns();
      KAAS_RETURN_IF_ERROR(add_seals(file.get(), Seals::Size | Seals::Write | Seals::Seal));
      sealing_us.push_back(static_cast<double>(now_ns() - begin_ns) / 1000);
      files.push_back(std::move(file));
    }
    std::vector<double> times_us;
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t begin_ns = now_ns();
      KAAS_RETURN_IF_ERROR(client.donate(donated_key(i), files[i].get()));
      times_us.push_back(static_cast<double>(now_ns() - begin_ns) / 1000);
    }
    return percentile(times_us, 50);
  };
  const auto remove = [&](std::size_t count) -> Result<void> {
    for (std::size_t i = 0; i < count; ++i) KAAS_RETURN_IF_ERROR(client.remove(donated_key(i)));
    return {};
  };
  KAAS_RETURN_IF_ERROR(donate(1));
  KAAS_RETURN_IF_ERROR(check_content(client, bytes));
  KAAS_RETURN_IF_ERROR(remove(1));
  const auto round = [&]() -> Result<void> {
    KAAS_ASSIGN_OR_RETURN(const double time_us, donate(kFilesPerRound));
    rounds.ours.push_back(time_us);
    return remove(kFilesPerRound);
  };
  KAAS_RETURN_IF_ERROR(measure(context, row, rounds, round));
  char note[160];
  std::snprintf(note, sizeof note,
                "; each round: %zu filled and sealed memfds, then donated one after another, "
                "their median (sealing, not timed: %.0f us)",
                kFilesPerRound, percentile(sealing_us, 50));
  row.notes.push_back(size_note(context) + note);
  return {};
}

}  // namespace kaas
