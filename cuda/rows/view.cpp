#include "plait/ops/view.hpp"

#include "cuda/rows/operands.hpp"
#include "plait/ops/update.hpp"

namespace plait::cuda {
namespace {

template <int bytes>
void launch_copy(Queue& queue, std::byte* to, std::byte const* from, Strides<2> const& walk) {
    std::int64_t n = 1;
    for (int d = 0; d < walk.rank; ++d) n *= walk.size[d];
    launch(queue, CopyMap<bytes>{from, to, walk, n});
}

/// The widest access, up to 16 bytes, that addresses and sizes, or'ed together, are multiples of.
std::int64_t widest(std::uintptr_t all) {
    std::uintptr_t unit = 16;
    while (all % unit) unit /= 2;
    return static_cast<std::int64_t>(unit);
}

/// Bytes of one step along `dim`.
std::int64_t step_bytes(Meta const& m, int dim) {
    return bytes_of(m.dtype, elements(m.shape, dim + 1, m.shape.rank()));
}

/// Copies `rows` rows of `bytes` bytes from one stride to another; from nowhere means zeros.
void copy_rows(KernelCall const& call, std::byte* to, std::int64_t to_stride, std::byte const* from,
               std::int64_t from_stride, std::int64_t rows, std::int64_t bytes) {
    Strides<2> walk{};
    add_dim<2>(walk, rows, {from ? from_stride : 0, to_stride});
    add_dim<2>(walk, bytes, {from ? 1 : 0, 1});
    copy_by(*call.queue, to, from, walk, 1);
}

}  // namespace

void copy_by(Queue& queue, std::byte* to, std::byte const* from, Strides<2> walk, std::int64_t bytes) {
    int last = walk.rank - 1;
    for (int d = 0; d <= last; ++d)
        if (walk.size[d] == 0) return;
    std::int64_t unit = bytes;
    if (last < 0 || (walk.stride[1][last] == bytes && (!from || walk.stride[0][last] == bytes))) {
        std::int64_t run = last < 0 ? bytes : walk.size[last] * bytes;
        if (last <= 0) {
            if (!from) queue.fill(to, 0, run);
            else if (from != to) queue.copy(to, from, run);
            return;
        }
        auto all = reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from) |
                   static_cast<std::uintptr_t>(run);
        for (int d = 0; d < last; ++d)
            all |= static_cast<std::uintptr_t>(walk.stride[0][d] | walk.stride[1][d]);
        unit = widest(all);
        walk.size[last] = run / unit;
        walk.stride[0][last] = walk.stride[1][last] = unit;
    }
    switch (unit) {
        case 1:
            return launch_copy<1>(queue, to, from, walk);
        case 2:
            return launch_copy<2>(queue, to, from, walk);
        case 4:
            return launch_copy<4>(queue, to, from, walk);
        case 8:
            return launch_copy<8>(queue, to, from, walk);
        default:
            return launch_copy<16>(queue, to, from, walk);
    }
}

void copy_block(KernelCall const& call, Buffer const& whole, Buffer const& block, int dim, std::int64_t start,
                bool out) {
    std::int64_t step = step_bytes(block.meta, dim), own = block.meta.shape[dim] * step;
    std::int64_t row = whole.meta.shape[dim] * step, rows = elements(block.meta.shape, 0, dim);
    std::byte* place = whole.data + start * step;
    if (out) copy_rows(call, place, row, block.data, own, rows, own);
    else copy_rows(call, block.data, own, place, row, rows, own);
}

void reshape(KernelCall const& call) {
    Buffer const &x = call.in[0], &y = call.out[0];
    if (x.data != y.data) call.queue->copy(y.data, x.data, y.meta.bytes());
}

void slice(KernelCall const& call) {
    auto const& op = call.attributes<Slice>();
    copy_block(call, call.in[0], call.out[0], op.dim, op.start, false);
}

void pad(KernelCall const& call) {
    auto const& op = call.attributes<Pad>();
    Buffer const &x = call.in[0], &y = call.out[0];
    std::int64_t step = step_bytes(x.meta, op.dim), size = x.meta.shape[op.dim];
    std::int64_t rows = elements(x.meta.shape, 0, op.dim), row = (op.before + size + op.after) * step;
    copy_block(call, y, x, op.dim, op.before, true);
    copy_rows(call, y.data, row, nullptr, 0, rows, op.before * step);
    copy_rows(call, y.data + (op.before + size) * step, row, nullptr, 0, rows, op.after * step);
}

void put_side_by_side(KernelCall const& call, int dim) {
    std::int64_t start = 0;
    for (Buffer const& x : call.in) {
        copy_block(call, call.out[0], x, dim, start, true);
        start += x.meta.shape[dim];
    }
}
void concat(KernelCall const& call) { put_side_by_side(call, call.attributes<Concat>().dim); }

void transpose(KernelCall const& call) {
    auto const& order = call.attributes<Transpose>().order;
    Buffer const &x = call.in[0], &y = call.out[0];
    std::int64_t bytes = bytes_of(y.meta.dtype, 1);

    // Output dims with their strides on both sides; neighbours that are neighbours in the input too are one
    // dim.
    Strides<2> walk{};
    for (int d = 0; d < y.meta.shape.rank(); ++d)
        add_dim<2>(walk, y.meta.shape[d],
                   {elements(x.meta.shape, order[static_cast<std::size_t>(d)] + 1, x.meta.shape.rank()),
                    elements(y.meta.shape, d + 1, y.meta.shape.rank())});
    int last = walk.rank - 1, inner = last;
    for (int d = 0; d <= last; ++d)
        if (walk.stride[0][d] == 1) inner = d;
    if (inner == last) {  // the last dim stays where it is
        for (auto& strides : walk.stride)
            for (auto& stride : strides) stride *= bytes;
        return copy_by(*call.queue, y.data, x.data, walk, bytes);
    }
    // A plane spans the last output dim and the one that is last in the input.
    auto run = [&](auto kernel) {
        kernel.from = x.data;
        kernel.to = y.data;
        kernel.rows = walk.size[last];
        kernel.columns = walk.size[inner];
        kernel.from_stride = walk.stride[0][last];
        kernel.to_stride = walk.stride[1][inner];
        kernel.planes = 1;
        for (int d = 0; d < last; ++d) {
            if (d == inner) continue;
            add_dim<2>(kernel.outer, walk.size[d], {walk.stride[0][d], walk.stride[1][d]});
            kernel.planes *= walk.size[d];
        }
        launch(*call.queue, kernel);
    };
    switch (bytes) {
        case 1:
            return run(TransposeMap<1>{});
        case 2:
            return run(TransposeMap<2>{});
        case 4:
            return run(TransposeMap<4>{});
        default:
            return run(TransposeMap<8>{});
    }
}

void commit(KernelCall const& call) {
    Buffer const& y = call.out[0];
    launch(*call.queue, CopyChosen{.flag = call.in[2].as<std::uint8_t const>(),
                                   .chosen = call.in[1].data,
                                   .other = call.in[0].data,
                                   .to = y.data,
                                   .bytes = y.meta.bytes()});
}

}  // namespace plait::cuda
