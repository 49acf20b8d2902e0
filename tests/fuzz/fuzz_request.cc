// Arbitrary bytes as a request: refused with a reason, or decoded and compiled into a sound
// template.
#include "tests/fuzz/driver.h"
#include "tests/fuzz/request_checks.h"
#include "tests/fuzz/request_seeds.h"

std::vector<kaas::FuzzSeed> kaas::fuzz_seeds() {
  return request_seeds();
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  kaas::decode_and_compile({reinterpret_cast<const std::byte*>(data), size});
  return 0;
}
