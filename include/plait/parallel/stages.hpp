#pragma once

#include "plait/core/inline.hpp"
#include "plait/graph/sections.hpp"
#include "plait/parallel/schedule.hpp"

#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace plait {

/// The modules of every stage of a pipeline: what lies before the first of them in the program runs with the
/// first stage, what lies after the last of them with the last.
struct StageModules {
    int stages = 1;
    std::vector<std::pair<std::string, int>> modules;  // path ("blocks.3") and stage, in program order

    /// The stage of the module that holds `path`, or -1.
    int of(std::string_view path) const;
    std::string text() const;
};

/// Divides the modules that `globs` name into `stages` stages. One glob: runs of modules in the order of the
/// recorded program, so that the largest stage costs the least. Several: the modules of stage i match glob i.
/// Throws UsageError for fewer modules than stages, and for a stage without modules.
StageModules find_stages(Graph const& recorded, std::vector<std::string> const& globs, int stages);

/// Where the nodes of the loop run that a pipeline divides.
struct StageCut {
    int section = -1;  // of the loop
    struct At {
        int stage = 0;
        Work work = Work::F;
    };
    /// The loop's nodes; those that no variable goes into are not here: they run wherever they are read.
    std::unordered_map<Node const*, At> at;
    bool backward = false;  // whether there is any
};

/// A node's stage is its module's; outside of these a forward node goes with what it reads, or else with its
/// first reader, and a backward node with the forward nodes that read its weights, or are in its module, or
/// else, where those are on several stages, with the cotangents that come to it. B is what the cotangents
/// that leave the stage are made from, and on the first stage the one that leaves its modules; W the rest of
/// backward. Throws UsageError where a stage would read from a later one.
StageCut cut_stages(Sections const& sections, StageModules const& modules);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/stages-inl.hpp"
#endif
