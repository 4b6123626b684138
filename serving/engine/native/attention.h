// Keys and values in pages of 16 tokens, and each token's attention over its row's pages.
// Keys lie (head, size, 16 tokens) in a page, so that scores of 16 tokens need no sum across a
// vector; values lie (head, 16 tokens, size).
#pragma once

#include "vectors.h"

constexpr int PAGE = 16;

struct Cache {
    float *keys;    // (layers, pages, key-value heads, size, 16)
    float *values;  // (layers, pages, key-value heads, 16, size)
    int64_t pages;
};

static void keep(float *keys, float *values, const float *key, const float *value, int kv_heads,
                 int size, int place) {
    for (int h = 0; h < kv_heads; h++) {
        float *k = keys + int64_t(h) * size * PAGE + place;
        for (int d = 0; d < size; d++) k[d * PAGE] = key[h * size + d];
        std::memcpy(values + (int64_t(h) * PAGE + place) * size, value + h * size, size * 4);
    }
}

// REP query heads that share one key-value head. `scores` holds REP x (length rounded up to 16).
template <int REP>
static void attend(const float *keys, const float *values, int64_t page_size, const int32_t *pages,
                   int length, const float *query, int size, float *scores, int64_t step,
                   float *out) {
    constexpr int PARTS = PAGE / LANE;
    const int blocks = (length + PAGE - 1) / PAGE;
    for (int b = 0; b < blocks; b++) {
        const float *key = keys + pages[b] * page_size;
        const char *next = b + 1 < blocks
            ? reinterpret_cast<const char *>(keys + pages[b + 1] * page_size) : nullptr;
        vec total[REP][PARTS] = {};
        for (int d = 0; d < size; d++) {
            if (next) prefetch(next + d * 64);
            for (int p = 0; p < PARTS; p++) {
                const vec k = load(key + d * PAGE + p * LANE);
                for (int r = 0; r < REP; r++) total[r][p] += k * query[r * size + d];
            }
        }
        for (int r = 0; r < REP; r++)
            for (int p = 0; p < PARTS; p++)
                store(scores + r * step + b * PAGE + p * LANE, total[r][p]);
    }
    float weight[REP];
    for (int r = 0; r < REP; r++) {
        float *mine = scores + r * step;
        // What a page holds past the row's length is another row's or nothing.
        for (int j = length; j < blocks * PAGE; j++) mine[j] = -3e38f;
        vec top = splat(-3e38f);
        for (int j = 0; j < blocks * PAGE; j += LANE) {
            const vec s = load(mine + j);
            top = s > top ? s : top;
        }
        const vec high = splat(largest(top));
        vec total = {};
        for (int j = 0; j < blocks * PAGE; j += LANE) {
            const vec e = exponential(load(mine + j) - high);
            store(mine + j, e);
            if (j + LANE <= length) total += e;
            else for (int i = 0; j + i < length; i++) total[i] += e[i];
        }
        weight[r] = 1.0f / sum(total);
    }
    constexpr int STRIPE = 64 / LANE;  // 64 of the head's elements at a time
    for (int from = 0; from < size; from += 64) {
        const int parts = (size - from < 64 ? size - from : 64) / LANE;
        vec total[REP][STRIPE] = {};
        for (int b = 0; b < blocks; b++) {
            const float *value = values + pages[b] * page_size + from;
            const float *next = b + 1 < blocks ? values + pages[b + 1] * page_size + from : nullptr;
            const int here = length - b * PAGE < PAGE ? length - b * PAGE : PAGE;
            if (parts == STRIPE) {
                for (int j = 0; j < here; j++, value += size) {
                    if (next)
                        for (int i = 0; i < 64; i += 16) prefetch(next + j * size + i);
                    for (int p = 0; p < STRIPE; p++) {
                        const vec v = load(value + p * LANE);
                        for (int r = 0; r < REP; r++)
                            total[r][p] += v * scores[r * step + b * PAGE + j];
                    }
                }
            } else {
                for (int j = 0; j < here; j++, value += size)
                    for (int p = 0; p < parts; p++) {
                        const vec v = load(value + p * LANE);
                        for (int r = 0; r < REP; r++)
                            total[r][p] += v * scores[r * step + b * PAGE + j];
                    }
            }
        }
        for (int r = 0; r < REP; r++)
            for (int p = 0; p < parts; p++)
                store(out + r * size + from + p * LANE, total[r][p] * weight[r]);
    }
}
