#include "plait/ops/embedding.hpp"

#include "cuda/rows/operands.hpp"
#include "plait/ops/loss.hpp"

#include <algorithm>
#include <bit>

namespace plait::cuda {

namespace {

/// The part of a dim that a block of a tensor has.
struct Extent {
    std::int64_t origin = 0, size, all;

    Extent(Buffer const& x, int dim) : size(x.meta.shape[dim]), all(size) {
        if (x.block.logical.empty()) return;
        origin = x.block.origin[dim];
        all = x.block.logical[dim];
    }
};

/// The classes of a last dim that a block has: those from `all` on, in the whole, are padding.
struct Classes : Extent {
    Classes(Buffer const& x, std::int64_t limit) : Extent(x, -1) {
        if (limit > 0) all = limit;
    }
    /// Those of the block that are no padding; they come first.
    int counted() const { return static_cast<int>(std::clamp<std::int64_t>(all - origin, 0, size)); }
};

/// How an embedding's gradient divides its workspace.
struct Sorting {
    std::int64_t pairs, counts, begins;  // bytes

    Sorting(std::int64_t count, std::int64_t rows)
        : pairs(padded(count * 8)),
          counts(padded(pieces(count, TokenPairs::tile_of(count)) * RadixCount::digits * 4)),
          begins(padded((rows + 1) * 4)) {}
    std::int64_t bytes() const { return 2 * pairs + counts + begins; }
};

}  // namespace

void embedding(KernelCall const& call) {
    Buffer const &tokens = call.in[0], &table = call.in[1];
    Extent rows(table, 0);
    with_floats(call, table.meta.dtype, [&]<class T>(T) {
        launch(*call.queue, Embedding<T>{.tokens = tokens.as<std::int32_t const>(),
                                         .table = table.as<T const>(),
                                         .y = call.out[0].as<T>(),
                                         .fault = call.queue->fault(),
                                         .count = tokens.meta.elements(),
                                         .origin = rows.origin,
                                         .table_rows = rows.size,
                                         .vocab = rows.all,
                                         .dim = static_cast<int>(table.meta.shape[1])});
    });
}

void embedding_gradient(KernelCall const& call) {
    Buffer const &tokens = call.in[0], &dy = call.in[1], &y = call.out[0];
    Extent table(y, 0);
    auto count = tokens.meta.elements(), rows = table.size;
    Sorting room(count, rows);
    auto* at = call.workspace;
    std::uint64_t* pairs[] = {reinterpret_cast<std::uint64_t*>(at),
                              reinterpret_cast<std::uint64_t*>(at + room.pairs)};
    auto* counts = reinterpret_cast<std::uint32_t*>(at + 2 * room.pairs);
    auto* begins = reinterpret_cast<std::uint32_t*>(at + 2 * room.pairs + room.counts);

    constexpr int most_bits = std::bit_width(static_cast<unsigned>(RadixCount::digits)) - 1;
    auto bits = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(rows)));  // rows are 0 to `rows`
    auto passes = static_cast<int>(pieces(bits, most_bits)), digit = static_cast<int>(pieces(bits, passes));
    TokenPairs from{.tokens = tokens.as<std::int32_t const>(),
                    .pairs = nullptr,
                    .count = count,
                    .origin = table.origin,
                    .rows = rows,
                    .vocab = table.all,
                    .tile = TokenPairs::tile_of(count),
                    .shift = 0,
                    .bits = digit};
    for (int pass = 0; pass < passes; ++pass, from.shift += digit) {
        launch(*call.queue, RadixCount{from, call.queue->fault(), counts});
        launch(*call.queue, RadixScatter{from, counts, pairs[pass % 2]});
        from.pairs = pairs[pass % 2];
    }
    launch(*call.queue, RowBegins{from.pairs, begins, count, rows});
    with_floats(call, dy.meta.dtype, [&]<class T>(T) {
        launch(*call.queue, RowSums<T>{.pairs = from.pairs,
                                       .begins = begins,
                                       .dy = dy.as<T const>(),
                                       .y = y.as<float>(),
                                       .rows = rows,
                                       .dim = static_cast<int>(y.meta.shape[1]),
                                       .accumulate = (call.accumulate & 1) != 0});
    });
}
std::int64_t embedding_gradient_workspace(AnyOp const&, Metas const& in, Metas const& out, int) {
    return Sorting(in[0].elements(), out[0].shape[0]).bytes();
}

void cross_entropy(KernelCall const& call) {
    Buffer const& logits = call.in[0];
    Classes classes(logits, call.attributes<plait::CrossEntropy>().classes);
    with_floats(call, logits.meta.dtype, [&]<class T>(T) {
        launch(*call.queue, CrossEntropy<T>{.logits = logits.as<T>(),
                                            .targets = call.in[1].as<std::int32_t const>(),
                                            .dnll = nullptr,
                                            .nll = call.out[0].as<float>(),
                                            .lse = call.out[1].as<float>(),
                                            .fault = call.queue->fault(),
                                            .rows = logits.meta.shape.dims(0, -1).elements(),
                                            .columns = static_cast<int>(classes.size),
                                            .classes = classes.counted()});
    });
}

void cross_entropy_gradient(KernelCall const& call) {
    Buffer const& logits = call.in[0];
    Classes classes(logits, call.attributes<plait::CrossEntropyGradient>().classes);
    with_floats(call, logits.meta.dtype, [&]<class T>(T) {
        launch(*call.queue, CrossEntropyGradient<T>{.logits = logits.as<T const>(),
                                                    .targets = call.in[1].as<std::int32_t const>(),
                                                    .lse = call.in[2].as<float const>(),
                                                    .dnll = call.in[3].as<float const>(),
                                                    .dx = call.out[0].as<T>(),
                                                    .fault = call.queue->fault(),
                                                    .rows = logits.meta.shape.dims(0, -1).elements(),
                                                    .origin = classes.origin,
                                                    .all = classes.all,
                                                    .columns = static_cast<int>(classes.size),
                                                    .classes = classes.counted()});
    });
}

void pick(KernelCall const& call) {
    Buffer const& x = call.in[0];
    Classes classes(x, call.attributes<plait::Pick>().classes);
    with_floats(call, x.meta.dtype, [&]<class T>(T) {
        launch(*call.queue, Pick<T>{.x = x.as<T const>(),
                                    .index = call.in[1].as<std::int32_t const>(),
                                    .y = call.out[0].as<T>(),
                                    .fault = call.queue->fault(),
                                    .rows = x.meta.shape.dims(0, -1).elements(),
                                    .columns = classes.size,
                                    .origin = classes.origin,
                                    .all = classes.all});
    });
}

}  // namespace plait::cuda
