// Vectors of floats in the compiler's own extension, as wide as the machine has them.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
constexpr int LANE = 16;
constexpr int BLOCK_ROWS = 8;  // rows of one product that stay in registers
#else
constexpr int LANE = 8;
constexpr int BLOCK_ROWS = 3;
#endif
constexpr int PANEL = 32;  // outputs side by side in packed weights and packed adapters
constexpr int WIDE = PANEL / LANE;

typedef float vec __attribute__((vector_size(LANE * 4)));
typedef int32_t ivec __attribute__((vector_size(LANE * 4)));
typedef uint32_t uvec __attribute__((vector_size(LANE * 4)));

static inline vec load(const float *from) {
    vec out;
    std::memcpy(&out, from, sizeof(out));
    return out;
}

static inline void store(float *to, vec value) { std::memcpy(to, &value, sizeof(value)); }

static inline vec splat(float value) { return value - vec{}; }

static inline float sum(vec value) {
    float total = 0;
    for (int i = 0; i < LANE; i++) total += value[i];
    return total;
}

static inline float largest(vec value) {
    float found = value[0];
    for (int i = 1; i < LANE; i++) found = value[i] > found ? value[i] : found;
    return found;
}

// Lines are asked for in the second level: a panel is larger than the first.
static inline void prefetch(const void *line) { __builtin_prefetch(line, 0, 2); }

// e^x to about 1e-7 relative (range reduction by ln 2, then Taylor); NaN stays NaN.
static inline vec exponential(vec x) {
    const vec low = splat(-87.0f), high = splat(88.0f), magic = splat(12582912.0f);
    x = x < low ? low : x;
    x = x > high ? high : x;
    vec n = (x * 1.44269504088896341f + magic) - magic;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = splat(1.0f / 5040);
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    ivec power = (__builtin_convertvector(n, ivec) + 127) << 23;
    vec scale;
    std::memcpy(&scale, &power, sizeof(scale));
    return p * scale;
}
