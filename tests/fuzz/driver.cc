#include "tests/fuzz/driver.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string_view>
#include <utility>

// Sanitizers end the program without a signal; they call this first. Absent in plain builds.
extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));

namespace kaas {
namespace {

using Input = std::vector<std::byte>;

constexpr std::size_t kInputBytesMax = 64u << 10;

struct Options {
  std::uint64_t seed = 1;
  std::uint64_t mutations = 20'000;
  std::uint64_t seconds = 5;
  std::vector<std::string> paths;
  std::string write_seeds;
};

// For the signal handler: the input that runs now.
const Input* running_input = nullptr;
char crash_path[4096];

// Only calls that a signal handler may make.
void save_running_input() {
  const Input* input = std::exchange(running_input, nullptr);
  if (input == nullptr) return;
  const int file = open(crash_path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
  if (file < 0) return;
  const ssize_t written = write(file, input->data(), input->size());
  close(file);
  const char* const verdict = written >= 0 ? "input kept in " : "input could not be written to ";
  for (const char* text : {verdict, static_cast<const char*>(crash_path), "\n"}) {
    if (write(STDERR_FILENO, text, std::strlen(text)) < 0) return;
  }
}

void on_signal(int number) {
  save_running_input();
  std::signal(number, SIG_DFL);
  std::raise(number);
}

void run(const Input& input) {
  running_input = &input;
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
  running_input = nullptr;
}

// Changes that find faults in parsers: numbers at their limits, cuts, repeats, mixtures of two
// inputs.
class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  Input mutated(const std::vector<Input>& inputs) {
    Input input = inputs[pick(inputs.size())];
    for (std::uint64_t changes = 1 + pick(4); changes > 0; --changes) {
      change(input, inputs[pick(inputs.size())]);
    }
    if (input.size() > kInputBytesMax) input.resize(kInputBytesMax);
    return input;
  }

 private:
  std::uint64_t pick(std::uint64_t bound) { return bound == 0 ? 0 : random_() % bound; }

  void change(Input& input, const Input& other) {
    if (input.empty()) input.push_back(std::byte{0});
    const std::uint64_t at = pick(input.size());
    const auto where = input.begin() + static_cast<std::ptrdiff_t>(at);
    const std::uint64_t rest = input.size() - at;
    switch (pick(7)) {
      case 0:
        input[at] ^= std::byte{1} << pick(8);
        break;
      case 1:
        input[at] = static_cast<std::byte>(random_());
        break;
      case 2:
        put_number(input, at);
        break;
      case 3:
        input.resize(at);
        break;
      case 4:
        input.erase(where, where + static_cast<std::ptrdiff_t>(
                                       1 + pick(std::min<std::uint64_t>(rest, 16))));
        break;
      case 5: {
        const Input copy(where, where + static_cast<std::ptrdiff_t>(
                                            1 + pick(std::min<std::uint64_t>(rest, 64))));
        input.insert(input.begin() + static_cast<std::ptrdiff_t>(pick(input.size())), copy.begin(),
                     copy.end());
        break;
      }
      default: {
        const std::uint64_t bytes = std::min<std::uint64_t>(rest, other.size());
        const std::uint64_t from = pick(other.size() - bytes + 1);
        std::copy_n(other.begin() + static_cast<std::ptrdiff_t>(from), pick(bytes + 1), where);
        break;
      }
    }
  }

  // At a place where a builder could have put a number of 1, 2, 4 or 8 bytes.
  void put_number(Input& input, std::uint64_t at) {
    constexpr std::array<std::uint64_t, 12> kNumbers = {
        0,      1,           2,          0x7F,        0x80,        0xFF,
        0xFFFF, 0x7FFF'FFFF, 0x80000000, 0xFFFF'FFFF, ~0ull >> 1u, ~0ull - 7u};
    const std::size_t bytes = std::size_t{1} << pick(4);
    at -= at % bytes;
    if (at + bytes > input.size()) return;
    const std::uint64_t number = kNumbers[pick(kNumbers.size())];
    std::memcpy(input.data() + at, &number, bytes);
  }

  std::mt19937_64 random_;
};

Input read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> text((std::istreambuf_iterator<char>(file)),
                               std::istreambuf_iterator<char>());
  const auto* begin = reinterpret_cast<const std::byte*>(text.data());
  return {begin, begin + text.size()};
}

// In the order of their names, so that a seed means the same everywhere.
std::vector<Input> read_corpus(const std::vector<std::string>& paths) {
  std::vector<std::filesystem::path> files;
  for (const std::string& path : paths) {
    if (!std::filesystem::is_directory(path)) {
      files.emplace_back(path);
      continue;
    }
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
  }
  std::sort(files.begin(), files.end());
  std::vector<Input> inputs;
  for (const auto& file : files) inputs.push_back(read_file(file));
  return inputs;
}

bool parse_number(std::string_view text, std::uint64_t& number) {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
}

bool parse(int argc, char** argv, Options& options) {
  for (int n = 1; n < argc; ++n) {
    const std::string_view word = argv[n];
    if (!word.starts_with("--")) {
      options.paths.emplace_back(word);
      continue;
    }
    if (n + 1 == argc) return false;
    const char* const value = argv[++n];
    const bool known = (word == "--seed" && parse_number(value, options.seed)) ||
                       (word == "--mutations" && parse_number(value, options.mutations)) ||
                       (word == "--seconds" && parse_number(value, options.seconds)) ||
                       (word == "--write-seeds" && !(options.write_seeds = value).empty());
    if (!known) return false;
  }
  return true;
}

int write_seeds(const std::string& folder) {
  std::filesystem::create_directories(folder);
  for (const FuzzSeed& seed : fuzz_seeds()) {
    std::ofstream file(std::filesystem::path(folder) / seed.name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(seed.bytes.data()),
               static_cast<std::streamsize>(seed.bytes.size()));
    if (!file.flush()) {
      std::fprintf(stderr, "%s/%s cannot be written\n", folder.c_str(), seed.name.c_str());
      return 1;
    }
  }
  return 0;
}

int run_all(const Options& options) {
  std::vector<Input> inputs = read_corpus(options.paths);
  const std::size_t kept = inputs.size();
  for (FuzzSeed& seed : fuzz_seeds()) inputs.push_back(std::move(seed.bytes));
  for (const Input& input : inputs) run(input);
  std::printf("%zu kept inputs, %zu seeds; mutations with --seed %llu\n", kept,
              inputs.size() - kept, static_cast<unsigned long long>(options.seed));
  std::fflush(stdout);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(options.seconds);
  Mutator mutator(options.seed);
  std::uint64_t done = 0;
  while (done < options.mutations && std::chrono::steady_clock::now() < end) {
    run(mutator.mutated(inputs));
    ++done;
  }
  std::printf("%llu mutations ran\n", static_cast<unsigned long long>(done));
  return 0;
}

// "request" of ".../fuzz_request".
std::string target_name(const char* program) {
  const std::string name = std::filesystem::path(program).filename().string();
  return name.starts_with("fuzz_") ? name.substr(5) : name;
}

int driver_main(int argc, char** argv) {
  Options options;
  const std::string name = target_name(argv[0]);
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr,
                 "usage: fuzz_%s [--seed S] [--mutations N] [--seconds S] [FILE|FOLDER...]\n"
                 "       fuzz_%s --write-seeds FOLDER\n",
                 name.c_str(), name.c_str());
    return 2;
  }
  if (!options.write_seeds.empty()) return write_seeds(options.write_seeds);
  const char* const root = std::getenv("KAAS_TEST_SOURCE_DIR");
  if (options.paths.empty() && root != nullptr) {
    options.paths = {std::string(root) + "/tests/fuzz/corpus/" + name};
  }
  std::snprintf(crash_path, sizeof crash_path, "fuzz_%s.crash", name.c_str());
  for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
    std::signal(number, on_signal);
  }
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback(save_running_input);
  }
  return run_all(options);
}

}  // namespace
}  // namespace kaas

int main(int argc, char** argv) {
  return kaas::driver_main(argc, argv);
}
