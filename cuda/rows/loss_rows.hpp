#pragma once

#include "cuda/launch.hpp"
#include "plait/exec/kernel.hpp"

#include <algorithm>

namespace plait::cuda {

/// The classes that a block of logits or of a weight has along `dim`: those from `limit` on, in the whole,
/// are padding, where that is not 0.
inline LossClasses classes_of(Buffer const& x, int dim, std::int64_t limit) {
    auto const count = x.meta.shape[dim];
    LossClasses c{.origin = 0, .all = count, .count = static_cast<int>(count), .counted = 0};
    if (!x.block.logical.empty()) c.origin = x.block.origin[dim], c.all = x.block.logical[dim];
    if (limit > 0) c.all = limit;
    c.counted = static_cast<int>(std::clamp<std::int64_t>(c.all - c.origin, 0, count));
    return c;
}

/// Puts a loss on a queue: the more classes count, the more threads share a row. Their number alone decides,
/// since the order of the sum hangs on it.
template <class T>
void launch_loss(Queue& queue, LossCall<T> const& call) {
    auto const n = call.classes.counted;
    if (n <= LossRows<T, 256>::longest) launch(queue, LossRows<T, 256>{call});
    else if (n <= LossRows<T, 512>::longest) launch(queue, LossRows<T, 512>{call});
    else launch(queue, LossRows<T, 1024>{call});
}

}  // namespace plait::cuda
