// One step of a Llama-like model on the CPU in float32: any number of tokens, each with its row's
// pages, its position and its adapter (null: the base). Decoding rows and pieces of prompts share a
// step. Every buffer's width is padded to 32 floats; what pads is zero.
#include <cmath>
#include <cstdlib>
#include <new>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "adapters.h"
#include "attention.h"
#include "guard.h"
#include "products.h"
#include "quantised.h"

struct Layer {
    const float *before_attention, *before_mlp;  // RMSNorm weights (hidden)
    const float *query_norm, *key_norm;          // (size) or null
    Weights qkv, output, gate_up, down;
    int32_t rotates;
    int32_t reserved;
};

struct Model {
    int32_t layers, hidden, heads, kv_heads, size, inner, vocabulary, activation;
    float epsilon, scale, embedding_scale, reserved;
    const float *embedding;  // (vocabulary, hidden)
    const float *norm;       // (hidden)
    const float *cosines;    // (context, size / 2)
    const float *sines;
    Weights head;
    const Layer *layer;
};

struct Step {
    int32_t tokens, wanted, threads, page_columns;
    const int32_t *ids, *positions, *rows;  // (tokens)
    const int32_t *pages;                   // (rows, page_columns)
    const char *const *adapters;            // (rows): blobs, null for the base
    const int32_t *outputs;                 // (wanted): which tokens' logits are asked for
    float *logits;                          // (wanted, padded vocabulary)
};

static int thread_number() {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

static int padded(int width) { return (width + PANEL - 1) / PANEL * PANEL; }

struct Buffers {
    float *all = nullptr;
    int64_t held = 0;

    float *take(int64_t floats) {
        if (floats > held) {
            std::free(all);
            all = static_cast<float *>(std::aligned_alloc(64, (floats * 4 + 63) / 64 * 64));
            held = all ? floats : 0;
            if (!all) throw std::bad_alloc();
            std::memset(all, 0, floats * 4);
        }
        return all;
    }
    ~Buffers() { std::free(all); }
};

static void normalise(const float *in, const float *weight, int width, float epsilon, float *out) {
    vec squares = {};
    int i = 0;
    for (; i + LANE <= width; i += LANE) {
        const vec x = load(in + i);
        squares += x * x;
    }
    float total = sum(squares);
    for (; i < width; i++) total += in[i] * in[i];
    const float scale = 1.0f / std::sqrt(total / width + epsilon);
    for (i = 0; i < width; i++) out[i] = in[i] * scale * weight[i];
}

static void rotate(float *head, const float *cosines, const float *sines, int size) {
    const int half = size / 2;
    for (int i = 0; i < half; i++) {
        const float a = head[i], b = head[half + i];
        head[i] = a * cosines[i] - b * sines[i];
        head[half + i] = b * cosines[i] + a * sines[i];
    }
}

static void activate(float *gate, const float *up, int width, int activation) {
    for (int i = 0; i < width; i += LANE) {
        const vec x = load(gate + i);
        vec y;
        if (activation == 0) {  // SiLU
            y = x / (1.0f + exponential(-x));
        } else {  // GELU by tanh
            const vec u = (x + x * x * x * 0.044715f) * 1.5957691216057308f;
            y = x - x / (exponential(u) + 1.0f);
        }
        store(gate + i, y * load(up + i));
    }
}

struct Run {
    const Model &model;
    const Cache &cache;
    const Step &step;
    int layer = 0;

    const char *blob(int token) const {
        return step.adapters ? step.adapters[step.rows[token]] : nullptr;
    }

    // Adds the adapters' part of one group of modules to `out`; offsets and widths are padded.
    void adapt_group(const int *modules, const int *offsets, const int *widths, int count,
                     const Weights &base, const float *in, int64_t in_step, float *out,
                     int64_t out_step) const {
        if (!step.adapters) return;
#pragma omp parallel for schedule(dynamic, 1) num_threads(step.threads) if (step.threads > 1)
        for (int t = 0; t < step.tokens; t++) {
            const char *mine = blob(t);
            if (!mine) continue;
            const char *next = t + 1 < step.tokens ? blob(t + 1) : nullptr;
            const int64_t ahead = next && next != mine ? next - mine : 0;
            const Entry *entries =
                reinterpret_cast<const Header *>(mine)->entries + layer * MODULES;
            for (int m = 0; m < count; m++) {
                const Entry &entry = entries[modules[m]];
                if (!entry.rank) continue;
                adapt(mine, entry, in + t * in_step, base.inputs, out + t * out_step + offsets[m],
                      widths[m], base.bias ? base.bias + offsets[m] : nullptr, ahead);
            }
        }
    }

    void attention(const Layer &one, float *qkv, int64_t width, float *scores, float *out,
                   int64_t out_step) const {
        const int size = model.size, heads = model.heads, kv_heads = model.kv_heads;
        const int q = padded(heads * size), kv = padded(kv_heads * size);
        const int64_t page = int64_t(kv_heads) * size * PAGE;
        float *keys = cache.keys + layer * cache.pages * page;
        float *values = cache.values + layer * cache.pages * page;
        for (int t = 0; t < step.tokens; t++) {
            float *query = qkv + t * width, *key = query + q, *value = key + kv;
            const int position = step.positions[t];
            const float *c = model.cosines + int64_t(position) * (size / 2);
            const float *s = model.sines + int64_t(position) * (size / 2);
            for (int h = 0; h < heads; h++) {
                float *head = query + h * size;
                if (one.query_norm) normalise(head, one.query_norm, size, model.epsilon, head);
                if (one.rotates) rotate(head, c, s, size);
                for (int i = 0; i < size; i++) head[i] *= model.scale;
            }
            for (int h = 0; h < kv_heads; h++) {
                float *head = key + h * size;
                if (one.key_norm) normalise(head, one.key_norm, size, model.epsilon, head);
                if (one.rotates) rotate(head, c, s, size);
            }
            const int32_t at = step.pages[int64_t(step.rows[t]) * step.page_columns + position / PAGE];
            keep(keys + at * page, values + at * page, key, value, kv_heads, size, position % PAGE);
        }
        const int repeats = heads / kv_heads;
        const int64_t room = int64_t(step.page_columns) * PAGE * 4;
#pragma omp parallel for schedule(static) num_threads(step.threads) if (step.threads > 1)
        for (int work = 0; work < step.tokens * kv_heads; work++) {
            const int t = work / kv_heads, h = work % kv_heads;
            const int32_t *pages = step.pages + int64_t(step.rows[t]) * step.page_columns;
            const int length = step.positions[t] + 1;
            const float *k = keys + int64_t(h) * size * PAGE, *v = values + int64_t(h) * size * PAGE;
            const float *query = qkv + t * width + h * repeats * size;
            float *target = out + t * out_step + h * repeats * size;
            float *mine = scores + thread_number() * room;
            const int64_t row = int64_t(step.page_columns) * PAGE;
            for (int r = 0; r < repeats;) {
                const int left = repeats - r;
                if (left >= 4) {
                    attend<4>(k, v, page, pages, length, query + r * size, size, mine, row,
                              target + r * size);
                    r += 4;
                } else if (left >= 2) {
                    attend<2>(k, v, page, pages, length, query + r * size, size, mine, row,
                              target + r * size);
                    r += 2;
                } else {
                    attend<1>(k, v, page, pages, length, query + r * size, size, mine, row,
                              target + r * size);
                    r += 1;
                }
            }
        }
    }
};

// What a step needs between its layers; one for each engine.
struct Engine {
    Buffers buffers;
};

static void run(const Model &model, const Cache &cache, const Step &step, Buffers &buffers) {
    const int tokens = step.tokens, threads = step.threads;
    const int hidden = padded(model.hidden), inner = padded(model.inner);
    const int heads = padded(model.heads * model.size), kv = padded(model.kv_heads * model.size);
    const int qkv_width = heads + 2 * kv;
    const int wide = qkv_width > 2 * inner ? qkv_width : 2 * inner;
    const int64_t room = int64_t(step.page_columns) * PAGE * 4;
    const int64_t width = 2 * int64_t(hidden) + heads + hidden + wide;
    const int widest = hidden > heads ? (hidden > inner ? hidden : inner)
                                      : (heads > inner ? heads : inner);
    float *x = buffers.take(tokens * width + threads * room + bytes_floats(tokens, widest));
    float *normed = x + int64_t(tokens) * hidden;
    float *attended = normed + int64_t(tokens) * hidden;
    float *added = attended + int64_t(tokens) * heads;
    float *work = added + int64_t(tokens) * hidden;
    float *scores = work + int64_t(tokens) * wide;
    float *bytes = scores + threads * room;

    for (int t = 0; t < tokens; t++) {
        const float *from = model.embedding + int64_t(step.ids[t]) * model.hidden;
        float *to = x + int64_t(t) * hidden;
        for (int i = 0; i < model.hidden; i++) to[i] = from[i] * model.embedding_scale;
        for (int i = model.hidden; i < hidden; i++) to[i] = 0;
        for (int i = model.hidden; i < hidden; i++) normed[int64_t(t) * hidden + i] = 0;
        for (int i = model.heads * model.size; i < heads; i++)
            attended[int64_t(t) * heads + i] = 0;
    }
    const auto normalise_all = [&](const float *weight) {
        for (int t = 0; t < tokens; t++)
            normalise(x + int64_t(t) * hidden, weight, model.hidden, model.epsilon,
                      normed + int64_t(t) * hidden);
    };
    const auto add_all = [&] {
        for (int64_t i = 0; i < int64_t(tokens) * hidden; i += LANE)
            store(x + i, load(x + i) + load(added + i));
    };
    Run now{model, cache, step};
    for (int number = 0; number < model.layers; number++) {
        const Layer &layer = model.layer[number];
        now.layer = number;
        normalise_all(layer.before_attention);
        multiply(layer.qkv, normed, hidden, work, qkv_width, tokens, threads, bytes);
        {
            const int modules[] = {0, 1, 2}, offsets[] = {0, heads, heads + kv};
            const int widths[] = {heads, kv, kv};
            now.adapt_group(modules, offsets, widths, 3, layer.qkv, normed, hidden, work,
                            qkv_width);
        }
        now.attention(layer, work, qkv_width, scores, attended, heads);
        multiply(layer.output, attended, heads, added, hidden, tokens, threads, bytes);
        {
            const int modules[] = {3}, offsets[] = {0}, widths[] = {hidden};
            now.adapt_group(modules, offsets, widths, 1, layer.output, attended, heads, added,
                            hidden);
        }
        add_all();
        normalise_all(layer.before_mlp);
        multiply(layer.gate_up, normed, hidden, work, 2 * inner, tokens, threads, bytes);
        {
            const int modules[] = {4, 5}, offsets[] = {0, inner}, widths[] = {inner, inner};
            now.adapt_group(modules, offsets, widths, 2, layer.gate_up, normed, hidden, work,
                            2 * inner);
        }
        for (int t = 0; t < tokens; t++) {
            float *gate = work + int64_t(t) * 2 * inner;
            activate(gate, gate + inner, inner, model.activation);
        }
        multiply(layer.down, work, 2 * inner, added, hidden, tokens, threads, bytes);
        {
            const int modules[] = {6}, offsets[] = {0}, widths[] = {hidden};
            now.adapt_group(modules, offsets, widths, 1, layer.down, work, 2 * inner, added,
                            hidden);
        }
        add_all();
    }
    // Only the tokens whose logits are asked for go through the head.
    for (int w = 0; w < step.wanted; w++)
        normalise(x + int64_t(step.outputs[w]) * hidden, model.norm, model.hidden, model.epsilon,
                  normed + int64_t(w) * hidden);
    multiply(model.head, normed, hidden, step.logits, model.head.outputs, step.wanted, threads, bytes);
}

extern "C" {

void *openledger_engine() { return new (std::nothrow) Engine; }

// Reads of mapped files that are cut short meanwhile find zeros. 0 where the range is guarded now.
int openledger_guard(const void *address, size_t bytes) { return !guard::add(address, bytes); }

void openledger_unguard(const void *address) { guard::remove(address); }

void openledger_close(void *engine) { delete static_cast<Engine *>(engine); }

// 0, or 1 where there is no memory for this many tokens.
int openledger_step(void *engine, const Model *model, const Cache *cache, const Step *step) {
    try {
        run(*model, *cache, *step, static_cast<Engine *>(engine)->buffers);
    } catch (const std::bad_alloc &) {
        return 1;
    }
    return 0;
}

// The layout's version, which the caller compares with its own.
int openledger_version() { return 2; }

// Whether weights in 8 bits are computed with here.
int openledger_int8() {
#ifdef OPENLEDGER_INT8
    return 1;
#else
    return 0;
#endif
}
}
