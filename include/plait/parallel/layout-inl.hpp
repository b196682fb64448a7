#pragma once

#include "plait/parallel/layout.hpp"

namespace plait {
PLAIT_INLINE std::string to_string(AxisLayout const& layout) {
    if (layout.is_shard()) return fmt::format("{}({})", layout.stored ? "stored" : "shard", layout.dim);
    return layout.is_partial() ? fmt::format("partial({})", name_of(layout.how)) : "replicate";
}

PLAIT_INLINE std::string to_string(Layout const& layout, Mesh const& mesh) {
    std::string text;
    for (std::size_t a = 0; a < layout.size(); ++a)
        if (layout[a].is_shard() || layout[a].is_partial())
            text +=
                fmt::format("{}{} {}", text.empty() ? "" : ", ", mesh.axes()[a].name, to_string(layout[a]));
    return text.empty() ? "replicate" : text;
}

PLAIT_INLINE std::vector<int> nesting(Mesh const& mesh) {
    std::vector<int> order;
    for (std::string_view name : {"tensor", "replica", "data", "pipeline"})
        order.push_back(static_cast<int>(&mesh.axis(name) - mesh.axes().data()));
    return order;
}

PLAIT_INLINE std::pair<Shape, Placement> block_of(Shape const& logical, Layout const& layout,
                                                  Mesh const& mesh) {
    Shape shape = logical;
    Placement place{Shape(), logical};
    for (int d = 0; d < logical.rank(); ++d) place.origin.push_back(0);
    bool cut = false;
    for (int a : nesting(mesh)) {
        auto const& axis = mesh.axes()[static_cast<std::size_t>(a)];
        auto const& l = layout[static_cast<std::size_t>(a)];
        if (!l.is_shard() || axis.size == 1) continue;
        shape[l.dim] /= axis.size;
        place.origin[l.dim] += axis.coordinate * shape[l.dim];
        cut = true;
    }
    return {shape, cut ? place : Placement{}};
}

}  // namespace plait
