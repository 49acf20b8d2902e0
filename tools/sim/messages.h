// What a client of the simulation sends and sees, in values: encoded submissions, decoded answers.
// Threads: values and pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "daemon/flow/request.h"
#include "schema/ipc/messages.h"

namespace kaas {

using Bytes = std::vector<std::byte>;

// Every function returns a finished Submission.
Bytes submit_message(std::uint64_t id, std::span<const std::byte> request,
                     const RunOptions& options = {});
Bytes prepare_message(std::uint64_t id, std::span<const std::byte> request);
// `renames`: buffer name to key.
Bytes invoke_message(std::uint64_t id, std::uint32_t plan,
                     const std::vector<std::pair<std::string, std::string>>& renames = {},
                     const RunOptions& options = {});
Bytes release_message(std::uint64_t id, std::uint32_t plan);
Bytes put_message(std::uint64_t id, const std::string& key, std::span<const std::byte> data);
Bytes put_segment_message(std::uint64_t id, const std::string& key, std::uint32_t segment,
                          std::uint64_t offset, std::uint64_t bytes);
Bytes put_donated_message(std::uint64_t id, const std::string& key, std::uint64_t token,
                          std::uint64_t bytes);
Bytes get_message(std::uint64_t id, const std::string& key);
Bytes stat_message(std::uint64_t id, const std::string& key);
Bytes remove_message(std::uint64_t id, const std::string& key);
Bytes export_message(std::uint64_t id, const std::string& key, const ExportSpec& wanted = {});
Bytes cancel_message(std::uint64_t id, std::uint64_t target);
// As invoke_message.
Bytes open_lane_message(std::uint64_t id, std::uint32_t plan,
                        const std::vector<std::pair<std::string, std::string>>& renames = {});
Bytes drop_lane_call_message(std::uint64_t id, std::uint32_t lane, std::uint32_t call);

struct SeenOutput {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t version = 0;
  Bytes data;
};

struct SeenExport {
  std::uint32_t segment = 0;
  std::uint64_t allocation_bytes = 0;
  std::size_t gpu_bytes = 0;
  std::string device;
};

struct SeenGrant {
  std::uint32_t lane = 0;
  std::uint32_t call = 0;
  std::uint64_t in_token = 0;
  std::uint64_t out_token = 0;
  std::uint64_t bell_token = 0;
  bool replayable = false;
};

struct SeenAnswer {
  std::uint64_t id = 0;
  StatusCode code = StatusCode::Ok;
  std::string message;
  std::uint32_t plan = 0;
  std::uint64_t version = 0;
  std::uint64_t bytes = 0;
  std::uint64_t token = 0;
  Bytes data;
  std::vector<SeenOutput> outputs;
  bool profiled = false;
  wire::ObjectPlace place = wire::ObjectPlace::Host;
  std::string device;
  std::optional<SeenExport> exported;
  std::optional<SeenGrant> lane;
};

// nullopt: not an Answer.
std::optional<SeenAnswer> decode_answer(std::span<const std::byte> message);

}  // namespace kaas
