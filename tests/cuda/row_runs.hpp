#pragma once

#include "cuda/host/machine.hpp"
#include "cuda/rows.hpp"
#include "kernel_runs.hpp"

namespace tests {

/// What the GPU's row of an op gives on the host, called as `how` says; as run_kernel, which is the CPU's.
inline std::vector<Numbers> run_row(plait::AnyOp const& op, std::vector<Numbers> const& inputs,
                                    How const& how = {}, gpu::Order order = gpu::Order::forward) {
    using namespace plait;
    Metas in, out;
    for (auto const& x : inputs) in.push_back(x.meta());
    out = op.infer(in);
    auto const* row = [&]() -> KernelRow const* {
        for (auto const& one : cuda::rows())
            if (one.op == op.name()) return &one;
        return nullptr;
    }();
    check(row != nullptr, "no row for {}", op.name());

    // As much memory as a buffer needs, off its alignment by the shift; the allocator of the tests with
    // sanitizers knows its end.
    std::vector<Memory<std::uint8_t>> memory;
    auto place = [&](Meta const& meta, std::byte const* values) {
        memory.emplace_back(meta.bytes(), bytes_of(meta.dtype, how.shift));
        auto* data = reinterpret_cast<std::byte*>(memory.back().get());
        if (values) std::memcpy(data, values, static_cast<std::size_t>(meta.bytes()));
        return Buffer{data, meta, {}};
    };
    std::vector<Buffer> x, y;
    for (std::size_t i = 0; i < in.size(); ++i) x.push_back(place(in[i], inputs[i].data()));
    for (std::size_t i = 0; i < out.size(); ++i) {
        bool shared = how.in_place && how.in_place->output == static_cast<int>(i);
        y.push_back(shared ? x[static_cast<std::size_t>(how.in_place->input)]
                           : place(out[i], i < how.before.size() ? how.before[i].data() : nullptr));
        y.back().meta = out[i];
        if (i < how.out_blocks.size()) y.back().block = how.out_blocks[i];
    }
    Memory<std::uint64_t> workspace(row->workspace ? (row->workspace(op, in, out, 1) + 7) / 8 : 0);
    auto machine = std::make_shared<cuda::HostMachine>(cuda::HostOptions{.order = order});
    row->run({.op = &op,
              .in = x,
              .out = y,
              .workspace = reinterpret_cast<std::byte*>(workspace.get()),
              .accumulate = how.accumulate,
              .micro = how.micro,
              .queue = &machine->queue(cuda::Machine::kernels)});
    machine->finish();

    std::vector<Numbers> results;
    for (auto const& b : y) {
        results.emplace_back(b.meta);
        std::memcpy(results.back().data(), b.data, static_cast<std::size_t>(b.meta.bytes()));
    }
    return results;
}

/// The row on aligned and odd addresses, in both orders, which must agree to the bit, against the CPU's
/// kernel: to the bit too, or within rounding.
inline void check_row(plait::AnyOp const& op, std::vector<Numbers> const& in, bool exact, How how = {}) {
    plait::Metas metas;
    for (auto const& x : in) metas.push_back(x.meta());
    INFO(op.text() << " of " << plait::to_string(metas) << ", micro-batch " << how.micro);
    auto want = run_kernel(op, in, how);
    auto got = in_both_orders([&](gpu::Order order) { return run_row(op, in, how, order); });
    how.shift = 1;
    auto odd = run_row(op, in, how);
    REQUIRE(got.size() == want.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        INFO("output " << i);
        CHECK(same_bits(got[i], odd[i]));
        if (exact) CHECK(same_bits(got[i], want[i]));
    }
    if (!exact) same(got, want);
}

}  // namespace tests
