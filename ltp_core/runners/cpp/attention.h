// Attention of one head of one sequence: probabilities, their column sums, and what queries gather.

#pragma once

#include <cmath>

#include "product.h"

inline int64_t padded(int64_t n) { return (n + WIDE - 1) / WIDE * WIDE; }

// One head of one sequence. Query, key and value of a token are `size` numbers at `stride` floats from
// those of the token before it.
struct Head {
  const float *query, *key, *value;
  int64_t query_stride, stride;
  int num_queries, num_keys, size;
};

// What is added to the logits by the distance of a key from its query, key's position minus query's.
struct Distances {
  const float* by_distance;  // from -reach to reach; beyond, the ends hold. null: nothing is added
  int64_t reach;
  const int32_t* position;
};

// Softmax over the keys of each query's logits; `probabilities` has rows of padded(num_keys) numbers.
inline void attend(const Head& head, const Distances& added, Scratch& own, float* probabilities) {
  const int n = head.num_keys, width = padded(n);
  for (int j0 = 0; j0 < n; j0 += WIDE) {
    float* panel = own.panel.data();  // panel[d][j]: keys as columns, zeros beyond the last
    for (int d = 0; d < head.size; ++d)
      for (int j = 0; j < WIDE; ++j)
        panel[d * WIDE + j] = j0 + j < n ? head.key[(j0 + j) * head.stride + d] : 0.0f;
    for_tiles(head.num_queries, [&](int first, int count) {
      any_tile<Float32>(count, head.query + first * head.query_stride, head.query_stride, panel,
                        head.size, probabilities + int64_t(first) * width + j0, width);
    });
  }
  for (int i = 0; i < head.num_queries; ++i) {
    float* row = probabilities + int64_t(i) * width;
    if (added.by_distance)
      for (int j = 0; j < n; ++j) {
        int64_t distance = int64_t(added.position[j]) - added.position[i];
        row[j] += added.by_distance[std::clamp(distance, -added.reach, added.reach) + added.reach];
      }
    std::fill(row + n, row + width, -INFINITY);
    Vector most = load(row);
    for (int j = LANES; j < width; j += LANES) most = larger(most, load(row + j));
    const Vector top = all(largest(most));
    Vector total = {};
    for (int j = 0; j < width; j += LANES) {
      Vector e = exponential(load(row + j) - top);
      store(row + j, e);
      total += e;
    }
    const float share = 1 / sum(total);
    for (int j = 0; j < width; j += LANES) store(row + j, load(row + j) * share);
  }
}

// Adds each key's column of probabilities to `received`.
inline void add_columns(const float* probabilities, int num_queries, int width, float* received) {
  for (int i = 0; i < num_queries; ++i)
    for (int j = 0; j < width; j += LANES)
      store(received + j, load(received + j) + load(probabilities + int64_t(i) * width + j));
}

// Context of the queries that `kept` names, ascending (null: of all), in rows of `stride` floats.
inline void gather(const Head& head, const int* kept, int num_kept, Scratch& own,
                   float* probabilities, float* context, int64_t stride) {
  const int n = head.num_keys, width = padded(n);
  if (kept && num_kept < head.num_queries)
    for (int i = 0; i < num_kept; ++i) {  // their probabilities move up
      const float* row = probabilities + int64_t(kept[i]) * width;
      if (kept[i] != i) std::copy(row, row + n, probabilities + int64_t(i) * width);
    }
  for (int d0 = 0; d0 < head.size; d0 += WIDE) {
    const int columns = std::min(WIDE, head.size - d0);
    float* panel = own.panel.data();
    for (int j = 0; j < n; ++j) {
      const float* value = head.value + j * head.stride + d0;
      std::fill(std::copy(value, value + columns, panel + j * WIDE), panel + (j + 1) * WIDE, 0.0f);
    }
    for_tiles(num_kept, [&](int first, int count) {
      float gathered[TILE_ROWS * WIDE];
      any_tile<Float32>(count, probabilities + int64_t(first) * width, width, panel, n, gathered, WIDE);
      for (int i = 0; i < count; ++i)
        std::copy(gathered + i * WIDE, gathered + i * WIDE + columns,
                  context + (first + i) * stride + d0);
    });
  }
}
