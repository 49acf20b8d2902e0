// Closes the descriptors of large segments on a thread of its own: freeing the pages of the last
// one takes the kernel about 0.1 ms a MiB, which nobody else should wait for.
// Threads: all functions from any thread; the destructor waits for all that was handed over.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "schema/ipc/handle.h"

namespace kaas {

class Closer {
 public:
  Closer() : thread_([this] { run(); }) {}
  ~Closer();
  Closer(const Closer&) = delete;
  Closer& operator=(const Closer&) = delete;

  // Closes the descriptor, then lets go of `charge`. Closes it here and now if there is no memory
  // to hand it over.
  void close(Descriptor descriptor, std::shared_ptr<const void> charge) noexcept;

  // Waits until all that was handed over before is closed.
  void drain();

 private:
  struct Item {
    Descriptor descriptor;
    std::shared_ptr<const void> charge;  // Goes last: a charge is given back for pages that are.
  };
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Item> waiting_;  // Under mutex_.
  bool closing_ = false;       // Under mutex_: the thread is at work on what it took.
  bool ending_ = false;        // Under mutex_.
  std::thread thread_;         // Last: it uses all of the above.
};

}  // namespace kaas
