#pragma once

#include "plait/graph/graph.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace plait {

/// A rank's share of a graph: blocks for whole values, collectives between them.
struct LocalGraph {
    Graph graph;
    ValueMap<Placement> place;  // of values that are blocks
    /// Nodes that are made again in every section that reads them: gathers of values that are stored divided.
    std::unordered_set<Node const*> repeated;
    /// Nodes that work on addends of the sum over micro-batches: reductions inside the loop.
    std::unordered_set<Node const*> inside;
};

/// A rank's share of a pipeline: the nodes of one section, the loop, are cut into pieces that are visited in
/// the order of a schedule. Stages' forward and the two parts of their backward are pieces, and so is the
/// start of each message that comes in and the wait for each that goes out.
struct Pipelined {
    int section = 0;
    std::vector<std::string> names;              // of the pieces: "stage 0 F"
    std::unordered_map<Node const*, int> piece;  // of every node of the section
    struct Visit {
        int piece = 0, micro = 0;
    };
    std::vector<Visit> visits;
};

/// A graph cut into sections that run in order: even ones once, odd ones for each micro-batch. Values cross
/// into a loop by MicroTake and out of it by MicroSum and MicroStack (graph/micro.hpp), whose outputs belong
/// to the loop's section and are read after it. Shapes are those of the blocks.
struct Sections {
    Graph graph;
    std::int64_t micro_batches = 1;
    std::unordered_map<Node const*, int> section;  // of every node but sources
    /// The dim along which a block moves from one micro-batch to the next, and by how many elements of it.
    struct Micro {
        int dim = 0;
        std::int64_t step = 0;
    };
    ValueMap<Micro> micro;      // of values that are blocks of a micro-batch
    ValueMap<Placement> place;  // of blocks of a mesh, and of leaves
    int count = 1;              // number of sections
    std::optional<Pipelined> pipeline;
};

}  // namespace plait
