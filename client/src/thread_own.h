// Objects of one thread, and what there is of them at its end.
#pragma once

namespace kaas {
inline namespace v1 {

// The calling thread's own T, made at its first use; nullptr once the end of the thread has
// destroyed it. Destructors of a thread's other objects run before and after that; those of static
// objects run after it, in the thread that ends the program.
template <class T>
T* thread_own() {
  static thread_local bool ended = false;  // Without a destructor: it can be read to the last.
  struct Owned : T {
    ~Owned() { ended = true; }
  };
  if (ended) return nullptr;
  static thread_local Owned owned;
  return &owned;
}

}  // namespace v1
}  // namespace kaas
