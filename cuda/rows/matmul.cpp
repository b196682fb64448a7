#include "plait/ops/matmul.hpp"

#include "cuda/launch.hpp"
#include "cuda/rows.hpp"
#include "cuda/rows/like_calls.hpp"
#include "plait/ops/reduce.hpp"

#include <algorithm>

namespace plait::cuda {
namespace {

/// The product of term (a, b), of shapes as in ops/matmul.hpp, without its result.
Multiplication product_of(ProductForm form, Buffer const& a, Buffer const& b) {
    auto const a_columns = columns_of(a.meta.shape), b_columns = columns_of(b.meta.shape);
    auto const a_rows = rows_of(a.meta.shape), b_rows = rows_of(b.meta.shape);
    Multiplication p;
    p.a = {.data = a.data, .dtype = a.meta.dtype, .stride = a_columns, .transposed = form == ProductForm::tn};
    p.b = {.data = b.data, .dtype = b.meta.dtype, .stride = b_columns, .transposed = form == ProductForm::nt};
    p.m = p.a.transposed ? a_columns : a_rows;
    p.k = p.a.transposed ? a_rows : a_columns;
    p.n = p.b.transposed ? b_rows : b_columns;
    return p;
}

/// Rows at a time of a bf16 sum of several products, which is made in f32: about as many as stay in the L2
/// cache, in equal runs, of which the last is at least a quarter of one: a sliver leaves most of a GPU idle.
std::int64_t rows_at_once(std::int64_t rows, std::int64_t n) {
    constexpr std::int64_t tile = 128;
    auto const most = std::max<std::int64_t>(2 * tile, (8 << 20) / std::max<std::int64_t>(n, 1));
    if (rows <= most) return std::max<std::int64_t>(rows, 1);
    auto run = pieces(pieces(rows, pieces(rows, most)), tile) * tile;
    while (rows % run != 0 && rows % run < run / 4) run += tile;
    return std::min(run, rows);
}

/// Whether a sum of products needs f32 scratch, so that it is rounded once.
bool is_wide(Product const& op, DType out) { return op.terms > 1 && out == bf16; }

}  // namespace

void want_computable(KernelCall const& call, DType dtype) {
    if (dtype != f32 && dtype != bf16) unsupported(call, dtype);
}

std::int64_t multiply_bytes(std::int64_t m, std::int64_t n, std::int64_t k) {
    // A library knows no product over nothing, so that is one over a zero.
    return product_workspace_bytes + (k == 0 ? padded(bytes_of(f32, std::max(m, n))) : 0);
}
bool multiply(KernelCall const& call, std::byte* workspace, Multiplication p) {
    if (p.m == 0 || p.n == 0 || p.batch == 0) return true;
    p.workspace = workspace, p.workspace_bytes = product_workspace_bytes;
    if (p.k == 0) {
        auto* zeros = workspace + product_workspace_bytes;
        call.queue->fill(zeros, 0, bytes_of(f32, std::max(p.m, p.n)));
        p.k = 1;
        p.a = {.data = zeros, .dtype = p.a.dtype, .stride = 1};
        p.b = {.data = zeros, .dtype = p.a.dtype, .stride = p.n};
    }
    return call.queue->multiply(p);
}

void product(KernelCall const& call) {
    auto const& op = call.attributes<Product>();
    auto const& y = call.out[0];
    want_computable(call, call.in[0].meta.dtype);
    bool const add = call.accumulate & 1, wide = is_wide(op, y.meta.dtype);
    auto const n = columns_of(y.meta.shape), rows = rows_of(y.meta.shape);
    auto const run = wide ? rows_at_once(rows, n) : std::max<std::int64_t>(rows, 1);
    auto* const sum = call.workspace;
    auto* const scratch = sum + (wide ? padded(bytes_of(f32, run * n)) : 0);
    for (std::int64_t first = 0; first < rows; first += run) {
        auto const count = std::min(run, rows - first);
        auto* const to = y.data + bytes_of(y.meta.dtype, first * n);
        for (int term = 0; term < op.terms; ++term) {
            auto i = 2 * static_cast<std::size_t>(term);
            auto p = product_of(op.form, call.in[i], call.in[i + 1]);
            // Only a sum that is no tn is cut, so these are rows of a.
            if (count < rows) p.a.data += bytes_of(p.a.dtype, first * p.a.stride);
            p.m = count;
            p.c = {.data = wide ? sum : to, .dtype = wide ? f32 : y.meta.dtype, .stride = n};
            p.accumulate = term > 0 || (add && !wide);
            multiply(call, scratch, p);
        }
        if (wide)
            launch(*call.queue, RoundSum{.x = reinterpret_cast<float const*>(sum),
                                         .y = reinterpret_cast<Bf16*>(to),
                                         .n = count * n,
                                         .accumulate = add});
    }
}
void product_many(std::span<KernelCall const> calls) {
    multiply_many(
        calls,
        [](KernelCall const& call, LikeCalls const& like) {
            auto const& op = call.attributes<Product>();
            auto const& y = call.out[0];
            if (op.terms > 1) return false;
            want_computable(call, call.in[0].meta.dtype);
            auto p = product_of(op.form, call.in[0], call.in[1]);
            p.c = {.data = y.data, .dtype = y.meta.dtype, .stride = p.n};
            p.accumulate = call.accumulate & 1;
            multiply_batch(call, call.workspace, p, like);
            return true;
        },
        product);
}
std::int64_t product_workspace(AnyOp const& op, Metas const& in, Metas const& out, int) {
    auto const& o = *op.as<Product>();
    auto const& y = out[0].shape;
    auto const n = columns_of(y), rows = rows_of(y);
    bool nothing = false;  // some term sums over nothing
    for (std::size_t i = 0; i < in.size(); i += 2) nothing = nothing || in[i].elements() == 0;
    auto bytes = multiply_bytes(rows, n, nothing ? 0 : 1);
    return bytes + (is_wide(o, out[0].dtype) ? padded(bytes_of(f32, rows_at_once(rows, n) * n)) : 0);
}

namespace {

/// The product of a call with its epilogue, and where its own scratch begins.
Multiplication linear_of(KernelCall const& call, std::byte*& scratch) {
    auto const &x = call.in[0], &b = call.in[2], &y = call.out[0];
    want_computable(call, x.meta.dtype);
    auto p = product_of(ProductForm::nt, x, call.in[1]);
    p.c = {.data = y.data, .dtype = y.meta.dtype, .stride = p.n};
    p.bias = b.data;
    scratch = call.workspace;
    if (b.meta.dtype != y.meta.dtype) {
        want_computable(call, b.meta.dtype);
        // A library takes a bias of the result's dtype only.
        Map<Copy, float, Bf16> narrow{
            .x = {b.as<float const>()}, .y = {reinterpret_cast<Bf16*>(scratch)}, .n = p.n};
        launch(*call.queue, narrow);
        p.bias = scratch;
        scratch += padded(bytes_of(bf16, p.n));
    }
    if (call.attributes<Linear>().epilogue == Epilogue::bias_gelu) p.before_gelu = call.out[1].data;
    return p;
}
Multiplication gelu_gradient_of(KernelCall const& call) {
    auto const& dx = call.out[0];
    want_computable(call, call.in[0].meta.dtype);
    auto p = product_of(ProductForm::nn, call.in[0], call.in[1]);
    p.c = {.data = dx.data, .dtype = dx.meta.dtype, .stride = p.n};
    p.gelu_input = call.in[2].data;
    return p;
}

}  // namespace

void linear(KernelCall const& call) {
    std::byte* scratch = nullptr;
    auto const p = linear_of(call, scratch);
    multiply(call, scratch, p);
}
void linear_many(std::span<KernelCall const> calls) {
    multiply_many(
        calls,
        [](KernelCall const& call, LikeCalls const& like) {
            if (like.in[2] != 0) return false;
            std::byte* scratch = nullptr;
            auto const p = linear_of(call, scratch);
            multiply_batch(call, scratch, p, like);
            return true;
        },
        linear);
}
std::int64_t linear_workspace(AnyOp const&, Metas const& in, Metas const& out, int) {
    auto const n = columns_of(out[0].shape);
    auto bytes = multiply_bytes(rows_of(out[0].shape), n, columns_of(in[0].shape));
    return bytes + (in[2].dtype == out[0].dtype ? 0 : padded(bytes_of(bf16, n)));
}

void product_gelu_gradient(KernelCall const& call) { multiply(call, call.workspace, gelu_gradient_of(call)); }
void product_gelu_gradient_many(std::span<KernelCall const> calls) {
    multiply_many(
        calls,
        [](KernelCall const& call, LikeCalls const& like) {
            // The slope lies as the result does.
            if (like.in[2] != like.out[0]) return false;
            multiply_batch(call, call.workspace, gelu_gradient_of(call), like);
            return true;
        },
        product_gelu_gradient);
}
std::int64_t product_gelu_gradient_workspace(AnyOp const&, Metas const& in, Metas const& out, int) {
    return multiply_bytes(rows_of(out[0].shape), columns_of(out[0].shape), columns_of(in[0].shape));
}

namespace {

/// Workspace of a linear gradient: db where it is added to, then what the product takes, or the sum after it.
struct LinearGradientBytes {
    std::int64_t sums, sum, rest;
    LinearGradientBytes(Meta const& dy, Meta const& x)
        : sums(padded(bytes_of(f32, columns_of(dy.shape)))),
          sum(reduce_workspace(row_sum(), {{dy.dtype, {1, rows_of(dy.shape), columns_of(dy.shape)}}}, {}, 1)),
          rest(std::max(multiply_bytes(columns_of(dy.shape), columns_of(x.shape), rows_of(dy.shape)), sum)) {}
    static AnyOp row_sum() { return Reduce{ReduceFn::sum, {1}}; }
};

/// db of `count` calls whose operands lie one behind the other, each a sum of its own.
void sum_rows(KernelCall const& call, LinearGradientBytes const& bytes, std::int64_t count) {
    auto const rows = rows_of(call.in[0].meta.shape), n = columns_of(call.in[0].meta.shape);
    auto const op = LinearGradientBytes::row_sum();
    auto dy = call.in[0], db = call.out[1];
    KernelCall inner = call;
    inner.op = &op;
    inner.in = {&dy, 1}, inner.out = {&db, 1};
    inner.workspace = call.workspace + bytes.sums;
    inner.accumulate = call.accumulate >> 1 & 1;
    auto const at_once = std::max<std::int64_t>(1, bytes.rest / std::max<std::int64_t>(1, bytes.sum));
    for (std::int64_t first = 0; first < count; first += at_once) {
        auto const some = std::min(at_once, count - first);
        dy.meta.shape = {some, rows, n}, db.meta.shape = {some, n};
        reduce(inner);
        dy.data += dy.meta.bytes(), db.data += db.meta.bytes();
    }
}

Multiplication weight_gradient_of(KernelCall const& call) {
    want_computable(call, call.in[0].meta.dtype);
    auto p = product_of(ProductForm::tn, call.in[0], call.in[1]);
    p.c = {.data = call.out[0].data, .dtype = call.out[0].meta.dtype, .stride = p.n};
    p.accumulate = call.accumulate & 1;
    return p;
}

}  // namespace

void linear_gradient(KernelCall const& call) {
    auto const& db = call.out[1];
    LinearGradientBytes const bytes(call.in[0].meta, call.in[1].meta);
    auto const add = call.accumulate >> 1 & 1;
    auto p = weight_gradient_of(call);
    auto* const scratch = call.workspace + bytes.sums;
    bool const some = p.k > 0 && p.m > 0 && p.n > 0;
    p.row_sums = !some ? nullptr : add ? call.workspace : db.data;
    if (multiply(call, scratch, p) && some) {
        if (add)
            launch(*call.queue,
                   FoldMap<float>{.x = {db.as<float const>(), reinterpret_cast<float const*>(call.workspace)},
                                  .count = 2,
                                  .largest = false,
                                  .y = db.as<float>(),
                                  .n = p.m});
        return;
    }
    if (p.row_sums) {
        p.row_sums = nullptr;
        multiply(call, scratch, p);
    }
    sum_rows(call, bytes, 1);
}
void linear_gradient_many(std::span<KernelCall const> calls) {
    multiply_many(
        calls,
        [](KernelCall const& call, LikeCalls const& like) {
            if (like.in[0] != call.in[0].meta.bytes()) return false;
            LinearGradientBytes const bytes(call.in[0].meta, call.in[1].meta);
            multiply_batch(call, call.workspace + bytes.sums, weight_gradient_of(call), like);
            sum_rows(call, bytes, static_cast<std::int64_t>(like.count));
            return true;
        },
        linear_gradient);
}
std::int64_t linear_gradient_workspace(AnyOp const&, Metas const& in, Metas const&, int) {
    LinearGradientBytes const bytes(in[0], in[1]);
    return bytes.sums + bytes.rest;
}

void matmul(KernelCall const& call) {
    auto const& op = call.attributes<MatMul>();
    auto const &a = call.in[0], &b = call.in[1], &y = call.out[0];
    want_computable(call, a.meta.dtype);
    auto matrix = [](Buffer const& x, bool transposed) {
        auto const& s = x.meta.shape;
        return Matrix{.data = x.data,
                      .dtype = x.meta.dtype,
                      .stride = s[s.rank() - 1],
                      .batch_stride = s[s.rank() - 2] * s[s.rank() - 1],
                      .transposed = transposed};
    };
    auto size = [](Buffer const& x, int from_end) { return x.meta.shape[x.meta.shape.rank() - from_end]; };
    Multiplication p;
    p.a = matrix(a, op.transpose_a), p.b = matrix(b, op.transpose_b), p.c = matrix(y, false);
    p.m = size(y, 2), p.n = size(y, 1), p.k = size(a, op.transpose_a ? 2 : 1);
    p.batch = y.meta.shape.leading(y.meta.shape.rank() - 2).elements();
    multiply(call, call.workspace, p);
}
std::int64_t matmul_workspace(AnyOp const&, Metas const& in, Metas const& out, int) {
    auto const& s = out[0].shape;
    return multiply_bytes(s[s.rank() - 2], s[s.rank() - 1], in[0].elements() == 0 ? 0 : 1);
}

}  // namespace plait::cuda
