// Counts what a process allocates, for tests: a library to be named in LD_PRELOAD. The count is the
// first word of the file $KAAS_COUNT_FOLDER/<process id>, for as long as the file is there.
// Calls of glibc's own allocator by other names are not counted, nor are mappings.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

extern "C" {
void* __libc_malloc(std::size_t bytes);                    // NOLINT(bugprone-reserved-identifier)
void* __libc_calloc(std::size_t count, std::size_t size);  // NOLINT(bugprone-reserved-identifier)
void* __libc_realloc(void* memory, std::size_t bytes);     // NOLINT(bugprone-reserved-identifier)
void* __libc_memalign(std::size_t align, std::size_t bytes);  // NOLINT
}

namespace {

using Count = std::atomic<std::uint64_t>;
static_assert(Count::is_always_lock_free);
constinit std::atomic<Count*> counted{nullptr};

void note() noexcept {
  if (Count* const count = counted.load(std::memory_order_acquire)) {
    count->fetch_add(1, std::memory_order_relaxed);
  }
}

// Before main(), and before the process gives up rights.
__attribute__((constructor)) void open_count() {
  const char* const folder = std::getenv("KAAS_COUNT_FOLDER");
  if (folder == nullptr) return;
  char path[256];
  std::snprintf(path, sizeof path, "%s/%d", folder, static_cast<int>(::getpid()));
  const int file = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file < 0) return;
  if (::ftruncate(file, sizeof(Count)) == 0) {
    void* const mapped =
        ::mmap(nullptr, sizeof(Count), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED) counted = static_cast<Count*>(mapped);
  }
  ::close(file);
}

}  // namespace

extern "C" {

void* malloc(std::size_t bytes) {
  note();
  return __libc_malloc(bytes);
}

void* calloc(std::size_t count, std::size_t size) {
  note();
  return __libc_calloc(count, size);
}

void* realloc(void* memory, std::size_t bytes) {
  note();
  return __libc_realloc(memory, bytes);
}

void* memalign(std::size_t align, std::size_t bytes) {
  note();
  return __libc_memalign(align, bytes);
}

void* aligned_alloc(std::size_t align, std::size_t bytes) {
  note();
  return __libc_memalign(align, bytes);
}

int posix_memalign(void** memory, std::size_t align, std::size_t bytes) {
  note();
  *memory = __libc_memalign(align, bytes);
  return *memory == nullptr ? ENOMEM : 0;
}

}  // extern "C"
