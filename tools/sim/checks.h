// What must hold between any two steps of the dispatcher.
// Threads: one.
#pragma once

#include <string>

#include "tools/sim/world.h"

namespace kaas {

// Runs, their dependencies, the policy, the executors and their outboxes fit one another. Empty:
// all is well.
std::string check_state(World& world);

// All sessions are closed and all keys removed: nothing is left. Ends the world's data path.
std::string check_nothing_left(World& world);

}  // namespace kaas
