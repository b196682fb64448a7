#pragma once

#include "cuda/rows/multiply.hpp"

#include <algorithm>
#include <span>
#include <vector>

namespace plait::cuda {

/// Calls from the first of `calls` on that differ only in where their operands lie, each operand as far from
/// one call to the next: as one product of a batch. Shared operands are 0 bytes apart.
struct LikeCalls {
    std::size_t count = 1;
    std::vector<std::int64_t> in, out;  // bytes from call to call

    explicit LikeCalls(std::span<KernelCall const> calls) {
        auto const& first = calls[0];
        if (calls.size() > 1) in = distances(first.in, calls[1].in), out = distances(first.out, calls[1].out);
        // Results one behind the other.
        for (std::size_t i = 0; i < out.size(); ++i)
            if (out[i] != first.out[i].meta.bytes()) return;
        while (count < calls.size() && follows(first, calls[count])) ++count;
    }

  private:
    static std::vector<std::int64_t> distances(std::span<Buffer const> from, std::span<Buffer const> to) {
        std::vector<std::int64_t> bytes;
        for (std::size_t i = 0; i < std::min(from.size(), to.size()); ++i)
            bytes.push_back(to[i].data - from[i].data);
        return bytes;
    }
    bool follows(KernelCall const& first, KernelCall const& next) const {
        auto lie = [&](std::span<Buffer const> from, std::span<Buffer const> to,
                       std::vector<std::int64_t> const& apart) {
            if (from.size() != to.size() || from.size() != apart.size()) return false;
            for (std::size_t i = 0; i < from.size(); ++i)
                if (from[i].meta != to[i].meta || apart[i] < 0 || apart[i] % bytes_of(to[i].meta.dtype, 1) ||
                    to[i].data != from[i].data + static_cast<std::int64_t>(count) * apart[i])
                    return false;
            return true;
        };
        return first.accumulate == next.accumulate && first.op->text() == next.op->text() &&
               lie(first.in, next.in, in) && lie(first.out, next.out, out);
    }
};

/// Puts calls on their queue: like ones as a batch of the product that `whole` makes of the first, if it
/// makes one, the others by `one`. All take the first one's workspace.
template <class Whole>
void multiply_many(std::span<KernelCall const> calls, Whole&& whole, void (*one)(KernelCall const&)) {
    auto* const workspace = calls[0].workspace;
    while (!calls.empty()) {
        LikeCalls like(calls);
        auto first = calls[0];
        first.workspace = workspace;
        if (like.count == 1 || !whole(first, like)) {
            one(first);
            like.count = 1;
        }
        calls = calls.subspan(like.count);
    }
}

/// The product of a batch of calls, from that of the first.
inline void multiply_batch(KernelCall const& call, std::byte* scratch, Multiplication p,
                           LikeCalls const& like) {
    auto elements = [](std::int64_t bytes, DType dtype) { return bytes / bytes_of(dtype, 1); };
    p.batch = static_cast<std::int64_t>(like.count);
    p.a.batch_stride = elements(like.in[0], p.a.dtype);
    p.b.batch_stride = elements(like.in[1], p.b.dtype);
    p.c.batch_stride = elements(like.out[0], p.c.dtype);
    multiply(call, scratch, p);
}

}  // namespace plait::cuda
