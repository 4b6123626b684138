// out = inputs x weights, with weights packed once: panels of 32 outputs, all inputs of a panel in
// a row. A panel is read once from memory and stays in the second-level cache for all rows; the
// next one is fetched meanwhile, so that memory and arithmetic work at the same time.
#pragma once

#include "vectors.h"

struct Weights {
    const float *packed;  // (outputs / 32, inputs, 32)
    const float *bias;    // (outputs) or null
    int32_t inputs;
    int32_t outputs;  // a multiple of 32
    const void *bytes;  // instead of `packed`: groups of 8 bits, see quantised.h
};

template <int ROWS>
static void block(const float *in, int64_t in_step, const float *panel, int inputs,
                  const float *bias, float *out, int64_t out_step, const float *next, int lines) {
    vec total[ROWS][WIDE];
    for (int m = 0; m < ROWS; m++)
        for (int w = 0; w < WIDE; w++) total[m][w] = bias ? load(bias + w * LANE) : vec{};
    const char *ahead = reinterpret_cast<const char *>(next);
    for (int k = 0; k < inputs; k += 4) {  // inputs are padded to 32
        if (ahead)
            for (int i = 0; i < lines; i++, ahead += 64) prefetch(ahead);
#pragma GCC unroll 4
        for (int step = 0; step < 4; step++) {
            vec weight[WIDE];
            for (int w = 0; w < WIDE; w++) weight[w] = load(panel + (k + step) * PANEL + w * LANE);
#pragma GCC unroll 8
            for (int m = 0; m < ROWS; m++) {
                const vec x = splat(in[m * in_step + k + step]);
                for (int w = 0; w < WIDE; w++) total[m][w] += x * weight[w];
            }
        }
    }
    for (int m = 0; m < ROWS; m++)
        for (int w = 0; w < WIDE; w++) store(out + m * out_step + w * LANE, total[m][w]);
}

typedef void (*Block)(const float *, int64_t, const float *, int, const float *, float *, int64_t,
                      const float *, int);

static const Block BLOCKS[] = {nullptr,  block<1>, block<2>, block<3>,
#if defined(__AVX512F__)
                               block<4>, block<5>, block<6>, block<7>, block<8>,
#endif
};

// in (rows, in_step), out (rows, out_step); both steps are at least the padded width.
static void product(const Weights &weights, const float *in, int64_t in_step, float *out,
                    int64_t out_step, int rows, int threads) {
    if (rows == 0) return;
    const int panels = weights.outputs / PANEL;
    const int64_t size = int64_t(weights.inputs) * PANEL;
    const int blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int p = 0; p < panels; p++) {
        const float *panel = weights.packed + p * size;
        const float *bias = weights.bias ? weights.bias + p * PANEL : nullptr;
        // Each block of rows asks for its share of the next panel: 8 lines in 4 inputs.
        const int lines = (8 + blocks - 1) / blocks;
        for (int b = 0; b < blocks; b++) {
            const int first = int(int64_t(b) * rows / blocks);
            const int end = int(int64_t(b + 1) * rows / blocks);
            const float *next = nullptr;
            if (p + 1 < panels && b * lines < 8) next = panel + size + b * (size / 8) * lines;
            BLOCKS[end - first](in + first * in_step, in_step, panel, weights.inputs, bias,
                                out + first * out_step + p * PANEL, out_step, next, lines);
        }
    }
}
