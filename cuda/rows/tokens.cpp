#include "plait/ops/embedding.hpp"

#include "cuda/rows/loss_rows.hpp"
#include "cuda/rows/operands.hpp"
#include "plait/ops/loss.hpp"

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
    auto const classes = classes_of(logits, -1, call.attributes<CrossEntropy>().classes);
    with_floats(call, logits.meta.dtype, [&]<class T>(T) {
        launch_loss<T>(*call.queue, {.logits = logits.as<T const>(),
                                     .dlogits = nullptr,
                                     .targets = call.in[1].as<std::int32_t const>(),
                                     .dnll = nullptr,
                                     .lse_in = nullptr,
                                     .nll = call.out[0].as<float>(),
                                     .lse = call.out[1].as<float>(),
                                     .fault = call.queue->fault(),
                                     .rows = logits.meta.shape.dims(0, -1).elements(),
                                     .first = 0,
                                     .stride = classes.count,
                                     .columns = classes.count,
                                     .classes = classes});
    });
}

void cross_entropy_gradient(KernelCall const& call) {
    Buffer const& logits = call.in[0];
    auto const classes = classes_of(logits, -1, call.attributes<CrossEntropyGradient>().classes);
    with_floats(call, logits.meta.dtype, [&]<class T>(T) {
        launch_loss<T>(*call.queue, {.logits = logits.as<T const>(),
                                     .dlogits = call.out[0].as<T>(),
                                     .targets = call.in[1].as<std::int32_t const>(),
                                     .dnll = call.in[3].as<float const>(),
                                     .lse_in = call.in[2].as<float const>(),
                                     .nll = nullptr,
                                     .lse = nullptr,
                                     .fault = call.queue->fault(),
                                     .rows = logits.meta.shape.dims(0, -1).elements(),
                                     .first = 0,
                                     .stride = classes.count,
                                     .columns = classes.count,
                                     .classes = classes});
    });
}

void pick(KernelCall const& call) {
    Buffer const& x = call.in[0];
    auto const classes = classes_of(x, -1, call.attributes<plait::Pick>().classes);
    with_floats(call, x.meta.dtype, [&]<class T>(T) {
        launch(*call.queue, Pick<T>{.x = x.as<T const>(),
                                    .index = call.in[1].as<std::int32_t const>(),
                                    .y = call.out[0].as<T>(),
                                    .fault = call.queue->fault(),
                                    .rows = x.meta.shape.dims(0, -1).elements(),
                                    .columns = classes.count,
                                    .origin = classes.origin,
                                    .all = classes.all});
    });
}

}  // namespace plait::cuda
