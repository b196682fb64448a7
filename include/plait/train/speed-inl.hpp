#pragma once

#include "plait/ops/matmul.hpp"
#include "plait/train/speed.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

namespace plait {

PLAIT_INLINE double program_flops(Program const& program) {
    std::vector<double> of_piece;
    for (auto const& piece : program.pieces) {
        double sum = 0;
        for (int i = piece.first; i < piece.last; ++i) {
            auto const& instruction = program.instructions[static_cast<std::size_t>(i)];
            if (!instruction.row || instruction.origin.recomputed) continue;
            Metas in;
            for (auto const& operand : instruction.in) in.push_back(operand.meta);
            sum += instruction.op.cost(in).flops;
        }
        of_piece.push_back(sum);
    }
    double flops = 0;
    for (auto const& visit : program.visits) flops += of_piece[static_cast<std::size_t>(visit.piece)];
    return flops;
}

namespace detail {

/// Numbers in [-1, 1), all different: a device draws less power, and so runs faster, where all are alike.
inline std::vector<std::byte> ordinary_numbers(DType dtype, std::int64_t bytes) {
    std::vector<std::byte> numbers(static_cast<std::size_t>(bytes));
    std::uint64_t x = 1;
    auto fill = [&](auto one) {
        for (std::size_t at = 0; at + sizeof one <= numbers.size(); at += sizeof one) {
            x = x * 6364136223846793005u + 1442695040888963407u;
            one = decltype(one)(static_cast<float>(static_cast<std::int64_t>(x)) * 0x1p-63f);
            std::memcpy(numbers.data() + at, &one, sizeof one);
        }
    };
    if (dtype == f64) fill(double{});
    else if (dtype == f32) fill(float{});
    else fill(Bf16{});
    return numbers;
}

}  // namespace detail

PLAIT_INLINE double matmul_rate(Backend& backend, DType dtype, double seconds) {
    AnyOp const op(Product{ProductForm::nt, 1});
    auto const* row = find_kernel(backend.kernels(), op.name());
    check(row != nullptr, "the backend {} has no kernel for {}", backend.name(), op.name());
    using Clock = std::chrono::steady_clock;
    // Operands that grow until a call takes long enough for the clock, and for all of the device to be busy.
    for (std::int64_t n = 768;; n *= 2) {
        Metas const in{{dtype, {n, n}}, {dtype, {n, n}}}, out = op.infer(in);
        auto const bytes = in[0].bytes();
        auto const workspace = row->workspace ? row->workspace(op, in, out, backend.workers()) : 0;
        auto const memory = backend.allocate(3 * std::max(bytes, out[0].bytes()) + workspace);
        backend.write(memory.get(), detail::ordinary_numbers(dtype, 2 * bytes));
        Buffer const operands[] = {{memory.get(), in[0], {}}, {memory.get() + bytes, in[1], {}}};
        Buffer const result[] = {{memory.get() + 2 * bytes, out[0], {}}};
        KernelCall call{
            .op = &op, .in = operands, .out = result, .workspace = memory.get() + 2 * bytes + out[0].bytes()};
        backend.finish();
        auto const start = Clock::now();
        auto since = [](Clock::time_point t) {
            return std::chrono::duration<double>(Clock::now() - t).count();
        };
        double fastest = 0;
        for (int calls = 0; calls < 2 || since(start) < seconds; ++calls) {
            auto const begin = Clock::now();
            backend.call(*row, call);
            backend.finish();
            auto const took = since(begin);
            fastest = calls == 0 ? took : std::min(fastest, took);
        }
        if (fastest > 1e-3 || n >= 12288) return op.cost(in).flops / fastest;
    }
}

}  // namespace plait
