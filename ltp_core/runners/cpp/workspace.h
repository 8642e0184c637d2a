// Memory of a pass: kept between passes of a thread of the caller, as fresh memory costs a page fault
// every four kilobytes. All of it is there before the threads of a pass begin.

#pragma once

#include <cstdint>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif

// What each thread of a pass needs for itself.
struct Scratch {
  std::vector<float> packed;         // rows of a block, as `multiply` reads them
  std::vector<float> panel;          // keys or values of one head, in panels
  std::vector<float> probabilities;  // of all heads of one sequence
  std::vector<float> received;       // their column sums
};

struct Workspace {
  int threads = 1;
  std::vector<Scratch> scratch;
  Scratch& own() {
#if defined(_OPENMP)
    return scratch[omp_get_thread_num()];
#else
    return scratch[0];
#endif
  }
};

// Makes room for this many numbers, and for no less than before.
template <class Number>
void make_room(std::vector<Number>& numbers, int64_t size) {
  if (int64_t(numbers.size()) < size) numbers.resize(size);
}
