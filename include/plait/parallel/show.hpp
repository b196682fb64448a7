#pragma once

#include "plait/core/inline.hpp"
#include "plait/parallel/choose.hpp"

#include <string>

namespace plait {

/// One line a value of the laid out graph: "%12 = product(form=tn, terms=1) : f32[64, 64] data partial(sum)
/// -> data stored(0)  # blocks.0.attention.q backward"; what stands after the arrow is what readers find.
std::string layouts_text(Graph const& graph, Layouts const& layouts, Mesh const& mesh);

/// The same as a picture for Graphviz: a colour for each layout, and on an edge what the value becomes for
/// its reader.
std::string layouts_dot(Graph const& graph, Layouts const& layouts, Mesh const& mesh);

}  // namespace plait

#ifdef PLAIT_HEADER_ONLY
#include "plait/parallel/show-inl.hpp"
#endif
