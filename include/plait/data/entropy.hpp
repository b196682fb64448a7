#pragma once

#include "plait/core/inline.hpp"

#include <cstdint>
#include <span>

namespace plait {

/// Entropy of a byte given the `order` - 1 bytes before it, in bits per byte, under the counts of `bytes`
/// itself: order 1 is H(x), 2 is H(x2|x1), 3 is H(x3|x1,x2). A model of that order cannot code these bytes in
/// fewer bits. Fewer than `order` bytes give 0. Throws UsageError for an order outside 1 to 3.
double conditional_entropy(std::span<std::uint8_t const> bytes, int order);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/data/entropy-inl.hpp"
#endif
