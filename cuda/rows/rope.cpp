#include "plait/ops/attention.hpp"

#include "cuda/rows/operands.hpp"

#include <cmath>

namespace plait::cuda {

namespace {

void angles(KernelCall const& call, std::int32_t const* positions, std::int64_t rows, std::int64_t dim,
            double base) {
    auto half = static_cast<int>(dim / 2);
    RopeAngles kernel{};
    kernel.positions = positions;
    kernel.table = call.out[0].as<float>();
    kernel.rows = rows;
    kernel.half = half;
    for (kernel.first = 0; kernel.first < half; kernel.first += RopeAngles::most) {
        kernel.count = smaller(RopeAngles::most, half - kernel.first);
        for (int i = 0; i < kernel.count; ++i)
            kernel.frequency[i] =
                std::pow(base, -2.0 * static_cast<double>(kernel.first + i) / static_cast<double>(dim));
        launch(*call.queue, kernel);
    }
}

}  // namespace

void rope_table(KernelCall const& call) {
    auto const& op = call.attributes<RopeTable>();
    angles(call, nullptr, op.length, op.dim, op.base);
}
void rope_at(KernelCall const& call) {
    auto const& op = call.attributes<RopeAt>();
    angles(call, call.in[0].as<std::int32_t const>(), call.in[0].meta.elements(), op.dim, op.base);
}

void rope(KernelCall const& call) {
    Buffer const &x = call.in[0], &table = call.in[1], &y = call.out[0];
    auto heads = x.meta.shape[-2], dim = x.meta.shape[-1];
    with_floats(call, x.meta.dtype, [&]<class T>(T) {
        launch(*call.queue, Rope<T>{.x = x.as<T const>(),
                                    .table = table.as<float const>(),
                                    .y = y.as<T>(),
                                    .tokens = x.meta.shape.dims(0, -2).elements(),
                                    // Of the sequence, shared by the batch, or of every token.
                                    .table_rows = table.meta.shape.dims(0, -2).elements(),
                                    .x_stride = heads * dim,
                                    .y_stride = heads * dim,
                                    .heads = static_cast<int>(heads),
                                    .dim = static_cast<int>(dim),
                                    .inverse = call.attributes<plait::Rope>().inverse});
    });
}

}  // namespace plait::cuda
