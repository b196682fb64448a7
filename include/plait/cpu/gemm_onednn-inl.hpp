#pragma once

#include "plait/cpu/gemm.hpp"

#include <omp.h>
#include <dnnl.hpp>

#include <algorithm>
#include <array>
#include <cstring>

namespace plait::detail {

// oneDNN splits a primitive among OpenMP threads, when it is made and when it runs; here it has one.
class OneThread {
  public:
    OneThread() : outer_(omp_get_max_threads()) { omp_set_num_threads(1); }
    ~OneThread() { omp_set_num_threads(outer_); }
    OneThread(OneThread const&) = delete;
    OneThread& operator=(OneThread const&) = delete;

  private:
    int outer_;
};

inline dnnl::engine const& onednn_engine() {
    static dnnl::engine const engine(dnnl::engine::kind::cpu, 0);
    return engine;
}

inline dnnl::memory::desc onednn_matrix(std::int64_t rows, std::int64_t columns, bool transposed,
                                        DType type) {
    using Memory = dnnl::memory;
    return {Memory::dims{rows, columns}, type == bf16 ? Memory::data_type::bf16 : Memory::data_type::f32,
            transposed ? Memory::dims{1, rows} : Memory::dims{columns, 1}};
}

/// A product of dense operands that oneDNN runs in scratch of ours. Its other kernels are slower and
/// allocate, so only the batch-reduce ones ("brg") serve.
struct OneDnnProduct {
    GemmShape shape;
    bool usable = false;
    std::int64_t scratch = 0;
    dnnl::matmul run;
    dnnl::memory a, b, c, s;

    OneDnnProduct() = default;
    explicit OneDnnProduct(GemmShape const& g) : shape(g) {
        OneThread one;
        dnnl::primitive_attr attributes;
        attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
        if (g.accumulate) {
            dnnl::post_ops sum;
            sum.append_sum(1.0f);
            attributes.set_post_ops(sum);
        }
        auto ma = onednn_matrix(g.m, g.k, g.transpose_a, g.in),
             mb = onednn_matrix(g.k, g.n, g.transpose_b, g.in), mc = onednn_matrix(g.m, g.n, false, g.out);
        try {
#if DNNL_VERSION_MAJOR >= 3
            dnnl::matmul::primitive_desc made(onednn_engine(), ma, mb, mc, attributes);
#else
            dnnl::matmul::primitive_desc made(dnnl::matmul::desc(ma, mb, mc), attributes, onednn_engine());
#endif
            if (std::strncmp(made.impl_info_str(), "brg", 3) != 0) return;
            auto ms = made.scratchpad_desc();
            scratch = (static_cast<std::int64_t>(ms.get_size()) + 63) / 64 * 64;
            run = dnnl::matmul(made);
            a = dnnl::memory(ma, onednn_engine(), nullptr);
            b = dnnl::memory(mb, onednn_engine(), nullptr);
            c = dnnl::memory(mc, onednn_engine(), nullptr);
            s = dnnl::memory(ms, onednn_engine(), nullptr);
            usable = true;
        } catch (dnnl::error const&) {  // no kernel for these types on this CPU
        }
    }
};

/// The calling thread's product for `shape`: it keeps its latest ones, while oneDNN keeps the compiled code.
inline OneDnnProduct& onednn_product(GemmShape const& shape) {
    constexpr std::size_t sets = 64, ways = 4;
    struct Set {
        std::array<OneDnnProduct, ways> kept;
        std::size_t next = 0;
    };
    thread_local std::array<Set, sets> cache;
    std::uint64_t hash = 0;
    for (auto n : {shape.m, shape.n, shape.k, std::int64_t{shape.transpose_a},
                   std::int64_t{shape.transpose_b}, std::int64_t{shape.accumulate}})
        hash = (hash ^ static_cast<std::uint64_t>(n)) * 0x9e3779b97f4a7c15u, hash ^= hash >> 32;
    auto& set = cache[hash % sets];
    for (auto& p : set.kept)
        if (p.shape == shape) return p;
    return set.kept[set.next++ % ways] = OneDnnProduct(shape);
}

// A transposed A whose rows are cut from a wider matrix is copied, a block of the contraction at a time; the
// sum over a long contraction is blocked in any case, as that keeps oneDNN's own copies in the cache.
constexpr std::int64_t onednn_block = 512;

/// The products that make up `g`: contraction blocks of `block`, the first of `first` terms.
struct OneDnnPlan {
    bool packs = false;
    std::int64_t block = 0;

    explicit OneDnnPlan(GemmShape const& g) {
        packs = g.transpose_a && g.lda != g.m;
        block = g.transpose_a && g.out == f32 ? std::min(g.k, onednn_block) : g.k;
    }
    /// A product of the three kinds: the first block, one between, and the last.
    std::array<std::int64_t, 3> firsts(GemmShape const& g) const {
        auto last = (g.k - 1) / block * block;
        return {0, std::min(block, last), last};
    }
    static bool fits(GemmShape const& g) {
        return (g.in == f32 || g.in == bf16) && (g.lda == (g.transpose_a ? g.m : g.k) || g.transpose_a) &&
               g.ldb == (g.transpose_b ? g.k : g.n) && g.ldc == g.n &&
               (g.k <= onednn_block || !g.transpose_b || !g.transpose_a || g.out != f32);
    }
    GemmShape part(GemmShape g, std::int64_t first) const {
        g.accumulate = g.accumulate || first > 0;
        g.k = std::min(block, g.k - first);
        g.lda = g.transpose_a ? g.m : g.k;
        return g;
    }
    std::int64_t pack_bytes(GemmShape const& g) const {
        return packs ? (bytes_of(g.in, g.m * block) + 63) / 64 * 64 : 0;
    }
};

/// Whether oneDNN has a fast kernel for every block of the product. Strides are set.
inline bool onednn_runs(GemmShape const& g) {
    if (!OneDnnPlan::fits(g)) return false;
    OneDnnPlan plan(g);
    for (auto first : plan.firsts(g))
        if (!onednn_product(plan.part(g, first)).usable) return false;
    return true;
}

inline std::int64_t onednn_workspace(GemmShape const& g) {
    OneDnnPlan plan(g);
    std::int64_t most = 0;
    for (auto first : plan.firsts(g)) most = std::max(most, onednn_product(plan.part(g, first)).scratch);
    return most + plan.pack_bytes(g);
}

inline void onednn_gemm(GemmShape const& g, void const* a, void const* b, void* c, std::byte* workspace) {
    OneDnnPlan plan(g);
    OneThread one;
    thread_local dnnl::stream stream(onednn_engine());
    auto size = bytes_of(g.in, 1);
    auto* packed = workspace;
    workspace += plan.pack_bytes(g);
    for (std::int64_t first = 0; first < g.k; first += plan.block) {
        auto part = plan.part(g, first);
        auto const* pa = static_cast<std::byte const*>(a) + first * size * (g.transpose_a ? g.lda : 1);
        auto const* pb = static_cast<std::byte const*>(b) + first * size * (g.transpose_b ? 1 : g.ldb);
        if (plan.packs) {
            for (std::int64_t i = 0; i < part.k; ++i)
                std::memcpy(packed + i * g.m * size, pa + i * g.lda * size,
                            static_cast<std::size_t>(g.m * size));
            pa = packed;
        }
        auto& p = onednn_product(part);
        p.a.set_data_handle(const_cast<std::byte*>(pa));
        p.b.set_data_handle(const_cast<std::byte*>(pb));
        p.c.set_data_handle(c);
        p.s.set_data_handle(workspace);
        p.run.execute(
            stream,
            {{DNNL_ARG_SRC, p.a}, {DNNL_ARG_WEIGHTS, p.b}, {DNNL_ARG_DST, p.c}, {DNNL_ARG_SCRATCHPAD, p.s}});
    }
}

}  // namespace plait::detail
