// Vectors of floats in the width of the processor, and the two functions of them that a pass needs.
//
// The vector extensions of GCC and Clang give arithmetic on them without naming an instruction set:
// the compiler takes the one of the machine that it builds for (-march=native).

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
constexpr int LANES = 16, TILE_ROWS = 14;  // 28 sums of 32 registers
#elif defined(__AVX__)
constexpr int LANES = 8, TILE_ROWS = 6;  // 12 sums of 16 registers
#else
constexpr int LANES = 4, TILE_ROWS = 6;
#endif

constexpr int WIDE = 2 * LANES;  // columns of a tile and of a panel of weights

typedef float Vector __attribute__((vector_size(LANES * 4)));
typedef int32_t Integers __attribute__((vector_size(LANES * 4)));

inline Vector load(const float* from) {
  Vector values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

inline void store(float* to, Vector values) { std::memcpy(to, &values, sizeof values); }

inline Vector all(float value) { return Vector{} + value; }

inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }

inline Vector smaller(Vector a, Vector b) { return a < b ? a : b; }

inline float sum(Vector values) {
  float total = 0;
  for (int i = 0; i < LANES; ++i) total += values[i];
  return total;
}

inline float largest(Vector values) {
  float found = values[0];
  for (int i = 1; i < LANES; ++i) found = values[i] > found ? values[i] : found;
  return found;
}

// e^x for x <= 0, to 2e-7 of its value; below -87, where a float ends, e^-87 (Cephes' polynomial).
inline Vector exponential(Vector x) {
  x = larger(x, all(-87.0f));
  // x = n log 2 + r with |r| <= log 2 / 2; adding and taking away 1.5 * 2^23 rounds to a whole n.
  const Vector shift = all(12582912.0f);
  Vector shifted = x * 1.44269504f + shift;
  Vector n = shifted - shift;
  Vector r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vector p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // 2^n, put together from its exponent: the low bits of `shifted` hold n.
  Integers power = (((Integers)shifted - (Integers)shift) + 127) << 23;
  return p * (Vector)power;
}

// GELU with the exact error function, whose rational approximation (Eigen's) is good to 3e-7.
inline Vector gelu(Vector x) {
  Vector z = smaller(larger(x * 0.70710678f, all(-4.0f)), all(4.0f));
  Vector s = z * z;
  Vector p = all(-2.72614225801306e-10f);
  p = p * s + 2.77068142495902e-08f;
  p = p * s - 2.10102402082508e-06f;
  p = p * s - 5.69250639462346e-05f;
  p = p * s - 7.34990630326855e-04f;
  p = p * s - 2.95459980854025e-03f;
  p = p * s - 1.60960333262415e-02f;
  Vector q = all(-1.45660718464996e-05f);
  q = q * s - 2.13374055278905e-04f;
  q = q * s - 1.68282697438203e-03f;
  q = q * s - 7.37332916720468e-03f;
  q = q * s - 1.42647390514189e-02f;
  return x * 0.5f * (z * p / q + 1.0f);
}
