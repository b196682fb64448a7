#pragma once

#include "plait/cpu/gemm.hpp"
#include "plait/cpu/kernels/block_product-inl.hpp"
#include "plait/cpu/kernels/blocks-inl.hpp"
#include "plait/cpu/kernels/few_rows-inl.hpp"
#include "plait/ops/matmul.hpp"

namespace plait::cpu::PLAIT_CPU_TARGET {

/// A product cut into tiles for the pool. They depend on the shape alone, so the bits do not depend on the
/// workers.
struct ProductTiles {
    GemmShape whole;
    std::int64_t rows = 0, columns = 0;  // of a tile

    /// `batch` like products are run together.
    explicit ProductTiles(GemmShape const& g, std::int64_t batch = 1) : whole(g), rows(g.m), columns(g.n) {
        constexpr std::int64_t least_rows = 64, most_rows = 256;
        // Tiles of a transposed A read all of B each, so they are fewer.
        std::int64_t want = g.transpose_a ? 8 : 16;
        if (!whole.lda) whole.lda = g.transpose_a ? g.m : g.k;
        if (!whole.ldb) whole.ldb = g.transpose_b ? g.k : g.n;
        if (!whole.ldc) whole.ldc = g.n;
        auto split = pieces(want, larger(batch, 1));
        // Half a million multiply-adds outweigh waking another worker.
        auto worth = larger(1, g.m * g.n * g.k >> 19);
        split = smaller(split, worth);
        if (has_few_rows(g)) {
            constexpr std::int64_t worth_a_tile = 1 << 17;  // multiply-adds; memory is what they wait for
            columns = smaller(g.n, larger(8, round_up(pieces(worth_a_tile, larger(1, g.m * g.k)), 8)));
        } else if (g.m > least_rows) {
            rows = smaller(most_rows, larger(least_rows, round_up(pieces(g.m, split), 32)));
        } else if (g.transpose_b && g.n > 256 && g.in != DType::bf16) {
            // Runs of weight rows. A strided bf16 result has no fast kernel.
            columns = larger(256, round_up(pieces(g.n, split), 64));
        }
        rows = larger(rows, 1), columns = larger(columns, 1);
    }

    std::int64_t across() const { return pieces(whole.n, columns); }
    std::int64_t count() const { return pieces(whole.m, rows) * across(); }

    struct Tile {
        GemmShape shape;
        std::int64_t a = 0, b = 0, c = 0;  // elements before its operands
        std::int64_t row = 0, column = 0;
    };
    Tile tile(std::int64_t i) const {
        Tile t{whole, 0, 0, 0, i / across() * rows, i % across() * columns};
        t.shape.m = smaller(rows, whole.m - t.row), t.shape.n = smaller(columns, whole.n - t.column);
        t.a = whole.transpose_a ? t.row : t.row * whole.lda;
        t.b = whole.transpose_b ? t.column * whole.ldb : t.column;
        t.c = t.row * whole.ldc + t.column;
        return t;
    }
    /// Bytes of scratch that a worker wants for any tile, whether it adds to the result or not.
    std::int64_t workspace() const {
        std::int64_t most = 0;
        if (!count()) return most;
        for (auto i : {std::int64_t{0}, across() - 1, count() - across(), count() - 1}) {
            auto shape = tile(i).shape;
            for (bool accumulate : {false, true}) {
                shape.accumulate = accumulate;
                most = larger(most, multiply_workspace(shape));
            }
        }
        return most;
    }
};

inline std::byte* element(Buffer const& b, std::int64_t i) { return b.data + bytes_of(b.meta.dtype, i); }

/// Rows and columns of a tensor seen as a matrix: all leading dims are rows.
inline std::int64_t matrix_columns(Shape const& s) { return s.begin()[s.rank() - 1]; }
inline std::int64_t matrix_rows(Shape const& s) { return elements(s, 0, s.rank() - 1); }

/// The product of term (a, b), of shapes as in ops/matmul.hpp.
inline GemmShape product_shape(ProductForm form, Meta const& a, Meta const& b, DType out) {
    GemmShape g;
    g.in = a.dtype, g.out = out;
    g.transpose_a = form == ProductForm::tn, g.transpose_b = form == ProductForm::nt;
    g.m = g.transpose_a ? matrix_columns(a.shape) : matrix_rows(a.shape);
    g.k = g.transpose_a ? matrix_rows(a.shape) : matrix_columns(a.shape);
    g.n = g.transpose_b ? matrix_rows(b.shape) : matrix_columns(b.shape);
    return g;
}

/// Terms of a bf16 result are added up in f32, a tile at a time.
struct ProductPlan {
    ProductTiles tiles;
    bool wide = false;
    std::int64_t gemm_bytes = 0;

    std::int64_t bytes() const {
        return gemm_bytes + (wide ? padded(tiles.rows * tiles.columns * std::int64_t{sizeof(float)}) : 0);
    }
    /// What runs in place of a tile's own product: the same, into f32 scratch.
    GemmShape widened(GemmShape g) const {
        if (wide) g.out = DType::f32, g.ldc = g.n;
        return g;
    }
};
/// `meta(i)` is that of input i. All terms are cut as the first, since their results are one.
template <class M>
inline ProductPlan product_plan(Product const& op, M const& meta, DType out) {
    auto shape = [&](int term) { return product_shape(op.form, meta(2 * term), meta(2 * term + 1), out); };
    ProductPlan plan{ProductTiles(shape(0)), op.terms > 1 && out == DType::bf16, 0};
    for (int term = 0; term < op.terms; ++term) {
        auto g = shape(term);
        if (plan.wide) g.out = DType::f32;
        ProductTiles tiles(g);
        tiles.rows = plan.tiles.rows, tiles.columns = plan.tiles.columns;
        if (plan.wide) tiles.whole.ldc = tiles.columns;
        plan.gemm_bytes = larger(plan.gemm_bytes, tiles.workspace());
    }
    return plan;
}

inline void product(KernelCall const& call) {
    auto const& op = call.attributes<Product>();
    Buffer const *in = call.in.data(), &y = call.out.data()[0];
    bool add = call.accumulate & 1;
    auto plan = product_plan(
        op, [&](int i) -> Meta const& { return in[i].meta; }, y.meta.dtype);
    run_tiles(call, plan.tiles.count(), [&](std::int64_t i, int worker) {
        auto* workspace = call.workspace + worker * plan.bytes();
        auto const base = plan.tiles.tile(i);
        auto* sum = reinterpret_cast<float*>(workspace + plan.gemm_bytes);
        for (int term = 0; term < op.terms; ++term) {
            Buffer const &a = in[2 * term], &b = in[2 * term + 1];
            ProductTiles tiles(product_shape(op.form, a.meta, b.meta, y.meta.dtype));
            tiles.rows = plan.tiles.rows, tiles.columns = plan.tiles.columns;
            auto t = tiles.tile(i);
            auto g = plan.widened(t.shape);
            g.accumulate = term > 0 || (add && !plan.wide);
            multiply(g, element(a, t.a), element(b, t.b),
                     plan.wide ? reinterpret_cast<std::byte*>(sum) : element(y, t.c), workspace);
        }
        if (!plan.wide) return;
        auto const& g = base.shape;
        for (std::int64_t r = 0; r < g.m; ++r) {
            auto* to = y.as<Bf16>() + base.c + r * g.ldc;
            for_lanes<float>(
                g.n, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                    auto v = load<float>(sum + r * g.n + j, count);
                    if (add) v += load<float>(to + j, count);
                    store<float>(to + j, v, count);
                });
        }
    });
}
inline std::int64_t product_workspace(AnyOp const& op, Metas const& in, Metas const& out, int workers) {
    auto meta = [&](int i) -> Meta const& { return in.data()[i]; };
    return workers * product_plan(*op.as<Product>(), meta, out.data()[0].dtype).bytes();
}

/// x · wᵀ of the linear layer, summed into f32 (f64 for f64).
inline ProductTiles linear_tiles(Meta const& x, Meta const& w) {
    auto wide = x.dtype == DType::f64 ? DType::f64 : DType::f32;
    return ProductTiles(product_shape(ProductForm::nt, x, w, wide));
}
/// The widened bias, and each worker's tile where the output is no place for sums.
struct LinearScratch {
    std::int64_t bias, tile, gemm;

    LinearScratch(ProductTiles const& t, bool narrow)
        : bias(padded(t.whole.n * 8)),
          tile(narrow ? padded(t.rows * t.columns * bytes_of(t.whole.out, 1)) : 0),
          gemm(t.workspace()) {}
};

inline void linear(KernelCall const& call) {
    Buffer const &x = call.in.data()[0], &w = call.in.data()[1], &y = call.out.data()[0];
    bool bends = call.attributes<Linear>().epilogue == Epilogue::bias_gelu;
    Buffer const& before = call.out.data()[bends ? 1 : 0];
    auto tiles = linear_tiles(x.meta, w.meta);
    bool narrow = y.meta.dtype == DType::bf16;
    if (narrow) tiles.whole.ldc = tiles.columns;
    LinearScratch scratch(tiles, narrow);
    with_floating_type(call, x, [&](auto zero) {
        using C = decltype(zero);
        C const* bias = read<C>(input(call, 2), 0, tiles.whole.n, reinterpret_cast<C*>(call.workspace));
        run_tiles(call, tiles.count(), [&](std::int64_t i, int worker) {
            auto* workspace = call.workspace + scratch.bias + worker * (scratch.tile + scratch.gemm);
            auto t = tiles.tile(i);
            auto first = t.row * matrix_columns(y.meta.shape) + t.column;
            C* sum = narrow ? reinterpret_cast<C*>(workspace + scratch.gemm) : before.as<C>() + first;
            multiply(t.shape, element(x, t.a), element(w, t.b), sum, workspace);
            for (std::int64_t r = 0; r < t.shape.m; ++r) {
                auto at = first + r * matrix_columns(y.meta.shape);
                C* line = sum + r * t.shape.ldc;
                C* bent = target<C>(operand(y), at, line);
                for_lanes<C>(
                    t.shape.n, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                        store<C>(line + j, load<C>(line + j, count) + load<C>(bias + t.column + j, count),
                                 count);
                    });
                write<C>(operand(before), at, line, t.shape.n);
                if (!bends) continue;
                for_lanes<C>(
                    t.shape.n, [&](std::int64_t j, auto count) __attribute__((always_inline)) {
                        store<C>(bent + j, gelu(load<C>(line + j, count)), count);
                    });
                write<C>(operand(y), at, bent, t.shape.n);
            }
        });
    });
}
inline std::int64_t linear_workspace(AnyOp const&, Metas const& in, Metas const& out, int workers) {
    auto tiles = linear_tiles(in.data()[0], in.data()[1]);
    bool narrow = out.data()[0].dtype == DType::bf16;
    if (narrow) tiles.whole.ldc = tiles.columns;
    LinearScratch scratch(tiles, narrow);
    return scratch.bias + workers * (scratch.tile + scratch.gemm);
}

/// Both steps round as the two ops do apart, so the bits are theirs.
inline void product_gelu_gradient(KernelCall const& call) {
    Buffer const &y = call.in.data()[0], &w = call.in.data()[1], &x = call.in.data()[2],
                 &dx = call.out.data()[0];
    ProductTiles tiles(product_shape(ProductForm::nn, y.meta, w.meta, dx.meta.dtype));
    auto bytes = tiles.workspace();
    with_floating_type(call, y, [&](auto zero) {
        using C = decltype(zero);
        run_tiles(call, tiles.count(), [&](std::int64_t i, int worker) {
            auto t = tiles.tile(i);
            multiply(t.shape, element(y, t.a), element(w, t.b), element(dx, t.c),
                     call.workspace + worker * bytes);
            for (std::int64_t r = 0; r < t.shape.m; ++r) {
                auto at = t.c + r * t.shape.ldc;
                map_range<C, 2, 1>(
                    {operand(x), operand(dx)}, {operand(dx)}, at, at + t.shape.n,
                    [](auto const& a, auto& b)
                        __attribute__((always_inline)) { b[0] = a[1] * gelu_derivative(a[0]); });
            }
        });
    });
}
inline std::int64_t product_gelu_gradient_workspace(AnyOp const&, Metas const& in, Metas const& out,
                                                    int workers) {
    auto const* meta = in.data();
    auto shape = product_shape(ProductForm::nn, meta[0], meta[1], out.data()[0].dtype);
    return workers * ProductTiles(shape).workspace();
}

/// The tiles of one of the like products of a batch, and how many there are.
struct MatMulPlan {
    std::int64_t batch;
    ProductTiles tiles;

    static GemmShape shape(MatMul const& op, Meta const& a, Meta const& b) {
        auto at = [](Meta const& m, int i) { return m.shape.begin()[m.shape.rank() - i]; };
        GemmShape g;
        g.transpose_a = op.transpose_a, g.transpose_b = op.transpose_b, g.in = g.out = a.dtype;
        g.m = at(a, op.transpose_a ? 1 : 2), g.k = at(a, op.transpose_a ? 2 : 1),
        g.n = at(b, op.transpose_b ? 2 : 1);
        return g;
    }
    MatMulPlan(MatMul const& op, Meta const& a, Meta const& b)
        : batch(elements(a.shape, 0, a.shape.rank() - 2)), tiles(shape(op, a, b), batch) {}
};

inline void matmul(KernelCall const& call) {
    Buffer const &a = call.in.data()[0], &b = call.in.data()[1], &y = call.out.data()[0];
    MatMulPlan plan(call.attributes<MatMul>(), a.meta, b.meta);
    auto bytes = plan.tiles.workspace(), count = plan.tiles.count();
    auto const& g = plan.tiles.whole;
    run_tiles(call, plan.batch * count, [&](std::int64_t i, int worker) {
        auto n = i / count;
        auto t = plan.tiles.tile(i % count);
        multiply(t.shape, element(a, n * g.m * g.k + t.a), element(b, n * g.k * g.n + t.b),
                 element(y, n * g.m * g.n + t.c), call.workspace + worker * bytes);
    });
}
inline std::int64_t matmul_workspace(AnyOp const& op, Metas const& in, Metas const&, int workers) {
    return workers * MatMulPlan(*op.as<MatMul>(), in.data()[0], in.data()[1]).tiles.workspace();
}

}  // namespace plait::cpu::PLAIT_CPU_TARGET
