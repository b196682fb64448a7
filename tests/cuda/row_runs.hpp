#pragma once

#include "kernel_runs.hpp"

#include "cuda/host/machine.hpp"
#include "cuda/rows.hpp"

/// Calls of single rows of the GPU's table, over the machine on the host.
namespace tests {

struct RowCall {
    plait::AnyOp op;
    std::vector<Numbers> in;
    How how{};
};
struct RowResults {
    std::vector<std::vector<Numbers>> out;  // of each call
    std::int64_t launches = 0;
};

/// Several calls, all of one op, are made in one go.
inline RowResults run_rows(std::vector<RowCall> const& calls, gpu::Order order = gpu::Order::forward) {
    using namespace plait;
    auto machine = std::make_shared<gpu::HostMachine>(gpu::HostOptions{.order = order});
    machine->begin(7, calls.at(0).op.name());
    auto const* row = find_kernel(gpu::rows(), calls[0].op.name());
    check(row != nullptr, "no row for {}", calls[0].op.name());

    // Each buffer has its own memory, with a guard behind it.
    constexpr std::int64_t guard = 64;
    std::vector<std::pair<std::shared_ptr<std::byte[]>, std::int64_t>> memory;
    auto place = [&](Meta const& meta, std::int64_t shift, std::byte const* values) {
        auto off = bytes_of(meta.dtype, shift), size = off + meta.bytes() + guard;
        memory.emplace_back(machine->allocate(size), size);
        std::memset(memory.back().first.get(), 0xA5, static_cast<std::size_t>(size));
        auto* data = memory.back().first.get() + off;
        if (values) std::memcpy(data, values, static_cast<std::size_t>(meta.bytes()));
        return Buffer{data, meta, {}};
    };
    // Scalars and keys that calls share are one buffer, as in a step.
    std::map<std::byte const*, Buffer> scalars;
    std::vector<std::vector<Buffer>> x(calls.size()), y(calls.size());
    std::vector<KernelCall> all;
    for (std::size_t c = 0; c < calls.size(); ++c) {
        auto const& [op, in, how] = calls[c];
        Metas metas;
        for (auto const& one : in) metas.push_back(one.meta());
        auto out = op.infer(metas);
        for (std::size_t i = 0; i < in.size(); ++i) {
            bool scalar = metas[i].shape.empty() || metas[i] == Meta{i32, {2}};
            if (scalar && scalars.count(in[i].data())) x[c].push_back(scalars.at(in[i].data()));
            else x[c].push_back(place(metas[i], scalar ? 0 : how.shift, in[i].data()));
            if (scalar) scalars[in[i].data()] = x[c].back();
            if (i < how.in_blocks.size()) x[c].back().block = how.in_blocks[i];
        }
        for (std::size_t i = 0; i < out.size(); ++i) {
            bool shared = how.in_place && how.in_place->output == static_cast<int>(i);
            auto const* before = i < how.before.size() ? how.before[i].data() : nullptr;
            y[c].push_back(shared ? x[c][static_cast<std::size_t>(how.in_place->input)]
                                  : place(out[i], how.shift, before));
            if (i < how.out_blocks.size()) y[c].back().block = how.out_blocks[i];
        }
        auto bytes = row->workspace ? row->workspace(op, metas, out, 1) : 0;
        KernelCall call{.op = &op, .in = x[c], .out = y[c]};
        call.workspace = place(Meta{u8, {bytes}}, 0, nullptr).data;
        call.accumulate = how.accumulate;
        call.micro = how.micro;
        call.queue = &machine->queue(gpu::Machine::kernels);
        all.push_back(call);
    }
    if (all.size() > 1) row->run_many(all);
    else row->run(all[0]);
    machine->finish();
    for (auto const& [m, size] : memory)
        for (auto i = size - guard; i < size; ++i)
            check(m[static_cast<std::size_t>(i)] == std::byte{0xA5}, "{} wrote past the end of a buffer",
                  row->op);

    RowResults results{{}, machine->launches()};
    for (auto const& outputs : y) {
        results.out.emplace_back();
        for (auto const& b : outputs) {
            results.out.back().emplace_back(b.meta);
            std::memcpy(results.out.back().back().data(), b.data, static_cast<std::size_t>(b.meta.bytes()));
        }
    }
    return results;
}

/// One call, in both orders of blocks and threads, which must give the same bits.
inline std::vector<Numbers> run_row(plait::AnyOp const& op, std::vector<Numbers> const& in,
                                    How const& how = {}) {
    return in_both_orders([&](gpu::Order order) { return run_rows({{op, in, how}}, order).out[0]; });
}

/// The row on aligned and odd addresses, in both orders, which must agree to the bit, against the CPU's
/// kernel: to the bit too, or within rounding.
inline void check_row(plait::AnyOp const& op, std::vector<Numbers> const& in, bool exact, How how = {}) {
    plait::Metas metas;
    for (auto const& x : in) metas.push_back(x.meta());
    INFO(op.text() << " of " << plait::to_string(metas) << ", micro-batch " << how.micro);
    auto want = run_kernel(op, in, how);
    auto got = run_row(op, in, how);
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
