#include "daemon/control/device_choice.h"

#include <algorithm>
#include <charconv>

#include "daemon/flow/field_limits.h"

namespace kaas {
namespace {

constexpr const char* kAuto = "auto";
constexpr const char* kHost = "host";
constexpr const char* kCuda = "cuda";
constexpr std::string_view kOrdinal = "cuda:";
constexpr const char* kAllowed =
    "auto, cuda, host, or a list of GPU ids, beginnings of ids or cuda:N, or of hosts";

Result<std::vector<std::string>> split(const std::string& text) {
  std::vector<std::string> names;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t comma = std::min(text.find(',', begin), text.size());
    std::string name = text.substr(begin, comma - begin);
    name.erase(0, name.find_first_not_of(" \t"));
    name.erase(name.find_last_not_of(" \t") + 1);
    if (name.empty()) {
      return invalid("device is '" + text + "', which has an empty name; allowed: " + kAllowed);
    }
    names.push_back(std::move(name));
    begin = comma + 1;
  }
  if (names.size() > kDevicesMax) {
    return over_limit(StatusCode::InvalidArgument, "devices in the list", names.size(),
                      kDevicesMax);
  }
  return names;
}

DeviceChoice hosts(std::size_t count, const DeviceWish& wish) {
  DeviceChoice choice;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string id = count == 1 ? kHost : std::string(kHost) + "-" + std::to_string(i);
    const std::uint64_t all = wish.device_bytes != 0 ? wish.device_bytes
                              : count == 1           ? 0
                                                     : wish.host_bytes;
    choice.devices.push_back({id, kHost, kHost, all / count});
  }
  return choice;
}

DeviceSpec gpu(const FoundDevice& found, const DeviceWish& wish) {
  return {found.id, std::string(kOrdinal) + found.id, found.name, wish.device_bytes};
}

// "cuda:0 GPU-1 (NVIDIA H100), cuda:1 GPU-2 (NVIDIA H100; in use)".
std::string described(const DeviceInventory& inventory) {
  std::string text;
  for (std::size_t i = 0; i < inventory.devices.size(); ++i) {
    const FoundDevice& device = inventory.devices[i];
    text += (i == 0 ? "" : ", ") + std::string(kOrdinal) + std::to_string(i) + " " + device.id +
            " (" + device.name + (device.problem.empty() ? "" : "; " + device.problem) + ")";
  }
  if (!text.empty()) return text;
  return "no GPU" + (inventory.problem.empty() ? "" : " (" + inventory.problem + ")");
}

// All that can be used; what can't is in the note.
DeviceChoice usable(const DeviceInventory& inventory, const DeviceWish& wish) {
  DeviceChoice choice;
  choice.kind = DeviceKind::Cuda;
  for (const FoundDevice& device : inventory.devices) {
    if (device.problem.empty() && choice.devices.size() < kDevicesMax) {
      choice.devices.push_back(gpu(device, wish));
    }
  }
  if (choice.devices.size() != inventory.devices.size()) {
    choice.note = "not all GPUs are used: " + described(inventory);
  }
  return choice;
}

Result<const FoundDevice*> find(const std::string& name, const DeviceInventory& inventory) {
  const auto& devices = inventory.devices;
  const auto none = [&](const char* what) {
    return Status{StatusCode::NotFound, "device '" + name + "' names " + what + "; there is " +
                                            described(inventory) + "; allowed: " + kAllowed};
  };
  if (name.starts_with(kOrdinal)) {
    std::size_t ordinal = 0;
    const char* const end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data() + kOrdinal.size(), end, ordinal);
    if (parsed.ec == std::errc() && parsed.ptr == end) {
      return ordinal < devices.size() ? Result<const FoundDevice*>(&devices[ordinal])
                                      : none("no GPU");
    }
  }
  // As kaasd itself names them: "cuda:GPU-...".
  const std::string_view id =
      std::string_view(name).substr(name.starts_with(kOrdinal) ? kOrdinal.size() : 0);
  const FoundDevice* found = nullptr;
  for (const FoundDevice& device : devices) {
    if (device.id == id) return &device;
    if (id.empty() || !device.id.starts_with(id)) continue;
    if (found != nullptr) return none("several GPUs");
    found = &device;
  }
  return found == nullptr ? none("no GPU") : Result<const FoundDevice*>(found);
}

Result<DeviceChoice> choose_listed(const std::vector<std::string>& names,
                                   const DeviceInventory& inventory, const DeviceWish& wish) {
  DeviceChoice choice;
  choice.kind = DeviceKind::Cuda;
  for (const std::string& name : names) {
    KAAS_ASSIGN_OR_RETURN(const FoundDevice* device, find(name, inventory));
    if (!device->problem.empty()) {
      return Status{StatusCode::Unavailable, "device '" + name + "' (" + device->id + ", " +
                                                 device->name +
                                                 ") can't be used: " + device->problem};
    }
    const bool is_twice =
        std::any_of(choice.devices.begin(), choice.devices.end(),
                    [&](const DeviceSpec& other) { return other.id == device->id; });
    if (is_twice)
      return invalid("device is '" + wish.devices + "', which names " + device->id + " twice");
    choice.devices.push_back(gpu(*device, wish));
  }
  return choice;
}

}  // namespace

Result<DeviceChoice> choose_devices(const DeviceWish& wish, const AskDevices& ask) {
  KAAS_ASSIGN_OR_RETURN(const std::vector<std::string> names, split(wish.devices));
  const auto count = [&](const char* name) {
    return static_cast<std::size_t>(std::count(names.begin(), names.end(), name));
  };
  for (const char* alone : {kAuto, kCuda}) {
    if (count(alone) == 0 || names.size() == 1) continue;
    return invalid("device is '" + wish.devices + "', but '" + alone +
                   "' stands alone; allowed: " + kAllowed);
  }
  if (count(kHost) == names.size()) return hosts(names.size(), wish);
  if (count(kHost) != 0) {
    return invalid("device is '" + wish.devices +
                   "', which mixes the host with GPUs; allowed is one kind");
  }
  auto inventory = ask();
  if (names.front() == kAuto) {
    DeviceChoice choice = inventory.has_value() ? usable(*inventory, wish) : DeviceChoice{};
    if (!choice.devices.empty()) return choice;
    choice = hosts(1, wish);
    choice.note = "kernels run on the host, because there is no GPU to use: " +
                  (inventory.has_value() ? described(*inventory) : inventory.error().message);
    return choice;
  }
  if (!inventory.has_value()) {
    return Status{inventory.error().code,
                  "device is '" + wish.devices +
                      "', but which GPUs there are can't be told: " + inventory.error().message};
  }
  if (names.front() != kCuda) return choose_listed(names, *inventory, wish);
  DeviceChoice choice = usable(*inventory, wish);
  if (!choice.devices.empty()) return choice;
  return Status{StatusCode::Unavailable,
                "device is 'cuda', but no GPU can be used: " + described(*inventory)};
}

}  // namespace kaas
