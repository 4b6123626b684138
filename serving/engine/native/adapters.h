// Low-rank products, each token with its own adapter: out += up (down x), read straight from the
// packed blob (serving/engine/blob.py writes it). Weights are bfloat16 in pairs: the word j of a
// block of 32 holds element j below and element 16 + j above, so that a shift and a mask turn it
// into floats in their order.
#pragma once

#include <cstdint>

#include "vectors.h"

constexpr int MODULES = 7;      // q, k, v, o, gate, up, down
constexpr int MAX_RANK = 256;

struct Entry {
    int32_t rank;     // 0: the module has no adapter
    float scaling;
    int64_t down;     // offsets from the blob's beginning; (rank / 8, inputs / 32, 8, 32)
    int64_t up;       // (outputs / 32, rank, 32)
    int64_t rescale;  // DoRA's float32 (outputs), 0 for none
};

struct Header {
    char magic[8];
    int32_t layers;
    int32_t modules;
    int64_t size;
    int64_t reserved[5];
    Entry entries[1];
};

static inline void unpack(const uint32_t *words, vec *low, vec *high) {
    for (int w = 0; w < 16 / LANE; w++) {
        uvec pair;
        std::memcpy(&pair, words + w * LANE, sizeof(pair));
        const uvec below = pair << 16, above = pair & 0xffff0000u;
        std::memcpy(low + w, &below, sizeof(vec));
        std::memcpy(high + w, &above, sizeof(vec));
    }
}

// `ahead` is the distance to the same place in the next row's blob, 0 for none.
template <int RANKS>
static void down(const uint32_t *words, const float *x, int blocks, int64_t ahead, float *out) {
    constexpr int HALF = 16 / LANE;
    vec total[RANKS] = {};
    for (int b = 0; b < blocks; b++) {
        vec here[2 * HALF];
        for (int w = 0; w < 2 * HALF; w++) here[w] = load(x + b * PANEL + w * LANE);
#pragma GCC unroll 8
        for (int r = 0; r < RANKS; r++) {
            vec low[HALF], high[HALF];
            unpack(words, low, high);
            if (ahead) prefetch(reinterpret_cast<const char *>(words) + ahead);
            for (int w = 0; w < HALF; w++) total[r] += here[w] * low[w] + here[HALF + w] * high[w];
            words += 16;
        }
    }
    for (int r = 0; r < RANKS; r++) out[r] = sum(total[r]);
}

typedef void (*Down)(const uint32_t *, const float *, int, int64_t, float *);
static const Down DOWNS[] = {nullptr, down<1>, down<2>, down<3>, down<4>,
                             down<5>, down<6>, down<7>, down<8>};

static void up(const uint32_t *words, const float *middle, int rank, int blocks, int64_t ahead,
               float *out) {
    constexpr int HALF = 16 / LANE;
    for (int b = 0; b < blocks; b++) {
        vec total[2 * HALF];
        for (int w = 0; w < 2 * HALF; w++) total[w] = load(out + b * PANEL + w * LANE);
        for (int r = 0; r < rank; r++) {
            vec low[HALF], high[HALF];
            unpack(words, low, high);
            if (ahead) prefetch(reinterpret_cast<const char *>(words) + ahead);
            const vec x = splat(middle[r]);
            for (int w = 0; w < HALF; w++) {
                total[w] += x * low[w];
                total[HALF + w] += x * high[w];
            }
            words += 16;
        }
        for (int w = 0; w < 2 * HALF; w++) store(out + b * PANEL + w * LANE, total[w]);
    }
}

// One token, one module. `bias` and `out` are the module's own (outputs), `inputs` and `outputs`
// are padded to 32.
static void adapt(const char *blob, const Entry &entry, const float *x, int inputs, float *out,
                  int outputs, const float *bias, int64_t ahead) {
    float middle[MAX_RANK];
    const uint32_t *words = reinterpret_cast<const uint32_t *>(blob + entry.down);
    for (int r = 0; r < entry.rank; r += 8) {
        const int ranks = entry.rank - r < 8 ? entry.rank - r : 8;
        DOWNS[ranks](words, x, inputs / PANEL, ahead, middle + r);
        words += int64_t(inputs / 2) * ranks;
    }
    for (int r = 0; r < entry.rank; r++) middle[r] *= entry.scaling;
    if (entry.rescale && bias)
        for (int i = 0; i < outputs; i++) out[i] -= bias[i];
    words = reinterpret_cast<const uint32_t *>(blob + entry.up);
    up(words, middle, entry.rank, outputs / PANEL, ahead, out);
    if (entry.rescale) {
        const float *rescale = reinterpret_cast<const float *>(blob + entry.rescale);
        for (int i = 0; i < outputs; i++) out[i] = out[i] * rescale[i] + (bias ? bias[i] : 0.0f);
    }
}
