#pragma once

#include "plait/graph/graph.hpp"

#include <unordered_map>
#include <vector>

namespace plait {

/// A graph cut into sections that run in order: even ones once, odd ones for each micro-batch. Values cross
/// into a loop by MicroTake and out of it by MicroSum and MicroStack (graph/micro.hpp), whose outputs belong
/// to the loop's section and are read after it. Shapes are those of the blocks.
struct Sections {
    Graph graph;
    std::int64_t micro_batches = 1;
    std::unordered_map<Node const*, int> section;  // of every node but sources
    ValueMap<int> micro_dim;  // the dim that a block is cut along, for values that are blocks
    int count = 1;            // number of sections
};

}  // namespace plait
