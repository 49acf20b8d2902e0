// Built with CUDA: GPUs, if the machine has a driver and any.
#include <nlohmann/json.hpp>

#include "daemon/executor/device/cuda/cuda_device.h"
#include "daemon/executor/device/host_device.h"
#include "daemon/executor/device/open_device.h"

namespace kaas {
namespace {

constexpr std::string_view kCudaPrefix = "cuda:";

}  // namespace

Result<std::unique_ptr<Device>> open_device(const DeviceChoice& choice) {
  if (choice.device == "host") {
    return std::unique_ptr<Device>(
        std::make_unique<HostDevice>(choice.memory_bytes, choice.threads));
  }
  if (choice.device.starts_with(kCudaPrefix)) {
    const std::string id = choice.device.substr(kCudaPrefix.size());
    KAAS_ASSIGN_OR_RETURN(auto device, CudaDevice::open(id, id, choice.reserved_sms));
    return std::unique_ptr<Device>(std::move(device));
  }
  return Status{StatusCode::InvalidArgument,
                "device is '" + choice.device + "', allowed: host, cuda:ID"};
}

std::string list_devices_json() {
  nlohmann::json json{{"devices", nlohmann::json::array()}, {"problem", ""}};
  const auto devices = list_cuda_devices();
  if (!devices) {
    json["problem"] = devices.error().message;
    return json.dump();
  }
  for (const CudaDeviceInfo& device : *devices) {
    json["devices"].push_back({{"id", device.id},
                               {"name", device.name},
                               {"memory_bytes", device.memory_bytes},
                               {"problem", device.problem}});
  }
  return json.dump();
}

}  // namespace kaas
