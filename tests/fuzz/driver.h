// What a fuzz target is, and how it runs without libFuzzer.
//
// A target fuzz_NAME is one source file that defines both functions below. With KAAS_FUZZ=ON
// (clang) it links libFuzzer; otherwise it links driver.cc, whose main runs, as an ordinary test:
//   1. every file of tests/fuzz/corpus/NAME, the kept inputs that once found something or reach
//   far; 2. the target's seeds;
//   3. mutations of all of these, by a random seed that is printed.
//
//   fuzz_NAME [--seed S] [--mutations N] [--seconds S] [FILE|FOLDER...]
//   fuzz_NAME --write-seeds FOLDER     (tests/fuzz/corpus/NAME is made this way)
//
// An input that ends the program is written to fuzz_NAME.crash in the working folder.
// Threads: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

// The one entry that libFuzzer calls; a fault is a crash, a sanitizer report or a KAAS_CHECK.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace kaas {

struct FuzzSeed {
  std::string name;  // Of its file.
  std::vector<std::byte> bytes;
};

// Valid inputs, from which mutation starts. Deterministic.
std::vector<FuzzSeed> fuzz_seeds();

}  // namespace kaas
