// The same product with weights and inputs in 8 bits, each group of 32 inputs with scales of its
// own: a weight is (byte - 128) x scale, an input signed x scale. Sums within a group are exact
// integers; groups are added in floats. Needs a processor that multiplies bytes (AVX-512 VNNI).
#pragma once

#include "products.h"

#if defined(__AVX512VNNI__) && defined(__AVX512F__) && defined(__AVX512BW__)
#define OPENLEDGER_INT8 1
#include <immintrin.h>

// (outputs / 32, inputs / 32) of these: four inputs of an output side by side.
struct Group {
    uint8_t weights[PANEL / 4][2][64];
    float scales[PANEL];
};
constexpr int BYTE_ROWS = 6;  // rows of one product whose sums stay in registers

// One product's inputs; `starts` takes the 128 of the weights back.
struct Bytes {
    int8_t *values;   // (rows, inputs)
    float *scales;    // (rows, inputs / 32)
    int32_t *starts;  // (rows, inputs / 32)
};

static int64_t bytes_floats(int64_t rows, int64_t inputs) {
    return rows * (inputs / 4 + 2 * (inputs / PANEL)) + 48;
}

static Bytes bytes_in(float *room, int64_t rows, int64_t inputs) {
    float *scales = room + rows * inputs / 4;
    return {reinterpret_cast<int8_t *>(room), scales,
            reinterpret_cast<int32_t *>(scales + rows * (inputs / PANEL))};
}

static void quantise(const float *in, int64_t in_step, int rows, int inputs, const Bytes &out) {
    const int groups = inputs / PANEL;
    for (int m = 0; m < rows; m++) {
        for (int g = 0; g < groups; g++) {
            const float *x = in + m * in_step + g * PANEL;
            const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
            const float most =
                _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
            const __m512 times = _mm512_set1_ps(most > 0 ? 127.0f / most : 0.0f);
            const __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, times));
            const __m512i qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, times));
            int8_t *to = out.values + int64_t(m) * inputs + g * PANEL;
            _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm512_cvtsepi32_epi8(qa));
            _mm_storeu_si128(reinterpret_cast<__m128i *>(to + 16), _mm512_cvtsepi32_epi8(qb));
            // What is no number stays none: 0 x NaN, and 0 x infinity.
            const float none = _mm512_reduce_add_ps(_mm512_mul_ps(_mm512_add_ps(a, b), _mm512_setzero_ps()));
            out.scales[m * groups + g] = most / 127.0f + none;
            out.starts[m * groups + g] = -128 * _mm512_reduce_add_epi32(_mm512_add_epi32(qa, qb));
        }
    }
}

template <int ROWS>
static void bytes_block(const Bytes &in, int row, const Group *panel, int inputs,
                        const float *bias, float *out, int64_t out_step, const Group *next,
                        int lines) {
    const int groups = inputs / PANEL;
    const char *ahead = reinterpret_cast<const char *>(next);
    __m512 total[ROWS][2];
    for (int m = 0; m < ROWS; m++)
        for (int w = 0; w < 2; w++)
            total[m][w] = bias ? _mm512_loadu_ps(bias + w * 16) : _mm512_setzero_ps();
    for (int g = 0; g < groups; g++, panel++) {
        if (ahead)
            for (int i = 0; i < lines; i++, ahead += 64) prefetch(ahead);
        __m512i part[ROWS][2];
        for (int m = 0; m < ROWS; m++)
            part[m][0] = part[m][1] = _mm512_set1_epi32(in.starts[(row + m) * groups + g]);
#pragma GCC unroll 8
        for (int k = 0; k < PANEL / 4; k++) {
            const __m512i low = _mm512_loadu_si512(panel->weights[k][0]);
            const __m512i high = _mm512_loadu_si512(panel->weights[k][1]);
#pragma GCC unroll 8
            for (int m = 0; m < ROWS; m++) {
                int32_t four;
                std::memcpy(&four, in.values + int64_t(row + m) * inputs + g * PANEL + k * 4, 4);
                const __m512i x = _mm512_set1_epi32(four);
                part[m][0] = _mm512_dpbusd_epi32(part[m][0], low, x);
                part[m][1] = _mm512_dpbusd_epi32(part[m][1], high, x);
            }
        }
        const __m512 low = _mm512_loadu_ps(panel->scales);
        const __m512 high = _mm512_loadu_ps(panel->scales + 16);
        for (int m = 0; m < ROWS; m++) {
            const __m512 scale = _mm512_set1_ps(in.scales[(row + m) * groups + g]);
            total[m][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(part[m][0]),
                                          _mm512_mul_ps(scale, low), total[m][0]);
            total[m][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(part[m][1]),
                                          _mm512_mul_ps(scale, high), total[m][1]);
        }
    }
    for (int m = 0; m < ROWS; m++)
        for (int w = 0; w < 2; w++) _mm512_storeu_ps(out + m * out_step + w * 16, total[m][w]);
}

typedef void (*BytesBlock)(const Bytes &, int, const Group *, int, const float *, float *, int64_t,
                           const Group *, int);
static const BytesBlock BYTE_BLOCKS[] = {nullptr,        bytes_block<1>, bytes_block<2>,
                                         bytes_block<3>, bytes_block<4>, bytes_block<5>,
                                         bytes_block<6>};

static void bytes_product(const Weights &weights, const float *in, int64_t in_step, float *out,
                          int64_t out_step, int rows, int threads, float *room) {
    if (rows == 0) return;
    const Bytes bytes = bytes_in(room, rows, weights.inputs);
    quantise(in, in_step, rows, weights.inputs, bytes);
    const Group *all = reinterpret_cast<const Group *>(weights.bytes);
    const int panels = weights.outputs / PANEL, groups = weights.inputs / PANEL;
    const int blocks = (rows + BYTE_ROWS - 1) / BYTE_ROWS;
    const int whole = int(sizeof(Group) / 64);  // lines of a group
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int p = 0; p < panels; p++) {
        const Group *panel = all + int64_t(p) * groups;
        const float *bias = weights.bias ? weights.bias + p * PANEL : nullptr;
        const int lines = (whole + blocks - 1) / blocks;
        for (int b = 0; b < blocks; b++) {
            const int first = int(int64_t(b) * rows / blocks);
            const int end = int(int64_t(b + 1) * rows / blocks);
            const Group *next = nullptr;
            if (p + 1 < panels && b * lines < whole)
                next = reinterpret_cast<const Group *>(
                    reinterpret_cast<const char *>(panel + groups) + int64_t(b) * lines * groups * 64);
            BYTE_BLOCKS[end - first](bytes, first, panel, weights.inputs, bias,
                                     out + first * out_step + p * PANEL, out_step, next, lines);
        }
    }
}
#else
static int64_t bytes_floats(int64_t, int64_t) { return 0; }
#endif

// By whatever the weights are kept in.
static void multiply(const Weights &weights, const float *in, int64_t in_step, float *out,
                     int64_t out_step, int rows, int threads, float *room) {
#ifdef OPENLEDGER_INT8
    if (weights.bytes) {
        bytes_product(weights, in, in_step, out, out_step, rows, threads, room);
        return;
    }
#endif
    (void)room;
    product(weights, in, in_step, out, out_step, rows, threads);
}
