// Matrix products: one kernel, which keeps a tile of sums in registers, multiplies everything.
//
// A linear map's weights lie in panels of WIDE outputs, one panel after another, so that a tile reads
// them in order: panel[k][j] is the weight from input k to the panel's output j. In bfloat16 an element
// is a pair, of inputs 2k and 2k + 1, and the processor adds the products of both at once, into sums in
// float32. In int8 it is four whole numbers, and so are the sums, which are exact.

#pragma once

#include <algorithm>

#include "vectors.h"
#include "workspace.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

// A linear map, as the caller lays it out.
struct Map {
  const void* panels;
  const float* bias;  // as many as the panels have columns, and likewise
  // of an output's weights in int8: value of one step, and their sum; and the weights in float32
  const float *steps, *totals, *weights;
  int64_t inner, outer;
  int64_t columns() const { return (outer + WIDE - 1) / WIDE * WIDE; }
};

// What the whole numbers of a row stand for, and the number that is none of them.
struct Scale {
  float step, least, farthest;
  int place;  // of the farthest
};

// What a type of numbers does: `pack` lays out a row, `add` adds products to sums, and `scale` gives the
// sums of a row and a panel their value, the bias not added yet.
struct Float32 {
  using Element = float;
  static int elements(int inner) { return inner; }
  static Scale pack(const float* row, int inner, Element* to) {
    std::copy(row, row + inner, to);
    return {};
  }
  static void scale(float*, const Scale&, const Map&, int) {}
  static void add(Vector& total, Vector weights, Element value) { total += weights * value; }
};

#if defined(__AVX512BF16__)
struct Bfloat16 {
  using Element = uint32_t;  // two numbers
  static int elements(int inner) { return (inner + 1) / 2; }
  static Scale pack(const float* row, int inner, Element* to) {
    uint16_t* halves = reinterpret_cast<uint16_t*>(to);
    if (inner % 2) halves[inner] = 0;
    for (int i = 0; i < inner; ++i) {  // the nearest; of two equally near the even one
      uint32_t bits;
      std::memcpy(&bits, row + i, 4);
      halves[i] = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    }
    return {};
  }
  static void scale(float*, const Scale&, const Map&, int) {}
  static void add(Vector& total, Vector weights, Element pair) {
    total = _mm512_dpbf16_ps(total, (__m512bh)weights, (__m512bh)_mm512_set1_epi32(pair));
  }
};
#endif

#if defined(__AVX512VNNI__)
// An output's weights are whole numbers from -127 to 127 of its own step. A row is its least number plus 0
// to 255 of its own step, which is finer than as many on both sides of 0. Its number that is farthest
// from 0 goes by itself, in float32: such a one (25 behind a GELU where others are below 6) would make the
// steps coarse, and the rounding of the weights that it meets large. So a sum of products is
// row.step * map.steps[j] * (sum of products of whole numbers) + row.least * map.totals[j]
// + row.farthest * map.weights[row.place][j].
struct Int8 {
  using Element = uint32_t;  // four numbers
  static int elements(int inner) { return (inner + 3) / 4; }
  static Scale pack(const float* row, int inner, Element* to) {
    const int place = farthest_of(row, inner);
    // Numbers without that one; 0 stands in its place, and beyond the row's end.
    auto others = [&](int i) {
      const __mmask16 is_it = place - i >= 0 && place - i < LANES ? 1 << (place - i) : 0;
      return _mm512_maskz_loadu_ps(there(inner - i) & ~is_it, row + i);
    };
    __m512 low = _mm512_setzero_ps(), high = low;
    for (int i = 0; i < inner; i += LANES) {
      low = _mm512_min_ps(low, others(i));
      high = _mm512_max_ps(high, others(i));
    }
    const float least = _mm512_reduce_min_ps(low), range = _mm512_reduce_max_ps(high) - least;
    const __m512 steps = _mm512_set1_ps(255 / std::max(range, 1e-30f));
    for (int i = 0; i < inner; i += LANES) {
      // The nearest whole numbers, of two equally near the even one.
      __m512 above = _mm512_sub_ps(others(i), _mm512_set1_ps(least));
      __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(above, steps));
      _mm512_mask_cvtepi32_storeu_epi8(reinterpret_cast<uint8_t*>(to) + i, there(inner - i), whole);
    }
    return {range / 255, least, row[place], place};
  }
  static void add(Vector& total, Vector weights, Element four) {
    total = (Vector)_mm512_dpbusd_epi32((__m512i)total, _mm512_set1_epi32(four), (__m512i)weights);
  }
  static void scale(float* sums, const Scale& row, const Map& map, int column) {
    const float* weights = map.weights + row.place * map.columns() + column;
    for (int c = 0; c < WIDE; c += LANES) {
      Vector whole = __builtin_convertvector((Integers)load(sums + c), Vector);
      Vector sum = whole * (load(map.steps + column + c) * row.step);
      sum += load(map.totals + column + c) * row.least;
      store(sums + c, sum + load(weights + c) * row.farthest);
    }
  }

 private:
  // Which of a vector's numbers are there where a row has `count` more; weights beyond are zeros.
  static __mmask16 there(int count) { return count < LANES ? (1 << count) - 1 : 0xffff; }
  static int farthest_of(const float* row, int inner) {
    __m512 most = _mm512_setzero_ps();
    auto size = [&](int i) { return _mm512_abs_ps(_mm512_maskz_loadu_ps(there(inner - i), row + i)); };
    for (int i = 0; i < inner; i += LANES) most = _mm512_max_ps(most, size(i));
    most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (int i = 0; i < inner; i += LANES)
      if (int found = _mm512_cmp_ps_mask(size(i), most, _CMP_EQ_OQ)) return i + __builtin_ctz(found);
    return 0;
  }
};
#endif

// out[i][j] = sum over k of rows[i][k] panel[k][j], for COUNT rows and the WIDE columns of a panel.
template <class Type, int COUNT>
void tile(const typename Type::Element* rows, int64_t stride, const typename Type::Element* panel,
          int depth, float* out, int64_t out_stride) {
  Vector sums[COUNT][2] = {};
  for (int k = 0; k < depth; ++k) {
    const float* weights = reinterpret_cast<const float*>(panel + int64_t(k) * WIDE);
    Vector left = load(weights), right = load(weights + LANES);
    // The next panel comes from memory while this one is multiplied: of few rows, half of the time.
    __builtin_prefetch(weights + int64_t(depth) * WIDE);
    __builtin_prefetch(weights + int64_t(depth) * WIDE + LANES);
#pragma GCC unroll 16
    for (int i = 0; i < COUNT; ++i) {
      Type::add(sums[i][0], left, rows[i * stride + k]);
      Type::add(sums[i][1], right, rows[i * stride + k]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < COUNT; ++i) {
    store(out + i * out_stride, sums[i][0]);
    store(out + i * out_stride + LANES, sums[i][1]);
  }
}

// The same for any number of rows up to TILE_ROWS: each number has its own code.
template <class Type, int COUNT = TILE_ROWS>
void any_tile(int count, const typename Type::Element* rows, int64_t stride,
              const typename Type::Element* panel, int depth, float* out, int64_t out_stride) {
  if (count == COUNT) return tile<Type, COUNT>(rows, stride, panel, depth, out, out_stride);
  if constexpr (COUNT > 1)
    any_tile<Type, COUNT - 1>(count, rows, stride, panel, depth, out, out_stride);
}

// Calls do_tile(first, count) for tiles of about equal height: 28 rows are 14 + 14, 30 are 10 + 10 + 10.
template <class DoTile>
void for_tiles(int count, DoTile do_tile) {
  int tiles = (count + TILE_ROWS - 1) / TILE_ROWS;
  for (int t = 0; t < tiles; ++t) {
    int first = count * t / tiles;
    do_tile(first, count * (t + 1) / tiles - first);
  }
}

// Rows of a matrix of floats: all from the first on, or those that `index` names.
struct Rows {
  const float* values;
  int64_t width;
  int count;
  const int* index = nullptr;
  const float* row(int i) const { return values + (index ? index[i] : i) * width; }
};

constexpr int BLOCK_ROWS = 7 * TILE_ROWS;  // rows that stay in the second cache while all panels pass

// finish(i, j, sums, n): what becomes of the n sums of row i from output j on, the bias not added yet.
// To be called by all threads together; they have all finished when it returns.
template <class Type, class Finish>
void multiply(const Rows& rows, const Map& map, Workspace& space, Finish finish) {
  using Element = typename Type::Element;
  const int depth = Type::elements(map.inner);
  const int panels = (map.outer + WIDE - 1) / WIDE;
  const int blocks = (rows.count + BLOCK_ROWS - 1) / BLOCK_ROWS;
  // Many rows are shared out among the threads, of few rows the outputs.
  const int parts = blocks >= 2 * space.threads ? 1 : std::min(space.threads, panels);
#pragma omp for collapse(2) schedule(static)
  for (int block = 0; block < blocks; ++block)
    for (int part = 0; part < parts; ++part) {
      int begin = int64_t(rows.count) * block / blocks;
      int count = int64_t(rows.count) * (block + 1) / blocks - begin;
      Element* packed = reinterpret_cast<Element*>(space.own().packed.data());
      Scale scales[BLOCK_ROWS];
      for (int i = 0; i < count; ++i)
        scales[i] = Type::pack(rows.row(begin + i), map.inner, packed + int64_t(i) * depth);
      for (int p = panels * part / parts; p < panels * (part + 1) / parts; ++p) {
        const Element* panel = static_cast<const Element*>(map.panels) + int64_t(p) * depth * WIDE;
        int width = std::min<int>(WIDE, map.outer - p * WIDE);
        for_tiles(count, [&](int first, int height) {
          float sums[TILE_ROWS * WIDE];
          any_tile<Type>(height, packed + int64_t(first) * depth, depth, panel, depth, sums, WIDE);
          for (int i = 0; i < height; ++i) {
            Type::scale(sums + i * WIDE, scales[first + i], map, p * WIDE);
            finish(begin + first + i, p * WIDE, sums + i * WIDE, width);
          }
        });
      }
    }
}
