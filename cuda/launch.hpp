#pragma once

#include "cuda/queue.hpp"
#include "cuda/table.cuh"

namespace plait::cuda {

/// Puts a kernel of the table on a queue.
template <Kernel K>
void launch(Queue& queue, K const& kernel) {
    static_assert(Table::contains<K>, "a kernel that is launched has a line in table.cuh");
    if (auto blocks = kernel.blocks(); blocks > 0)
        queue.launch(Table::index_of<K>, &kernel, sizeof kernel, blocks);
}

}  // namespace plait::cuda
