// Signals that ask a command to end early: Ctrl-C (SIGINT), SIGTERM, and SIGHUP, which comes when a
// terminal is closed.
// Threads: one.
#pragma once

namespace kaas {

// From now on these signals do not end kaasctl but are remembered, so that it can tidy up. What was
// ignored when kaasctl was started (nohup) stays ignored. A second Ctrl-C ends it at once.
void catch_interruption();

// Whether one has come.
bool interrupted() noexcept;

// Waits until there is something to read, or the end of it. False: a signal has come first.
bool wait_for_input(int descriptor) noexcept;

}  // namespace kaas
