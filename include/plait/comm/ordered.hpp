#pragma once

#include "plait/comm/call.hpp"

#include <utility>

namespace plait {

/// out[i] = the combination of inputs[r][i] over all r, i < `count`, by one fixed binary tree over r whatever
/// the transport: the largest power of two of inputs below their number on the left, the rest on the right,
/// so ((0 + 1) + (2 + 3)) + 4; for powers of two that is the tree of canonical sums. bf16 is added in f32 and
/// rounded after every addition: a sum of which a rank made and stored the lower part has the same bits.
/// `out` may be one of the inputs. `sum` and `max` take f32, bf16, f64, i32 and i64 (a NaN wins a max),
/// `integer_sum` i32 and i64 only; throws UsageError for another dtype.
void ordered_combine(Combine how, DType dtype, std::span<std::byte const* const> inputs, std::byte* out,
                     std::int64_t count);

/// Throws UsageError for a dtype that `how` does not take.
void check_combine(Combine how, DType dtype);

/// The elements [first, last) of `count` that are the part of rank `r` of `size`: equal parts, up to one
/// element.
constexpr std::pair<std::int64_t, std::int64_t> part_of(std::int64_t count, int r, int size) {
    auto first = [&](std::int64_t k) { return count / size * k + std::min<std::int64_t>(k, count % size); };
    return {first(r), first(r + 1)};
}

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/comm/ordered-inl.hpp"
#endif
