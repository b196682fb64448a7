#include "plait/ops/norm.hpp"

#include "cuda/rows/operands.hpp"

namespace plait::cuda {

namespace {

/// Gain or bias in f32: as it is, or cast into `room`.
float const* in_floats(KernelCall const& call, Buffer const& x, std::byte* room) {
    if (x.meta.dtype == f32) return x.as<float const>();
    if (x.meta.dtype != bf16) unsupported(call, x.meta.dtype);
    auto* wide = reinterpret_cast<float*>(room);
    launch(*call.queue, Map<Copy, Bf16, float>{{x.as<Bf16 const>()}, {wide}, x.meta.elements()});
    return wide;
}
std::int64_t floats_bytes(std::int64_t columns) { return padded(columns * 4); }

int columns_of(KernelCall const& call, Shape const& s) {
    check(s.back() <= 1 << 30, "{}: rows of {} columns: a GPU has kernels for up to {}", call.op->text(),
          s.back(), 1 << 30);
    return static_cast<int>(s.back());
}

/// f.operator()<K>() with the kernel for rows of so many columns: what adds up a row, and so its bits, hangs
/// on nothing else.
template <class T, bool centred, class F>
void with_forward(std::int64_t columns, F&& f) {
    if (columns <= NormForward<T, centred, warp>::longest)
        f.template operator()<NormForward<T, centred, warp>>();
    else if (columns <= NormForward<T, centred, whole_block>::longest)
        f.template operator()<NormForward<T, centred, whole_block>>();
    else f.template operator()<LongNormForward<T, centred>>();
}
template <class T, bool centred, class F>
void with_backward(std::int64_t columns, F&& f) {
    constexpr int one = sizeof(T) / 2;                    // packs of f32 hold half as many columns
    using Narrow = NormBackward<Bf16, centred, warp, 3>;  // twice as many rows at a time
    using Short = NormBackward<T, centred, warp, 4 * one>;
    using Middle = NormBackward<T, centred, whole_block, 2 * one>;
    using Large = NormBackward<T, centred, whole_block, 4 * one>;
    if constexpr (one == 1)
        if (columns <= Narrow::longest) return f.template operator()<Narrow>();
    if (columns <= Short::longest) f.template operator()<Short>();
    else if (columns <= Middle::longest) f.template operator()<Middle>();
    else if (columns <= Large::longest) f.template operator()<Large>();
    else f.template operator()<LongNormBackward<T, centred>>();
}

template <bool centred>
void norm(KernelCall const& call, double eps, bool residual) {
    Buffer const *in = call.in.data(), *out = call.out.data();
    auto const& shape = in[0].meta.shape;
    int columns = columns_of(call, shape);
    with_floats(call, in[0].meta.dtype, [&]<class T>(T) {
        auto const* gain = in_floats(call, in[1 + residual], call.workspace);
        auto const* bias =
            centred ? in_floats(call, in[2 + residual], call.workspace + floats_bytes(columns)) : nullptr;
        with_forward<T, centred>(columns, [&]<class K>() {
            launch(*call.queue, K{.x = in[0].as<T const>(),
                                  .residual = residual ? in[1].as<T const>() : nullptr,
                                  .gain = gain,
                                  .bias = bias,
                                  .y = out[0].as<T>(),
                                  .mean = centred ? out[1].as<float>() : nullptr,
                                  .rstd = out[centred ? 2 : 1].as<float>(),
                                  .sum = residual ? out[centred ? 3 : 2].as<T>() : nullptr,
                                  .rows = shape.dims(0, -1).elements(),
                                  .columns = columns,
                                  .eps = static_cast<float>(eps)});
        });
    });
}

template <bool centred>
void norm_gradient(KernelCall const& call, bool residual) {
    constexpr int outputs = centred ? 2 : 1;  // dgain, dbias
    Buffer const *in = call.in.data(), *out = call.out.data();
    auto const& shape = in[0].meta.shape;
    int columns = columns_of(call, shape);
    auto rows = shape.dims(0, -1).elements();
    with_floats(call, in[0].meta.dtype, [&]<class T>(T) {
        auto const* gain = in_floats(call, in[2], call.workspace);
        auto* partial = reinterpret_cast<float*>(call.workspace + floats_bytes(columns));
        std::int64_t partials = 0;
        with_backward<T, centred>(columns, [&]<class K>() {
            K kernel{.dy = in[0].as<T const>(),
                     .x = in[1].as<T const>(),
                     .gain = gain,
                     .mean = centred ? in[3].as<float const>() : nullptr,
                     .rstd = in[centred ? 4 : 3].as<float const>(),
                     .residual = residual ? in[centred ? 5 : 4].as<T const>() : nullptr,
                     .dx = out[0].as<T>(),
                     .partial = partial,
                     .rows = rows,
                     .each = K::rows_per_team(rows),
                     .columns = columns};
            // Before dx is written, which may take the place of dy.
            if constexpr (requires { kernel.sums_over_rows(); }) launch(*call.queue, kernel.sums_over_rows());
            launch(*call.queue, kernel);
            partials = K::partials(rows);
        });
        launch(*call.queue, ColumnSums{.x = partial,
                                       .y = out[1].as<float>(),
                                       .rows = partials,
                                       .stride = outputs * static_cast<std::int64_t>(columns),
                                       .columns = columns,
                                       .accumulate = (call.accumulate & 0b10) != 0,
                                       .second = centred ? out[2].as<float>() : nullptr,
                                       .accumulate_second = (call.accumulate & 0b100) != 0});
    });
}

template <bool centred>
std::int64_t gradient_workspace(Metas const& in) {
    auto const& x = in[0];
    auto rows = x.shape.dims(0, -1).elements(), columns = x.shape.back();
    std::int64_t partials = 0;
    auto count = [&]<class K>() { partials = K::partials(rows) * K::sums; };
    if (x.dtype == bf16) with_backward<Bf16, centred>(columns, count);
    else with_backward<float, centred>(columns, count);
    return floats_bytes(columns) + padded(partials * columns * 4);
}

}  // namespace

void layer_norm(KernelCall const& call) {
    auto const& op = call.attributes<LayerNorm>();
    norm<layer>(call, op.eps, op.residual);
}
void rms_norm(KernelCall const& call) {
    auto const& op = call.attributes<RmsNorm>();
    norm<rms>(call, op.eps, op.residual);
}
std::int64_t norm_workspace(AnyOp const&, Metas const& in, Metas const&, int) {
    return 2 * floats_bytes(in[0].shape.back());
}

void layer_norm_gradient(KernelCall const& call) {
    norm_gradient<layer>(call, call.attributes<LayerNormGradient>().residual);
}
void rms_norm_gradient(KernelCall const& call) {
    norm_gradient<rms>(call, call.attributes<RmsNormGradient>().residual);
}
std::int64_t layer_norm_gradient_workspace(AnyOp const&, Metas const& in, Metas const&, int) {
    return gradient_workspace<layer>(in);
}
std::int64_t rms_norm_gradient_workspace(AnyOp const&, Metas const& in, Metas const&, int) {
    return gradient_workspace<rms>(in);
}

}  // namespace plait::cuda
