#pragma once

#include "numbers.hpp"
#include "plait/cpu/backend.hpp"
#include "plait/cpu/thread_pool.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

/// Calls of single kernels, and a table of calls that reaches every kernel but products, attention and fused
/// losses.
namespace tests {

/// What is special about a call.
struct How {
    plait::cpu::Isa isa = plait::cpu::best_isa();
    int workers = 2;
    std::uint32_t accumulate = 0;
    std::vector<Numbers> before{};           // what the outputs hold at first
    std::optional<plait::Alias> in_place{};  // an output that takes an input's buffer
    std::int64_t shift = 0;                  // elements by which buffers start off their alignment
    int micro = 0;                           // the micro-batch
    std::vector<plait::Placement> in_blocks{}, out_blocks{};  // where the buffers lie in logical tensors
};

inline plait::KernelRow const& kernel_row(plait::AnyOp const& op, plait::cpu::Isa isa) {
    for (auto const& row : plait::cpu::kernels(isa))
        if (row.op == op.name()) return row;
    plait::fail("no kernel for {}", op.name());
}

inline std::vector<Numbers> run_kernel(plait::AnyOp const& op, std::vector<Numbers> const& inputs,
                                       How const& how = {}) {
    using namespace plait;
    Metas in, out;
    for (auto const& x : inputs) in.push_back(x.meta());
    out = op.infer(in);
    auto const& row = kernel_row(op, how.isa);

    // Each buffer has its own memory, with room for the shift and a guard behind it.
    constexpr std::size_t guard = 64;
    std::vector<Array> memory;
    auto place = [&](Meta const& meta, std::byte const* values) {
        auto off = static_cast<std::size_t>(bytes_of(meta.dtype, how.shift)),
             bytes = static_cast<std::size_t>(meta.bytes());
        memory.emplace_back(Meta{u8, {static_cast<std::int64_t>(off + bytes + guard)}});
        auto* data = memory.back().bytes().data();
        std::memset(data, 0xA5, off + bytes + guard);
        if (values) std::memcpy(data + off, values, bytes);
        return Buffer{data + off, meta, {}};
    };
    std::vector<Buffer> x, y;
    for (std::size_t i = 0; i < in.size(); ++i) {
        x.push_back(place(in[i], inputs[i].data()));
        if (i < how.in_blocks.size()) x.back().block = how.in_blocks[i];
    }
    for (std::size_t i = 0; i < out.size(); ++i) {
        bool shared = how.in_place && how.in_place->output == static_cast<int>(i);
        y.push_back(shared ? x[static_cast<std::size_t>(how.in_place->input)]
                           : place(out[i], i < how.before.size() ? how.before[i].data() : nullptr));
        y.back().meta = out[i];
        if (i < how.out_blocks.size()) y.back().block = how.out_blocks[i];
    }
    ThreadPool pool(how.workers);
    auto bytes = row.workspace ? row.workspace(op, in, out, how.workers) : 0;
    auto workspace = place(Meta{u8, {bytes}}, nullptr);
    if (how.shift) workspace.data -= how.shift;
    row.run({&op, x, y, workspace.data, how.accumulate, &pool, how.micro});

    for (auto const& m : memory)
        for (auto b : m.bytes().last(guard))
            check(b == std::byte{0xA5}, "{} wrote past the end of a buffer", op.name());
    std::vector<Numbers> results;
    for (auto const& b : y) {
        results.emplace_back(b.meta);
        std::memcpy(results.back().data(), b.data, static_cast<std::size_t>(b.meta.bytes()));
    }
    return results;
}

inline bool same_bits(Numbers const& a, Numbers const& b) {
    return a.meta() == b.meta() &&
           std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.meta().bytes())) == 0;
}

/// The largest difference over the largest magnitude (at least 1).
inline double difference(Numbers const& a, Numbers const& b) {
    double far = 0, big = 1;
    for (std::int64_t i = 0; i < a.size(); ++i) {
        far = std::max(far, std::abs(a(i) - b(i)));
        big = std::max(big, std::abs(b(i)));
        if (std::isnan(a(i)) != std::isnan(b(i))) return 1e30;
    }
    return far / big;
}

struct Case {
    plait::AnyOp op;
    std::vector<Numbers> in;
};

inline Numbers integers(plait::Shape shape, std::int64_t least, std::int64_t count,
                        plait::DType type = plait::i32) {
    Numbers x({type, shape});
    for (std::int64_t i = 0; i < x.size(); ++i)
        x.set(i, static_cast<double>(least + plait::Random{7}.word(static_cast<std::uint64_t>(i)) % count));
    return x;
}
inline Numbers positive(Numbers x) {
    for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, 0.1 + std::abs(x(i)));
    return x;
}

/// Calls with data of dtype `t`, odd sizes, more than one tile where that matters.
std::vector<Case> kernel_cases(plait::DType t);

}  // namespace tests
