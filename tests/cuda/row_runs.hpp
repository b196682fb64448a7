#pragma once

#include "cuda/host/machine.hpp"
#include "cuda/rows.hpp"
#include "kernel_runs.hpp"

/// Calls of single rows of the CUDA backend, on the host.
namespace tests {

/// As run_kernel, but by the row of a GPU. Throws DeviceFault.
inline std::vector<Numbers> run_row(plait::AnyOp const& op, std::vector<Numbers> const& inputs,
                                    How const& how = {}, gpu::Order order = gpu::Order::forward) {
    using namespace plait;
    Metas in, out;
    for (auto const& x : inputs) in.push_back(x.meta());
    out = op.infer(in);
    KernelRow const* row = nullptr;
    for (auto const& r : gpu::rows())
        if (r.op == op.name()) row = &r;
    check(row != nullptr, "no row for {}", op.name());

    auto machine = std::make_shared<gpu::HostMachine>(gpu::HostOptions{.order = order});
    constexpr std::int64_t guard = 64;
    std::vector<std::pair<std::shared_ptr<std::byte[]>, std::int64_t>> memory;
    auto place = [&](Meta const& meta, std::byte const* values, std::int64_t shift) {
        auto off = bytes_of(meta.dtype, shift), bytes = meta.bytes(), all = off + bytes + guard;
        memory.emplace_back(machine->allocate(all), all);
        auto* data = memory.back().first.get();
        std::memset(data, 0xA5, static_cast<std::size_t>(all));
        if (values) std::memcpy(data + off, values, static_cast<std::size_t>(bytes));
        return Buffer{data + off, meta, {}};
    };
    std::vector<Buffer> x, y;
    for (std::size_t i = 0; i < in.size(); ++i) {
        x.push_back(place(in[i], inputs[i].data(), how.shift));
        if (i < how.in_blocks.size()) x.back().block = how.in_blocks[i];
    }
    for (std::size_t i = 0; i < out.size(); ++i) {
        bool shared = how.in_place && how.in_place->output == static_cast<int>(i);
        y.push_back(shared
                        ? x[static_cast<std::size_t>(how.in_place->input)]
                        : place(out[i], i < how.before.size() ? how.before[i].data() : nullptr, how.shift));
        y.back().meta = out[i];
        if (i < how.out_blocks.size()) y.back().block = how.out_blocks[i];
    }
    auto workspace = place(Meta{u8, {row->workspace ? row->workspace(op, in, out, 1) : 0}}, nullptr, 0);
    row->run({.op = &op,
              .in = x,
              .out = y,
              .workspace = workspace.data,
              .accumulate = how.accumulate,
              .micro = how.micro,
              .queue = &machine->queue(gpu::Machine::kernels)});
    machine->finish();

    for (auto const& [m, bytes] : memory)
        for (auto i = bytes - guard; i < bytes; ++i)
            check(m[static_cast<std::size_t>(i)] == std::byte{0xA5}, "{} wrote past the end of a buffer",
                  op.name());
    std::vector<Numbers> results;
    for (auto const& b : y) {
        results.emplace_back(b.meta);
        std::memcpy(results.back().data(), b.data, static_cast<std::size_t>(b.meta.bytes()));
    }
    return results;
}

/// What a row gives in both orders of blocks and threads, which must be the same bits.
inline std::vector<Numbers> row_in_both_orders(plait::AnyOp const& op, std::vector<Numbers> const& inputs,
                                               How const& how = {}) {
    return in_both_orders([&](gpu::Order order) { return run_row(op, inputs, how, order); });
}

}  // namespace tests
