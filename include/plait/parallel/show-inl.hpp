#pragma once

#include "plait/graph/source.hpp"
#include "plait/parallel/show.hpp"

#include <array>
#include <map>

namespace plait {
PLAIT_INLINE std::string layouts_text(Graph const& graph, Layouts const& layouts, Mesh const& mesh) {
    auto index = index_of(graph);
    std::string text;
    for (auto const& n : graph.nodes) {
        text += fmt::format("%{} = {}", index.at(n.get()), node_label(*n));
        for (int i = 0; i < static_cast<int>(n->outputs.size()); ++i) {
            Value v{n, i};
            auto made = to_string(layouts.made.at(v), mesh), held = to_string(layouts.held.at(v), mesh);
            text += fmt::format("{} {} {}", i ? "," : " :", to_string(v.meta()), made);
            if (made != held) text += " -> " + held;
        }
        text += source_of(*n) ? "\n" : fmt::format("  # {} {}\n", n->origin.path, name_of(n->origin.phase));
    }
    return text;
}

PLAIT_INLINE std::string layouts_dot(Graph const& graph, Layouts const& layouts, Mesh const& mesh) {
    constexpr std::array<std::string_view, 8> colours{"#e8e8e8", "#a6cee3", "#b2df8a", "#fdbf6f",
                                                      "#cab2d6", "#fb9a99", "#ffff99", "#99d8c9"};
    auto index = index_of(graph);
    std::map<std::string, std::size_t> seen{{"replicate", 0}};
    std::string text = "digraph layouts {\n  node [shape=box, style=filled, fontname=monospace];\n";
    for (auto const& n : graph.nodes) {
        auto made = to_string(layouts.made.at({n, 0}), mesh);
        auto colour = seen.emplace(made, seen.size()).first->second;
        text += fmt::format("  n{} [label=\"{}\\n{}\\n{}\", fillcolor=\"{}\"];\n", index.at(n.get()),
                            node_label(*n), to_string(n->outputs), made, colours[colour % colours.size()]);
        if (source_of(*n)) continue;
        for (std::size_t i = 0; i < n->inputs.size(); ++i) {
            Layout wanted;
            for (auto const& axis : layouts.nodes.at(n.get())) wanted.push_back(axis.inputs[i]);
            auto is = to_string(layouts.made.at(n->inputs[i]), mesh), becomes = to_string(wanted, mesh);
            text += fmt::format("  n{} -> n{}", index.at(n->inputs[i].node.get()), index.at(n.get()));
            text += is == becomes ? ";\n" : fmt::format(" [label=\"{}\", color=red];\n", becomes);
        }
    }
    return text + "}\n";
}

}  // namespace plait
